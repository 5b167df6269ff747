"""Sparse attention as dense attention under a boolean mask, which it must equal."""

import numpy as np


def local(n, window, causal=False, sinks=0):
    """|i - j| ≤ window, or j < sinks."""
    return _square(n, causal, lambda i, j: (abs(i - j) <= window) | (j < sinks))


def atrous(n, rate, causal=False):
    """(i - j) mod rate = 0."""
    return _square(n, causal, lambda i, j: (i - j) % rate == 0)


def sparse(n, rate, window, causal=False):
    """Either of the two."""
    return local(n, window, causal) | atrous(n, rate, causal)


def fixed(n, stride, c, causal=False):
    """The own block, or the last c columns of any."""
    return _square(
        n,
        causal,
        lambda i, j: (i // stride == j // stride) | (j % stride >= stride - c),
    )


def diag(n, block, causal=False):
    """The own block."""
    return _square(n, causal, lambda i, j: i // block == j // block)


def _square(n, causal, sees):
    i, j = np.indices((n, n))
    return sees(i, j) & (j <= i) if causal else sees(i, j)


def attend(q, k, v, seen, padding=None):
    """(b, n, h, d) three times and (n, n) -> (b, n, h, d) by one softmax a row."""
    scores = np.einsum('bmhd,bnhd->bhmn', q.astype('float64'), k.astype('float64'))
    weights = np.exp(scores) * seen
    if padding is not None:
        weights = weights * padding[:, None, None, :]
    weights = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    return np.einsum('bhmn,bnhd->bmhd', weights, v)


def attend_gradients(q, k, v, seen, out, padding=None):
    """Gradients of Σ out · attend(q, k, v), by the softmax's Jacobian."""
    q, k, v, out = (x.astype('float64') for x in (q, k, v, out))
    weights = np.exp(np.einsum('bmhd,bnhd->bhmn', q, k)) * seen
    if padding is not None:
        weights = weights * padding[:, None, None, :]
    weights = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    slope = np.einsum('bmhd,bnhd->bhmn', out, v)
    slope = weights * (slope - (weights * slope).sum(-1, keepdims=True))
    return (
        np.einsum('bhmn,bnhd->bmhd', slope, k),
        np.einsum('bhmn,bmhd->bnhd', slope, q),
        np.einsum('bhmn,bmhd->bnhd', weights, out),
    )


def rectified(q, k, v, seen, padding=None, epsilon=1e-6):
    """norm(relu(q kᵀ) v) over all heads, step by step."""
    b, n = q.shape[:2]
    found = np.zeros(v.shape)
    for i, m, h in np.ndindex(b, n, q.shape[2]):
        for j in range(n):
            if seen[m, j] and (padding is None or padding[i, j]):
                found[i, m, h] += max(q[i, m, h] @ k[i, j, h], 0) * v[i, j, h]
    square = (found**2).mean(axis=(2, 3), keepdims=True)
    return found / np.sqrt(square + epsilon)
