"""Keys as codes: choosing them, counting them, and the values that go with each.

`s` is the number of codes; a codebook is (h, s, d), one for each head.
"""

from keras import ops

from keraseff.ops.masking import masked_value


def nearest_codes(k, codes):
    """argmin_s ‖k - C_s‖² by one product: argmax_s k·C_s - ‖C_s‖²/2.

    (b, n, h, d) and (h, s, d) -> (b, n, h) int32.
    """
    lengths = ops.sum(ops.square(codes), axis=-1)[:, None]  # (h, 1, s)
    near = ops.einsum('bnhd,hsd->bhns', k, codes) - lengths / 2
    z = ops.cast(ops.argmax(near, axis=-1), 'int32')
    return ops.transpose(z, (0, 2, 1))


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
    z = ops.where(ops.cast(real, 'bool'), z, -1)  # no code at all
    # Torch's one_hot is slower by far.
    hot = ops.equal(z[..., None], ops.arange(size, dtype='int32'))
    hot = ops.cast(hot, 'float32')
    sums = ops.matmul(ops.swapaxes(hot, -1, -2), ops.cast(v, 'float32'))
    return sums, ops.sum(hot, axis=-2)


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


def sums_before(x):
    """For each block (b, g, …) the sum of all that end before the one before it."""
    edges = [(0, 0), (2, 0)] + [(0, 0)] * (len(x.shape) - 2)
    return running_sum(ops.pad(x, edges)[:, : ops.shape(x)[1]])


def sums_behind(x):
    """For each block (b, g, …) the sum of all that begin behind the one behind it."""
    return ops.flip(sums_before(ops.flip(x, axis=1)), axis=1)
