"""Embedding rows selected and added, weights grown and shrunk."""

import math
from collections.abc import Sequence

import numpy as np

CompoundToken = Sequence[int] | tuple[Sequence[int], Sequence[float]]


def keep_rows(array: np.ndarray, keep_tokens: Sequence[int]) -> np.ndarray:
    """The rows of the kept tokens, in the order given.

    Args:
        array: (v, ...), for example an embedding matrix or an output bias.
        keep_tokens: ids, as `load_vocab(simplified=True)` gives them.

    Raises:
        ValueError: an id outside 0 .. v - 1.
    """
    return array[_checked_ids(array, keep_tokens)]


def compound_rows(
    array: np.ndarray, compound_tokens: Sequence[CompoundToken]
) -> np.ndarray:
    """The rows, and below them one weighted average of rows per compound token.

    The ids count the rows of `array` as it comes: bert4keras selects with
    `keep_tokens` first and averages the rows that are left.

    Args:
        array: (v, ...).
        compound_tokens: for each new row a list of ids, or a tuple (ids, weights).

    Raises:
        ValueError: no ids, an id outside 0 .. v - 1, or weights that do not fit.
    """
    if not len(compound_tokens):
        return array
    rows = [_average(array, item) for item in compound_tokens]
    return np.concatenate([array, np.stack(rows).astype(array.dtype)])


def _average(array: np.ndarray, item: CompoundToken) -> np.ndarray:
    ids, weights = item if _has_weights(item) else (item, None)
    chosen = _checked_ids(array, ids)
    if weights is None:
        weights = np.ones(len(chosen))
    if len(weights) != len(chosen) or not len(chosen) or not sum(weights):
        raise ValueError(
            f'A compound token has {len(chosen)} ids and weights {weights}; give as '
            'many weights as ids, at least one, with a sum that is not zero.'
        )
    # float16 would lose digits in the sum.
    wide = np.promote_types(array.dtype, 'float32')
    return np.average(array[chosen].astype(wide), axis=0, weights=weights)


def _has_weights(item: CompoundToken) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and np.ndim(item[0]) == 1


def _checked_ids(array: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    chosen = np.asarray(ids)
    if chosen.size == 0:
        return np.zeros(0, 'int64')
    if chosen.ndim != 1 or chosen.dtype.kind not in 'iu':
        raise ValueError(f'Token ids must be a list of integers, got {ids!r:.80}.')
    if chosen.min() < 0 or chosen.max() >= len(array):
        raise ValueError(
            f'Token ids run from {chosen.min()} to {chosen.max()}, but the matrix has '
            f'{len(array)} rows.'
        )
    return chosen


def orthogonally_resize(
    array: np.ndarray, new_shape: Sequence[int], window: int = 2
) -> np.ndarray:
    """Grow or shrink a weight so that it still acts as before, with its norm kept.

    An axis that grows from d to k d has each run of `window` neighbours repeated k
    times: x -> x R with R = repeat / sqrt(k) and R R^T = I. A matrix becomes
    W' = R_a^T W R_b, so that (x R_a) W' = (x W) R_b: the large network carries the
    small one's states, and all their inner products, in a subspace. Sizes between
    multiples are cut from the next one up, an axis that shrinks keeps its head; then
    everything is scaled to the Frobenius norm it had. Pairs stay neighbours
    (`window=2`), which rotary and sinusoidal positions need. The same numbers as
    bert4keras' function of this name, apart from zeros, which stay zeros.

    Args:
        array: any number of axes.
        new_shape: one size for each axis.
        window: length of the runs that stay together; divides each axis that grows.

    Raises:
        ValueError: another number of axes, or an axis that `window` does not divide.
    """
    if array.ndim != len(new_shape):
        raise ValueError(
            f'new_shape={tuple(new_shape)} has {len(new_shape)} axes, the array '
            f'{array.shape} has {array.ndim}.'
        )
    result = array
    for axis, size in enumerate(new_shape):
        result = _resize_axis(result, axis, size, window)
    before, after = np.linalg.norm(array), np.linalg.norm(result)
    scale = before / after if after else 1.0
    return (result * scale).astype(array.dtype)


def _resize_axis(array: np.ndarray, axis: int, size: int, window: int) -> np.ndarray:
    old = array.shape[axis]
    if size > old:
        if old == 0 or old % window:
            raise ValueError(
                f'Axis {axis} of length {old} cannot grow to {size}: window={window} '
                'must divide it.'
            )
        copies = math.ceil(size / old)
        runs = np.arange(old).reshape(-1, window)
        order = np.repeat(runs, copies, axis=0).reshape(-1)
        return np.take(array, order[:size], axis=axis)
    return np.take(array, np.arange(size), axis=axis)
