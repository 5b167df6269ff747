"""PyTorch's files, read without PyTorch: the zip of 1.6 and later, and the older one.

Storages are mapped in place. The pickle that describes the tensors is read by
`pickled.read_pickle`, which knows the names in `torch_pickle` and refuses all others.
"""

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided

from keraseff.checkpoints.base import Checkpoint
from keraseff.checkpoints.base import CheckpointError
from keraseff.checkpoints.base import Stored
from keraseff.checkpoints.base import modern_names
from keraseff.checkpoints.mapped import MappedFile
from keraseff.checkpoints.mapped import checked_shape
from keraseff.checkpoints.mapped import finished
from keraseff.checkpoints.mapped import storage_dtype
from keraseff.checkpoints.mapped import value_dtype
from keraseff.checkpoints.pickled import read_pickle
from keraseff.checkpoints.torch_pickle import KNOWN
from keraseff.checkpoints.torch_pickle import Storage
from keraseff.checkpoints.torch_pickle import Tensor
from keraseff.checkpoints.torch_pickle import persistent_storage

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_WRAPPERS = 'state_dict', 'model_state_dict', 'model', 'module', 'net', 'weights'
_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    OSError,
    ValueError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    struct.error,
)


class TorchCheckpoint(Checkpoint):
    """A file that `torch.save` wrote: a state dict, or a dict that holds one.

    Raises:
        CheckpointError: damaged, compressed, or its pickle names anything but tensors;
            nothing it names is ever run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self._file = MappedFile(path)
        if self._file.stream[:4] == b'PK\x03\x04':
            tree, self._spans, self._order = _read_zip(self._file)
        else:
            tree, self._spans = _read_legacy(self._file)
            self._order = '<'
        tensors = {
            name: self._describe(name, tensor)
            for name, tensor in modern_names(_state_dict(path, tree)).items()
        }
        super().__init__(path, 'huggingface', tensors)

    def _describe(self, name: str, tensor: Tensor) -> Stored:
        path = self._file.path
        shape = checked_shape(path, name, tensor.shape)
        strides = checked_shape(path, name, tensor.strides)
        (offset,) = checked_shape(path, name, (tensor.offset,))
        storage = tensor.storage
        offset += storage.start
        start, size = self._spans.get(storage.key, (0, 0))
        count = math.prod(shape)
        itemsize = storage_dtype(tensor.element).itemsize
        if len(strides) != len(shape):
            raise CheckpointError(path, f'{name!r:.160} has other strides than sides.')
        last = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        # A stride of 0 repeats numbers without end: no more of them than the file has.
        if count and (
            (offset + last + 1) * itemsize > size or count * itemsize > self._file.size
        ):
            raise CheckpointError(
                path,
                f'is truncated or damaged: {name!r:.160} of shape {shape} reaches '
                f'beyond its storage of {size} bytes.',
            )
        first = start + offset * itemsize
        read = partial(self._load, tensor.element, first, last + 1, shape, strides)
        return Stored(shape, value_dtype(tensor.element), read)

    def _load(
        self,
        element: str,
        first: int,
        span: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> np.ndarray:
        if not math.prod(shape):
            return np.empty(shape, value_dtype(element))
        dtype = storage_dtype(element, self._order)
        raw = self._file.elements(first, span, dtype)
        steps = [stride * dtype.itemsize for stride in strides]
        return finished(as_strided(raw, shape, steps, writeable=False), element)


_Spans = dict[str, tuple[int, int]]


def _read_zip(file: MappedFile) -> tuple[object, _Spans, str]:
    """What `data.pkl` holds, where each storage lies, and the order of its bytes."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = {info.filename: info for info in archive.infolist()}
    except _ZIP_FAULTS as error:
        reason = f'is a damaged zip archive: {error}'
        raise CheckpointError(file.path, f'{reason:.200}.') from error
    roots = [name[: -len('data.pkl')] for name in members if name.endswith('data.pkl')]
    if len(roots) != 1 or roots[0].count('/') > 1:
        raise CheckpointError(file.path, 'is a zip archive, but not of torch.save.')
    (root,) = roots
    if f'{root}constants.pkl' in members:
        raise CheckpointError(
            file.path, 'is a TorchScript program; save its state_dict() instead.'
        )
    spans = {
        name[len(root) + len('data/') :]: _span(file, info)
        for name, info in members.items()
        if name.startswith(f'{root}data/')
    }
    data = _member(file, members[f'{root}data.pkl'])
    order = members.get(f'{root}byteorder')
    big = order is not None and _member(file, order) == b'big'
    tree = read_pickle(file.path, data, KNOWN, partial(persistent_storage, views=False))
    return tree, spans, '>' if big else '<'


