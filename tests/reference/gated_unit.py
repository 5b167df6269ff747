"""The gated attention unit as loops, step by step from its formulas."""

import numpy as np


def swish(x):
    """x σ(x)."""
    return x / (1 + np.exp(-x))


def rotated(x, position):
    """One vector, each pair of its channels turned by position / 10000^(2i/d)."""
    out = np.zeros_like(x)
    for i in range(0, len(x), 2):
        angle = position / 10000 ** (i / len(x))
        out[i] = x[i] * np.cos(angle) - x[i + 1] * np.sin(angle)
        out[i + 1] = x[i + 1] * np.cos(angle) + x[i] * np.sin(angle)
    return out


def squared_relu(scores):
    """The weights of the keys that are seen."""
    return np.maximum(scores, 0) ** 2 / max(len(scores), 1)


def softmax_plus(scores):
    """The same by the entropy-invariant softmax."""
    powers = np.exp(scores * np.log(max(len(scores), 16)) / np.log(512))
    return powers / powers.sum()


def softmax(scores):
    """The same by the softmax."""
    return np.exp(scores) / np.exp(scores).sum()


NORMALIZERS = {
    'softmax': softmax,
    'softmax_plus': softmax_plus,
    'squared_relu': squared_relu,
}


def attend(u, q, k, v, normalization, seen, rotary=False):
    """u ⊙ A v for one text: u (m, units), q (m, d), k (n, d), v (n, units)."""
    if rotary:
        q, k = ([rotated(row, n) for n, row in enumerate(rows)] for rows in (q, k))
    out = np.zeros(u.shape)
    for m in range(len(q)):
        keys = [n for n in range(len(k)) if seen[m, n]]
        scores = [q[m] @ k[n] / np.sqrt(len(q[m])) for n in keys]
        shares = NORMALIZERS[normalization](np.array(scores))
        for share, n in zip(shares, keys, strict=True):
            out[m] += share * v[n]
    return u * out


def gated_unit(weights, units, x, seen, normalization, rotary=False, act=swish):
    """One text through the unit.

    Args:
        weights: a dict by the layer's paths, 'i_dense/kernel' and so on; biases and
            betas may be absent.
        x: (n, e).
        seen: (n, n) true where query m may see key n.
    """
    weights = {name: value.astype('float64') for name, value in weights.items()}
    x = act(x @ weights['i_dense/kernel'] + weights.get('i_dense/bias', 0))
    u, v, z = x[:, :units], x[:, units : 2 * units], x[:, 2 * units :]
    q, k = (
        z * weights[f'{s}_scaleoffset/gamma'] + weights.get(f'{s}_scaleoffset/beta', 0)
        for s in 'qk'
    )
    mixed = attend(u, q, k, v, normalization, seen, rotary)
    return mixed @ weights['o_dense/kernel'] + weights.get('o_dense/bias', 0)
