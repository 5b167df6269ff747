"""A file mapped into memory, and arrays cut out of it with every bound checked."""

import math
import mmap
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from keraseff.checkpoints.base import CheckpointError

MAX_RANK = 32


def value_dtype(element: str) -> np.dtype:
    """The dtype arrays of an element type are given out as."""
    return np.dtype(ml_dtypes.bfloat16 if element == 'bfloat16' else element)


def storage_dtype(element: str, order: str = '<') -> np.dtype:
    """The dtype that describes an element type's bytes in the file."""
    raw = np.dtype('uint16' if element == 'bfloat16' else element)
    return raw.newbyteorder(order)


def brief(value: object) -> str:
    """What an error may show of a value from a file.

    The repr of a list that holds itself twice, 64 levels deep, would never end.
    """
    small = isinstance(value, int) and value.bit_length() <= 64
    if small or isinstance(value, (str, float)):
        return repr(value)[:80]
    return f'a {type(value).__name__}'


def checked_shape(path: object, name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape as a tuple of plain non-negative ints, or an error."""
    if not isinstance(shape, (list, tuple)) or len(shape) > MAX_RANK:
        raise CheckpointError(path, f'{name!r:.160} has no acceptable shape.')
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**63:
            raise CheckpointError(
                path, f'{name!r:.160} declares a side of {brief(size)}.'
            )
    return tuple(shape)


def finished(raw: np.ndarray, element: str) -> np.ndarray:
    """Bytes seen as their element type: native and aligned."""
    if not raw.dtype.isnative:
        raw = raw.astype(raw.dtype.newbyteorder('='))
    if not raw.flags.aligned:
        raw = raw.copy()
    return raw.view(ml_dtypes.bfloat16) if element == 'bfloat16' else raw


class MappedFile:
    """A file's bytes, read-only, without reading them.

    Attributes:
        path: the file.  size: its length in bytes.
        stream: the map itself, which also reads like a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Opening a pipe would wait for its other end.
        if path.exists() and not path.is_file():
            raise CheckpointError(path, 'cannot be read: is no regular file.')
        try:
            with open(path, 'rb') as file:
                self.stream = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            reason = 'is empty' if isinstance(error, ValueError) else str(error)
            raise CheckpointError(path, f'cannot be read: {reason}.') from error
        self.size = len(self.stream)

    def elements(self, offset: int, count: int, dtype: np.dtype) -> np.ndarray:
        """`count` numbers from byte `offset` on, as a view."""
        end = offset + count * dtype.itemsize
        if offset < 0 or count < 0 or end > self.size:
            raise CheckpointError(
                self.path,
                f'is truncated or damaged: bytes {offset} to {end} are needed, it has '
                f'{self.size}.',
            )
        if not count:
            return np.empty(0, dtype)
        return np.frombuffer(self.stream, dtype, count, offset)

    def array(
        self, offset: int, shape: tuple[int, ...], element: str, order: str = '<'
    ) -> np.ndarray:
        """The array that lies at byte `offset` in C order."""
        raw = self.elements(offset, math.prod(shape), storage_dtype(element, order))
        return finished(raw.reshape(shape), element)
