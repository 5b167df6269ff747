"""Batches as Keras 3 takes them: arrays in tuples and dicts, no lists."""

from typing import Any

import numpy as np


def narrow(array: np.ndarray) -> np.ndarray:
    """32 bits for what Python's numbers became; no backend wants 64."""
    if array.dtype == np.float64:
        return array.astype('float32')
    small = array.size == 0 or (array.max() < 2**31 and array.min() >= -(2**31))
    return array.astype('int32') if array.dtype == np.int64 and small else array


def as_tuples(batch: Any) -> tuple:
    """What Keras 3 takes, from what bert4keras' users yield: [x1, x2], y; x, None.

    Arrays of 64 bits, as np.zeros makes them, become 32: TensorFlow mixes no widths.
    """
    if not isinstance(batch, (tuple, list)):
        return (_arrays_and_tuples(batch),)
    parts = [_arrays_and_tuples(part) for part in batch]
    while len(parts) > 1 and parts[-1] is None:
        parts.pop()
    return tuple(parts)


def _arrays_and_tuples(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _arrays_and_tuples(value) for key, value in part.items()}
    if isinstance(part, tuple):
        return tuple(map(_arrays_and_tuples, part))
    if isinstance(part, np.ndarray):
        return narrow(part)
    if not isinstance(part, list):
        return part
    if not any(isinstance(p, np.ndarray) for p in part):
        return narrow(np.asarray(part))  # plain numbers, perhaps in lists of lists
    # one input in a list is just that input
    return (
        _arrays_and_tuples(part[0])
        if len(part) == 1
        else tuple(map(_arrays_and_tuples, part))
    )


def shapes_of(part: Any) -> Any:
    """The shapes in a batch, without the batch axis, which Keras leaves open."""
    if isinstance(part, dict):
        return {key: shapes_of(value) for key, value in part.items()}
    if isinstance(part, tuple):
        return tuple(shapes_of(p) for p in part)
    return np.shape(part)[1:]


def note_varying(items: list[Any], path: tuple, varying: dict) -> None:
    """Enter into `varying` {path: axes} the axes in which the items differ."""
    if items[0] is None or isinstance(items[0], dict):
        return
    if isinstance(items[0], tuple):
        for i, part in enumerate(zip(*items, strict=True)):
            note_varying(list(part), (*path, i), varying)
        return
    shapes = {np.shape(item) for item in items}
    if len({len(shape) for shape in shapes}) > 1:
        raise ValueError(
            f'encode gave {path} of different ranks: shapes {sorted(shapes)[:3]}'
        )
    for axis, sizes in enumerate(zip(*shapes, strict=True)):
        if len(set(sizes)) > 1:
            varying.setdefault(path, set()).add(axis)
