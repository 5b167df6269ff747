"""Keys as codes: choosing them, counting them, and the values that go with each.

`s` is the number of codes; a codebook is (h, s, d), one for each head.
"""

import math

import numpy as np
from keras import ops

from keraseff import backends
from keraseff.ops.blocks import with_neighbours
from keraseff.ops.masking import masked_value


def nearest_codes(k, codes):
    """argmin_s ‖k - C_s‖² by one product: argmax_s k·C_s - ‖C_s‖²/2.

    (b, n, h, d) and (h, s, d) -> (b, n, h) int32.
    """
    b, n, h, d = ops.shape(k)
    k = ops.reshape(ops.transpose(k, (2, 0, 1, 3)), (h, b * n, d))
    lengths = ops.sum(ops.square(codes), axis=-1)[:, None]  # (h, 1, s)
    near = backends.add_matmul(-lengths / 2, k, ops.transpose(codes, (0, 2, 1)))
    z = ops.cast(ops.argmax(near, axis=-1), 'int32')  # (h, b n)
    return ops.transpose(ops.reshape(z, (h, b, n)), (1, 2, 0))


def codewords(z, codes):
    """The codes C_z, (b, n, h) and (h, s, d) -> (b, n, h, d)."""
    h, s, d = codes.shape
    rows = z + ops.arange(h, dtype='int32') * s
    return ops.take(ops.reshape(codes, (h * s, d)), rows, axis=0)


def tally_codes(z, v, real, size):
    """Sum of the values of each code and number of its keys, Δᵀ v and Δᵀ 1.

    Args:
        z: codes (…, n).
        v: values (…, n, d).
        real: what each key counts, 0 or 1, broadcasting to (…, n).
        size: s.

    Returns:
        (…, s, d) and (…, s), in float32.
    """
    if backends.adds_rows():
        return _tally_rows(z, v, real, size)
    z = ops.where(ops.cast(real, 'bool'), z, -1)  # no code at all
    # Torch's one_hot is slower by far.
    hot = ops.equal(z[..., None], ops.arange(size, dtype='int32'))
    hot = ops.cast(hot, 'float32')
    sums = ops.matmul(ops.swapaxes(hot, -1, -2), ops.cast(v, 'float32'))
    return sums, ops.sum(hot, axis=-2)


def _tally_rows(z, v, real, size):
    lead, n, d = ops.shape(z)[:-1], ops.shape(z)[-1], v.shape[-1]
    groups = math.prod(lead)
    real = ops.broadcast_to(ops.cast(real, 'float32'), ops.shape(z))
    rows = ops.reshape(ops.arange(groups, dtype='int32') * size, (*lead, 1)) + z
    rows = ops.reshape(rows, (groups * n,))
    v = ops.cast(v, 'float32') * real[..., None]
    sums = backends.add_rows(ops.reshape(v, (groups * n, d)), rows, groups * size)
    real = ops.reshape(real, (groups * n,))
    counts = backends.add_rows(real, rows, groups * size)
    return ops.reshape(sums, (*lead, size, d)), ops.reshape(counts, (*lead, size))


def code_means(sums, counts):
    """The mean value of each code, zero where it has none."""
    return sums / ops.maximum(counts, 1.0)[..., None]


def log_counts(counts):
    """log counts, and so low a number for none that its weight is zero."""
    some = ops.log(ops.maximum(counts, 1.0))
    return ops.where(counts > 0, some, masked_value('float32'))


def against_codes(q, codes):
    """q Cᵀ, (…, h, n, d) and (h, s, d) -> (…, h, n, s) in float32."""
    codes = ops.cast(ops.transpose(codes, (0, 2, 1)), q.dtype)
    return ops.cast(ops.matmul(q, codes), 'float32')


