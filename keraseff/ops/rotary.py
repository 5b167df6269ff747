"""Sinusoidal positions, and the rotation they define (RoPE), in interleaved pairs."""

import math

from keras import ops


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
    exponents = ops.arange(0, dim // 2, dtype='float32') * (-2 * math.log(base) / dim)
    angles = ops.expand_dims(ops.cast(pos, 'float32'), -1) * ops.exp(exponents)
    pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(pairs, ops.shape(pairs)[:-2] + (dim,))


def apply_rotary_position_embeddings(sinusoidal, *tensors):
    """Rotate each pair of channels (x_2i, x_2i+1) by its position's angle.

    Args:
        sinusoidal: (b or 1, n, d), as `sinusoidal_embeddings` makes it.
        tensors: each (b, n, …, d), for instance (b, n, h, d).

    Returns:
        The rotated tensor, or a list of them where several were given.
    https://arxiv.org/abs/2104.09864
    """
    if not tensors:
        raise ValueError('apply_rotary_position_embeddings needs a tensor to rotate.')
    rotated = [_rotate(sinusoidal, x) for x in tensors]
    return rotated[0] if len(rotated) == 1 else rotated


def _rotate(sinusoidal, x):
    for _ in range(len(x.shape) - len(sinusoidal.shape)):
        sinusoidal = ops.expand_dims(sinusoidal, 2)
    sinusoidal = ops.cast(sinusoidal, x.dtype)
    sin, cos = sinusoidal[..., ::2], sinusoidal[..., 1::2]
    even, odd = x[..., ::2], x[..., 1::2]
    pairs = ops.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return ops.reshape(pairs, ops.shape(x))
