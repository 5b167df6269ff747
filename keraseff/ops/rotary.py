"""Sinusoidal positions, and the rotation they define (RoPE)."""

import numpy as np
from keras import ops


def plain_frequencies(dim, base=10000):
    """θ_i = base^(-2i/dim) for each of the ⌈dim/2⌉ pairs of channels, in numpy."""
    return float(base) ** (-np.arange(0, dim, 2) / dim)


def sinusoids(pos, frequencies, scale=1.0):
    """[sin pos θ_0, cos pos θ_0, sin pos θ_1, …] × scale for the frequencies θ given.

    Args:
        pos: positions of any shape; fractions are allowed.
        frequencies: (r,), radians per step.
        scale: a number for all of them (YaRN's attention factor).

    (…) -> (…, 2r), in float32 whatever the policy.
    """
    frequencies = ops.cast(ops.convert_to_tensor(frequencies), 'float32')
    angles = ops.expand_dims(ops.cast(pos, 'float32'), -1) * frequencies
    pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    if scale != 1:
        pairs = pairs * scale
    return ops.reshape(pairs, ops.shape(pairs)[:-2] + (2 * frequencies.shape[0],))


def sinusoidal_embeddings(pos, dim, base=10000):
    """[sin pos θ_0, cos pos θ_0, sin pos θ_1, …] with θ_i = base^(-2i/dim).

    Args:
        pos: positions of any shape; fractions are allowed.
        dim: the even number of channels.

    (…) -> (…, dim), in float32 whatever the policy.
    https://arxiv.org/abs/1706.03762
    """
    if dim % 2:
        raise ValueError(f'sinusoidal_embeddings needs an even dim, got {dim}.')
    return sinusoids(pos, plain_frequencies(dim, base))


def apply_rotary_position_embeddings(sinusoidal, *tensors, interleaved=True):
    """Rotate each pair of channels by its position's angle.

    Args:
        sinusoidal: (b or 1, n, r), as `sinusoidal_embeddings` makes it.
        tensors: each (b, n, …, d), for instance (b, n, h, d), d ≥ r; channels from r on
            are left as they are.
        interleaved: pair i is the channels (2i, 2i+1), as in RoFormer and GPT-J; else
            (i, i + r/2), as in LLaMA, Qwen and GPT-NeoX.

    Returns:
        The rotated tensor, or a list of them where several were given.
    https://arxiv.org/abs/2104.09864
    """
    if not tensors:
        raise ValueError('apply_rotary_position_embeddings needs a tensor to rotate.')
    rotated = [_rotate(sinusoidal, x, interleaved) for x in tensors]
    return rotated[0] if len(rotated) == 1 else rotated


def _rotate(sinusoidal, x, interleaved):
    for _ in range(len(x.shape) - len(sinusoidal.shape)):
        sinusoidal = ops.expand_dims(sinusoidal, 2)
    sinusoidal = ops.cast(sinusoidal, x.dtype)
    sin, cos = sinusoidal[..., ::2], sinusoidal[..., 1::2]
    size = sinusoidal.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    if interleaved:
        a, b = turned[..., ::2], turned[..., 1::2]
        pairs = ops.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
        turned = ops.reshape(pairs, ops.shape(turned))
        parts = [turned]
    else:
        a, b = turned[..., : size // 2], turned[..., size // 2 :]
        parts = [a * cos - b * sin, b * cos + a * sin]
    if rest.shape[-1]:
        parts.append(rest)
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
