"""Masks: the value that hides a score, and where to put it."""

from keras import backend
from keras import ops


def masked_value(dtype='float32'):
    """A finite number low enough to vanish in any softmax of that dtype.

    Finite on purpose: a row that is masked everywhere gives a uniform softmax, where
    minus infinity gives NaN.  -1e30, and -3e4 in float16, whose range ends at 65,504.
    """
    return -3e4 if backend.standardize_dtype(dtype) == 'float16' else -1e30


def sequence_masking(x, mask=None, value=0, axis=1):
    """Overwrite the masked steps of a sequence.

    Args:
        x: tensor whose first axis is the batch.
        mask: (b, n), true where a step is real; None changes nothing.
        value: the number written over masked steps; `-inf` as a string, or any number
            below the dtype's range, becomes `masked_value(dtype)`.
        axis: the axis of `x`, or several, that the mask's second axis runs along.

    Returns:
        A tensor of the shape of `x`.
    """
    if mask is None:
        return x
    dtype = backend.standardize_dtype(x.dtype)
    if value in ('-inf', -float('inf')):
        value = masked_value(dtype)
    elif value in ('inf', float('inf')):
        value = -masked_value(dtype)
    mask = ops.cast(mask, 'bool')
    for a in [axis] if isinstance(axis, int) else axis:
        a = a if a >= 0 else a + len(x.shape)
        shape = [1] * len(x.shape)
        shape[0], shape[a] = -1, ops.shape(x)[a]
        x = ops.where(ops.reshape(mask, shape), x, ops.cast(value, dtype))
    return x
