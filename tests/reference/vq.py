"""Transformer-VQ as loops over queries and keys."""

import numpy as np


def nearest(k, codes):
    """The nearest of codes (h, s, d) to each key (b, n, h, d), by all distances."""
    gaps = k[:, :, :, None] - codes[None, None]
    return np.square(gaps).sum(-1).argmin(-1)


def quantised(k, codes):
    """Each key's nearest code (b, n, h, d)."""
    h = codes.shape[0]
    return codes[np.arange(h), nearest(k, codes)]


def rotated(x, position, base=10000):
    """One vector whose neighbouring channels are turned as RoPE turns them."""
    angles = position * base ** (-np.arange(0, x.shape[-1], 2) / x.shape[-1])
    turned = (x[0::2] + 1j * x[1::2]) * np.exp(1j * angles)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def vq_attention(
    q, k_hat, v, block, causal, real=None, bias=None, rotary=False, far=None
):
    """softmax(q K̂ᵀ + B) v, key by key, in float64.

    Args:
        bias: (h, 2 block), added where a key is of a near block.
        rotary: distances as RoPE knows them in near blocks, `block` steps beyond.
        far: keys and values of blocks that are not near, where they are others.
    """
    q, k_hat, v = (x.astype('float64') for x in (q, k_hat, v))
    far = far or (k_hat, v)
    out = np.zeros((*q.shape[:3], v.shape[-1]))
    for b, i, h in np.ndindex(q.shape[:3]):
        logits, values = [], []
        for j in range(k_hat.shape[1]):
            if (causal and j > i) or (real is not None and not real[b, j]):
                continue
            apart = i // block - j // block
            near = abs(apart) <= 1
            steps = i - j if near else block * np.sign(apart)
            query = rotated(q[b, i, h], steps) if rotary else q[b, i, h]
            keys, them = (k_hat, v) if near else far
            score = query @ keys[b, j, h]
            if near and bias is not None:
                score += bias[h, abs(i - j)]
            logits.append(score)
            values.append(them[b, j, h])
        if values:
            weights = np.exp(logits - np.max(logits))
            out[b, i, h] = weights / weights.sum() @ np.array(values)
    return out


def moving_codebook(k, real, sums, counts, gamma):
    """Sums and counts after one training step, key by key."""
    codes = sums / np.maximum(counts, 0.01)[..., None]
    z = nearest(k, codes)
    new_sums, new_counts = gamma * sums, gamma * counts
    for b, i, h in np.ndindex(k.shape[:3]):
        if real[b, i]:
            new_sums[h, z[b, i, h]] += (1 - gamma) * k[b, i, h]
            new_counts[h, z[b, i, h]] += 1 - gamma
    return new_sums, new_counts
