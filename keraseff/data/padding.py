"""Rows of unequal length to arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def to_array(*args: Any) -> Any:
    """np.array of the argument; of several arguments a list of arrays."""
    results = [np.array(a) for a in args]
    return results[0] if len(results) == 1 else results


def sequence_padding(
    inputs: Sequence[Any],
    length: int | Sequence[int] | None = None,
    value: float = 0,
    seq_dims: int = 1,
    mode: str = 'post',
) -> np.ndarray:
    """One array of sequences that are padded, or cut at their end, to one length.

    Args:
        inputs: arrays or (nested) lists that differ only in their first axes.
        length: of the padded axes; None takes the longest.
        value: what to pad with.
        seq_dims: how many leading axes differ: 1 for ids, 2 for square matrices, 3 for
            (types, n, n).
        mode: 'post' pads behind, 'pre' before.

    Integers stay integers, unless `value` is none.
    Raises ValueError for no inputs, another mode, or lengths that are not seq_dims.
    """
    if mode not in ('post', 'pre'):
        raise ValueError(f"mode={mode!r} must be 'post' or 'pre'")
    if len(inputs) == 0:
        raise ValueError('there are no sequences to pad')
    arrays = [np.asarray(x) for x in inputs]
    sizes = [_leading(array, seq_dims) for array in arrays]
    if length is None:
        length = np.max(sizes, axis=0)
    lengths = np.atleast_1d(length).tolist()
    if len(lengths) != seq_dims:
        raise ValueError(f'length={length} gives {len(lengths)} of {seq_dims} axes')
    # an empty list is float64 and without inner axes: it says nothing about either
    full = [array for array in arrays if array.size] or arrays[:1]
    shape = (len(arrays), *lengths, *full[0].shape[seq_dims:])
    output = np.full(shape, value, _dtype(full, value))
    for row, array, size in zip(output, arrays, sizes, strict=True):
        cut = [min(n, limit) for n, limit in zip(size, lengths, strict=True)]
        if 0 in cut:
            continue
        where = [slice(None, n) for n in cut]
        if mode == 'pre':
            where = [slice(m - n, None) for n, m in zip(cut, lengths, strict=True)]
        row[tuple(where)] = array[tuple(slice(None, n) for n in cut)]
    return output


def _leading(array: np.ndarray, seq_dims: int) -> tuple[int, ...]:
    if array.size == 0 and array.ndim < seq_dims:
        return (0,) * seq_dims
    if array.ndim < seq_dims:
        raise ValueError(f'an input of shape {array.shape} has not {seq_dims} axes')
    return array.shape[:seq_dims]


def _dtype(arrays: list[np.ndarray], value: float) -> np.dtype:
    dtype = np.result_type(*{array.dtype for array in arrays})
    if dtype.kind in 'iub' and float(value) != _whole(value):
        return np.result_type(dtype, np.float32)
    return dtype


def _whole(value: float) -> float:
    """Value rounded towards zero; nan for inf and nan, which no integer can be."""
    return float(np.trunc(value)) if np.isfinite(value) else float('nan')


def truncate_sequences(
    maxlen: int, indices: int | Sequence[int], *sequences: Any
) -> list:
    """Take elements away until all sequences together have at most maxlen.

    Args:
        maxlen: the sum of lengths to reach.
        indices: the position whose element goes, one or one for each sequence that
            is not empty: -1 the last, -2 the last but one, 1 the second.
        sequences: the longest loses first. Lists are shortened in place; of other
            sequences shorter copies are returned.

    Returns a list of the sequences that were not empty.
    """
    kept = [s for s in sequences if len(s)]
    if not isinstance(indices, (list, tuple)):
        indices = [indices] * len(kept)
    lengths = [len(s) for s in kept]
    while sum(lengths) > max(maxlen, 0):
        lengths[int(np.argmax(lengths))] -= 1
    for i, (sequence, length) in enumerate(zip(kept, lengths, strict=True)):
        excess = len(sequence) - length
        if not excess:
            continue
        start = _removed(len(sequence), excess, indices[i])
        if isinstance(sequence, list):
            del sequence[start : start + excess]
        else:
            kept[i] = sequence[:start] + sequence[start + excess :]
    return kept


def _removed(length: int, excess: int, index: int) -> int:
    """Where the stretch begins that repeated pops at `index` take away."""
    start = index if index >= 0 else length + index - excess + 1
    if start < 0 or start + excess > length:
        raise ValueError(
            f'{excess} elements can not be taken from position {index} of a sequence '
            f'of {length}'
        )
    return start


def round_up(length: int, multiple_of: int) -> int:
    """The next multiple that is not smaller."""
    return -(-length // multiple_of) * multiple_of
