"""First batches whose shapes show Keras which axes vary.

On TensorFlow, Keras takes an axis that is equal in the first two batches for fixed, and
fails at a later batch of another length.
"""

from typing import Any

import numpy as np

from keraseff.data.structures import note_varying
from keraseff.data.structures import shapes_of

AHEAD = 50  # batches that are looked through for another shape

Axes = dict[tuple, set[int]]


def unlike_second(head: list[tuple], varying: Axes | None) -> list[tuple]:
    """The batches, one that differs from the first brought forward to be the second."""
    shapes = [shapes_of(batch) for batch in head]
    others = [i for i, shape in enumerate(shapes) if shape != shapes[0]]
    if not others:
        return told_apart(head, varying)
    # rather one that differs wherever it should: then nothing is padded
    axes = varying_axes(head, varying)
    good = (
        i
        for i in others
        if shapes_of(_widened(head[0], head[i], (), axes)) == shapes[0]
    )
    second = next(good, others[0])
    rest = [batch for i, batch in enumerate(head) if i not in (0, second)]
    return told_apart([head[0], head[second], *rest], varying)


def told_apart(head: list[tuple], varying: Axes | None) -> list[tuple]:
    """The batches, the first padded on axes where it should differ but does not."""
    if len(head) < 2:
        return head
    first = _widened(head[0], head[1], (), varying_axes(head, varying))
    return [first, *head[1:]]


def varying_axes(batches: list[tuple], varying: Axes | None) -> Axes:
    """{path in a batch: axes}, from what the batches and what their rows show."""
    found: Axes = {}
    for path, axes in (varying or {}).items():
        path = ({'inputs': 0, 'targets': 1}[path[0]], *path[1:])
        found[path] = {axis + 1 for axis in axes}
    note_varying(batches, (), found)
    return found


def _widened(part: Any, second: Any, path: tuple, varying: Axes) -> Any:
    if isinstance(part, tuple):
        pairs = enumerate(zip(part, second, strict=True))
        return tuple(_widened(x, y, (*path, i), varying) for i, (x, y) in pairs)
    axes = varying.get(path, set()) - {0}  # the batch axis is never fixed
    if not any(part.shape[axis] == second.shape[axis] for axis in axes):
        return part
    width = [(0, 0)] * part.ndim
    for axis in axes:
        # no more than needed: a model may take no longer rows
        step = 1 + max(0, second.shape[axis] - part.shape[axis])
        width[axis] = (0, step)
    return np.pad(part, width)
