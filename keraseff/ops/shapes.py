"""Rearranging axes, with bert4keras' names."""

from keras import ops


def align(tensor, axes, ndim=None):
    """Insert axes of length 1 so that the i-th axis of `tensor` becomes `axes[i]`.

    Args:
        axes: increasing target axes, one for each axis of `tensor`; negative ones
            need `ndim`.
        ndim: number of axes of the result; by default the last target plus one.
    """
    if len(axes) != len(tensor.shape):
        raise ValueError(
            f'align: {len(axes)} target axes for a tensor of {len(tensor.shape)} axes.'
        )
    if ndim is None and min(axes) < 0:
        raise ValueError('align: negative axes need ndim.')
    targets = [a if a >= 0 else a + ndim for a in axes]
    for a in range(ndim or max(targets) + 1):
        if a not in targets:
            tensor = ops.expand_dims(tensor, a)
    return tensor


def flatten(tensor, start=0, end=None):
    """Collapse the axes from `start` up to, not including, `end` into one."""
    shape = ops.shape(tensor)
    end = len(shape) if end is None else end
    return ops.reshape(tensor, shape[:start] + (-1,) + shape[end:])


def batch_gather(params, indices):
    """Take rows of `params` by index within each item of the batch.

    `params` (b, n, …) and `indices` (b, k) -> (b, k, …); with more leading axes in
    `indices`, all but its last are batch axes.
    """
    indices = ops.cast(indices, 'int32')
    extra = len(params.shape) - len(indices.shape)
    for _ in range(extra):
        indices = ops.expand_dims(indices, -1)
    axis = len(params.shape) - extra - 1
    return ops.take_along_axis(params, indices, axis=axis)