def mix_fused(q, k, v, codes, sums, real, around, causal):
    """softmax([q Cᵀ + log counts | q kᵀ]) [means | v] by the backend's fused kernel.

    The logarithms and what is hidden are one more channel of the keys, where queries
    have 1, so that all blocks share one mask.

    Args:
        q, k: blocks (b, g, h, L, d), float32.
        v: blocks of `counted_values` (b, g, h, L, w).
        codes: (h, s, d).
        sums: of v over the keys that the codes stand for (b, g, h, s, w).
        real: (b or 1, g, 1, L), 0 where a key is padding.
        around: how many blocks before and after are seen key by key.
        causal: no query sees a later key of its block.

    -> (b, g L, h, w), if `backends.fuses_attention()`.
    """
    (b, g, h), size, w = ops.shape(q)[:3], q.shape[3], v.shape[-1]
    k, v = (with_neighbours(x, *around, 3) for x in (k, v))
    hidden = ops.where(with_neighbours(real, *around, 3) > 0, 0.0, HIDDEN)
    counts = sums[..., -1:]
    few = ops.maximum(counts, 1.0)
    logs = ops.where(counts > 0, ops.log(few), HIDDEN)[..., 0]
    codes = ops.broadcast_to(codes, (b, g, *codes.shape))
    keys = ops.concatenate([wider(codes, logs, w), wider(k, hidden, w)], axis=3)
    values = ops.concatenate([sums / few, v], axis=3)
    parts = wider(q, ops.ones((1, 1, 1, 1)), w), keys, values
    parts = [ops.reshape(x, (b * g, h, x.shape[3], w)) for x in parts]
    seen = None
    if causal:
        seen = np.arange(size)[:, None] >= np.arange(-around[0] * size, size)
        seen = np.concatenate([np.ones((size, codes.shape[3]), bool), seen], axis=1)
        seen = ops.convert_to_tensor(seen[None, None])
    mixed = backends.fused_attention(*(ops.swapaxes(x, 1, 2) for x in parts), seen)
    return ops.reshape(mixed, (b, g * size, h, w))


HIDDEN = -1e30


def wider(x, column, width):
    """(…, n, d) with one more channel, which broadcasts to (…, n), and then zeros."""
    shape = tuple(ops.shape(x)[:-1])
    column = ops.broadcast_to(column, shape)[..., None]
    rest = width - x.shape[-1] - 1
    rest = [ops.zeros((*shape, rest), 'float32')] if rest else []
    return ops.concatenate([x, column, *rest], axis=-1)


def counted_values(v, counts, d):
    """Values and, as their last channel, what each counts, for `mix_fused`.

    Args:
        v: (…, n, d_v); counts: broadcasts to (…, n).
        d: the size of the keys.

    -> (…, n, w), w a multiple of 4, as kernels on GPUs want it.
    """
    shape = tuple(ops.shape(v)[:-1])
    rest = max(d, v.shape[-1]) + 1
    rest += -rest % 4 - v.shape[-1] - 1
    rest = [ops.zeros((*shape, rest), 'float32')] if rest else []
    counts = ops.broadcast_to(counts, shape)[..., None]
    return ops.concatenate([v, *rest, counts], axis=-1)


def running_sum(x, group=16):
    """The sum of each and all before it along the second axis, of a few large tensors.

    XLA's cumsum would cost more than all the rest of what it is needed for.

    (b, g, …) -> (b, g, …).
    """
    rest = tuple(x.shape[2:])
    b, g = ops.shape(x)[:2]
    x = ops.pad(x, [(0, 0), (0, -g % group)] + [(0, 0)] * len(rest))
    x = ops.reshape(x, (b, (g + group - 1) // group, group, *rest))
    rows = [x[:, :, 0]]
    for i in range(1, group):
        rows.append(rows[-1] + x[:, :, i])
    before = ops.cumsum(rows[-1], axis=1) - rows[-1]
    x = ops.stack([row + before for row in rows], axis=2)
    return ops.reshape(x, (b, -1, *rest))[:, :g]


def sums_before(x, near=1):
    """For each block (b, g, …) the sum of all before it but for the last `near`."""
    edges = [(0, 0), (near + 1, 0)] + [(0, 0)] * (len(x.shape) - 2)
    return running_sum(ops.pad(x, edges)[:, : ops.shape(x)[1]])


def sums_behind(x, near=1):
    """For each block (b, g, …) the sum of all behind it but for the first `near`."""
    return ops.flip(sums_before(ops.flip(x, axis=1), near), axis=1)
