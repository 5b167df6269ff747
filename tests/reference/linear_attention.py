"""Linear attention as matrices of weights, in float64."""

import numpy as np


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def taylor(q, k):
    s = dot(q, k)
    return 1 + s + s**2 / 2


def cosine(q, k):
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    return 1 + dot(q, k)


MAPS = {'elu': lambda x: elu(x) + 1, 'exp': np.exp}
PRODUCTS = {'cosine': cosine, 'taylor': taylor}


def dot(q, k):
    """(b, m, h, d), (b, n, h, d) -> (b, h, m, n)."""
    return np.einsum('bmhd,bnhd->bhmn', q, k)


def rotate(x, start=0):
    """RoPE of (b, n, h, d), neighbouring channels a pair."""
    d = x.shape[-1]
    angles = (np.arange(x.shape[1]) + start)[:, None] * 10000.0 ** (
        -np.arange(0, d, 2) / d
    )
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[None, :, None]
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def seen(m, n, padding, causal):
    """(b or 1, 1, m, n) of ones and zeros."""
    where = np.tri(m, n) if causal else np.ones((m, n))
    return where[None, None] * (1 if padding is None else padding[:, None, None])


def attend(name, q, k, v, padding=None, causal=False, rotated=False):
    """Linear attention with a named feature map; q and k scaled already."""
    where = seen(q.shape[1], k.shape[1], padding, causal)
    if name in PRODUCTS:
        above = below = PRODUCTS[name](q, k) * where
    else:
        q, k = MAPS[name](q), MAPS[name](k)
        above = below = dot(q, k) * where
        if rotated:
            above = dot(rotate(q), rotate(k)) * where
    weights = above / below.sum(-1, keepdims=True)
    return np.einsum('bhmn,bnhd->bmhd', weights, v)


def efficient(q, k, v, padding=None, causal=False, rotated=False):
    """softmax(q) softmax(k)ᵀ v, the keys' softmax up to each query where causal."""
    where = seen(q.shape[1], k.shape[1], padding, causal)
    share = np.exp(q) / np.exp(q).sum(-1, keepdims=True)
    norm = np.einsum(
        'bhmn,bnhd->bmhd',
        np.broadcast_to(where, (len(q), q.shape[2], q.shape[1], k.shape[1])),
        np.exp(k),
    )
    q, k = share / norm, np.exp(k)
    if rotated and causal:
        q, k = rotate(q), rotate(k)
    elif rotated:
        q, k = rotate(share), rotate(k / norm[:, :1])
    return np.einsum('bhmn,bnhd->bmhd', dot(q, k) * where, v)


def norm_attention(act, q, k, v, padding=None, causal=False, rotated=False):
    """RMS over all heads of unnormalised linear attention, ε = 1e-6."""
    q, k = act(q), act(k)
    if rotated:
        q, k = rotate(q), rotate(k)
    scores = dot(q, k) * seen(q.shape[1], k.shape[1], padding, causal)
    mixed = np.einsum('bhmn,bnhd->bmhd', scores, v)
    return mixed / np.sqrt((mixed**2).mean((-2, -1), keepdims=True) + 1e-6)


def softmax(q, k, v):
    """softmax(q kᵀ) v."""
    weights = np.exp(dot(q, k))
    return np.einsum('bhmn,bnhd->bmhd', weights / weights.sum(-1, keepdims=True), v)


def slope(f, arrays, directions, h=1e-5):
    """The derivative of Σ f(*arrays) along the directions."""
    up = [a + h * d for a, d in zip(arrays, directions, strict=True)]
    down = [a - h * d for a, d in zip(arrays, directions, strict=True)]
    return (f(*up) - f(*down)).sum() / (2 * h)