def _span(file: MappedFile, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where in the file a member's bytes lie; only uncompressed ones have a place."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise CheckpointError(
            file.path,
            f'{info.filename!r:.160} is compressed or encrypted, which torch.save '
            'never does.',
        )
    head = file.stream[info.header_offset : info.header_offset + 30]
    if info.header_offset < 0 or len(head) != 30 or head[:4] != b'PK\x03\x04':
        raise CheckpointError(
            file.path, f'{info.filename!r:.160} has a damaged header.'
        )
    name_size, extra_size = struct.unpack('<HH', head[26:])
    start = info.header_offset + 30 + name_size + extra_size
    if info.file_size != info.compress_size or start + info.file_size > file.size:
        raise CheckpointError(
            file.path, f'is truncated or damaged: {info.filename!r:.160} does not fit.'
        )
    return start, info.file_size


def _member(file: MappedFile, info: zipfile.ZipInfo) -> bytes:
    start, size = _span(file, info)
    data = file.stream[start : start + size]
    if zlib.crc32(data) != info.CRC:
        raise CheckpointError(
            file.path, f'is corrupt: the checksum of {info.filename!r:.160} is wrong.'
        )
    return data


def _read_legacy(file: MappedFile) -> tuple[object, _Spans]:
    """The object and the places of its storages in a file of before PyTorch 1.6."""
    found: dict[str, Storage] = {}

    def persistent(identity: object) -> Storage:
        storage = persistent_storage(identity, views=True)
        known = found.setdefault(storage.key, storage)
        if (known.element, known.numel) != (storage.element, storage.numel):
            raise ValueError('one storage is described in two ways')
        return storage

    def load(resolve: Callable | None = None) -> object:
        return read_pickle(file.path, file.stream, KNOWN, resolve)

    file.stream.seek(0)
    if load() != _LEGACY_MAGIC or load() != _LEGACY_PROTOCOL:
        raise CheckpointError(file.path, 'was not written by torch.save.')
    system = load()
    if isinstance(system, dict) and system.get('little_endian') is False:
        raise CheckpointError(file.path, 'was written on a big-endian machine.')
    tree, keys = load(persistent), load()
    plain = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not plain or set(keys) != set(found):
        raise CheckpointError(file.path, 'is damaged: its storages do not match.')
    spans: _Spans = {}
    position = file.stream.tell()
    for key in keys:
        storage = found[key]
        (count,) = file.elements(position, 1, np.dtype('<i8'))
        size = storage.numel * storage_dtype(storage.element).itemsize
        if count != storage.numel or position + 8 + size > file.size:
            raise CheckpointError(
                file.path, f'is truncated or damaged at storage {key!r:.40}.'
            )
        spans[key] = position + 8, size
        position += 8 + size
    return tree, spans


def _state_dict(path: Path, tree: object) -> dict[str, Tensor]:
    """The tensors of a state dict, which may lie one level down."""
    tensors = _tensors(tree)
    if not tensors and isinstance(tree, dict):
        inner = {key: _tensors(value) for key, value in tree.items()}
        inner = {k: v for k, v in inner.items() if v and isinstance(k, str)}
        chosen = [key for key in _WRAPPERS if key in inner] or list(inner)
        if len(chosen) > 1 and chosen[0] not in _WRAPPERS:
            raise CheckpointError(
                path,
                f'holds several groups of tensors, {chosen!r:.200}, none of them '
                'called state_dict or model.',
            )
        tensors = inner[chosen[0]] if chosen else {}
    if not tensors and not (isinstance(tree, dict) and not tree):
        raise CheckpointError(path, 'holds no dict of tensors.')
    return tensors


def _tensors(tree: object) -> dict[str, Tensor]:
    if not isinstance(tree, dict):
        return {}
    return {
        key: value
        for key, value in tree.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
