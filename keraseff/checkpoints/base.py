"""What every weight file looks like once it is open: a mapping name -> array."""

import difflib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar('T')
DIALECTS = 'tensorflow', 'huggingface'


class CheckpointError(ValueError):
    """A weight file that is missing, damaged or not acceptable.

    Args:
        path: the file or folder.
        reason: one sentence, without the path.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f'{path}: {reason}')
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Stored:
    """A tensor that has not been read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def modern_name(name: str) -> str:
    """PyTorch's present name: early BERT files say `LayerNorm.gamma` and `.beta`."""
    for old, new in (('gamma', 'weight'), ('beta', 'bias')):
        if name.endswith(f'LayerNorm.{old}'):
            return name.removesuffix(old) + new
    return name


def modern_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors under `modern_name`, less a prefix `module.` that all names share.

    `DataParallel` leaves that prefix.
    """
    parallel = all(name.startswith('module.') for name in tensors)
    result: dict[str, T] = {}
    for name, tensor in tensors.items():
        new = modern_name(name.removeprefix('module.') if parallel else name)
        result[name if new in tensors and new != name else new] = tensor
    return result


class Checkpoint(Mapping[str, np.ndarray]):
    """A read-only mapping from tensor names to arrays that are read when asked for.

    Arrays are read-only views of the mapped file wherever its bytes allow that;
    bfloat16 comes as `ml_dtypes.bfloat16`.

    Attributes:
        path: where the weights lie, or None.
        dialect: 'tensorflow' (kernels are (in, out)) or 'huggingface' (PyTorch's
            names; the weights of linear layers are (out, in)).
    """

    def __init__(
        self, path: Path | None, dialect: str, tensors: dict[str, Stored]
    ) -> None:
        if dialect not in DIALECTS:
            raise CheckpointError(
                path, f'unknown dialect {dialect!r:.40}; expected one of {DIALECTS}.'
            )
        self.path = path
        self.dialect = dialect
        self._tensors = tensors

    def _stored(self, name: str) -> Stored:
        try:
            return self._tensors[name]
        except KeyError:
            close = difflib.get_close_matches(str(name), list(self._tensors), n=3)
            hint = f'; nearest names: {close}' if close else ''
            raise KeyError(f'No tensor {name!r} in {self.path}{hint}') from None

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._stored(name).read()
        array.flags.writeable = False
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    # A mapping compares all its values; arrays have no single truth.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f'<{kind} {self.path}: {len(self)} tensors, {self.dialect} names>'

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._stored(name).shape

    def dtype(self, name: str) -> np.dtype:
        """The dtype `self[name]` will have, without reading it."""
        return self._stored(name).dtype

    def files(self) -> list[Path]:
        """The files it is made of, those that are missing among them."""
        return [] if self.path is None else [self.path]

    def check_complete(self) -> None:
        """Look whether every tensor's bytes are there, without reading them.

        Raises:
            CheckpointError: a data file is missing or too short.
        """


class DictCheckpoint(Checkpoint):
    """A plain dict of arrays, seen as a checkpoint.

    Args:
        tensors: name -> array (or anything `numpy.asarray` takes).
        dialect: whose names and orientation the dict uses.
    """

    def __init__(
        self, tensors: Mapping[str, np.ndarray], dialect: str = 'tensorflow'
    ) -> None:
        stored = {}
        for name, value in tensors.items():
            array = np.asarray(value)
            if array.dtype.hasobject:
                raise CheckpointError(
                    None, f'{name!r} is a {type(value).__name__}, not an array.'
                )
            # A view, so that making the result read-only leaves the caller's alone.
            stored[name] = Stored(array.shape, array.dtype, array.view)
        super().__init__(None, dialect, stored)
