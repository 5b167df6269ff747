"""TensorFlow's checkpoints (the "V2 bundle"), read and written without TensorFlow.

An index file (a sorted string table of Protocol Buffers) says where in the raw data
files each tensor lies.
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keraseff.checkpoints.base import Checkpoint
from keraseff.checkpoints.base import CheckpointError
from keraseff.checkpoints.base import Stored
from keraseff.checkpoints.bundle import HEADER
from keraseff.checkpoints.bundle import Entry
from keraseff.checkpoints.bundle import read_entry
from keraseff.checkpoints.bundle import read_header
from keraseff.checkpoints.bundle import write_entry
from keraseff.checkpoints.crc32c import masked_crc32c
from keraseff.checkpoints.files import replacing
from keraseff.checkpoints.mapped import MappedFile
from keraseff.checkpoints.mapped import checked_shape
from keraseff.checkpoints.mapped import storage_dtype
from keraseff.checkpoints.mapped import value_dtype
from keraseff.checkpoints.slices import slice_key
from keraseff.checkpoints.sstable import read_table
from keraseff.checkpoints.sstable import write_table

_ELEMENTS = {
    1: 'float32',
    2: 'float64',
    3: 'int32',
    4: 'uint8',
    5: 'int16',
    6: 'int8',
    8: 'complex64',
    9: 'int64',
    10: 'bool',
    14: 'bfloat16',
    17: 'uint16',
    18: 'complex128',
    19: 'float16',
    22: 'uint32',
    23: 'uint64',
}
_NUMBERS = {element: code for code, element in _ELEMENTS.items()}
_STRING = 7
_MAX_SHARDS = 100_000


class TensorFlowCheckpoint(Checkpoint):
    """A TensorFlow checkpoint; its data files are opened when first needed.

    Args:
        prefix: the path without `.index` or `.data-00000-of-00001`.

    Raises:
        CheckpointError: the index is missing, truncated, corrupt or compressed.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self._index = Path(f'{os.fspath(prefix)}.index')
        self._files: dict[int, MappedFile] = {}
        try:
            table = read_table(MappedFile(self._index).stream[:])
            self._read_header(table.pop(b'', b''))
            self._entries = {key: read_entry(data) for key, data in table.items()}
            # Keys that begin with a zero byte are parts of a larger tensor.
            names = {key.decode(): key for key in table if not key.startswith(b'\0')}
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(self._index, f'{error}.') from error
        tensors = {name: self._describe(name, names[name]) for name in sorted(names)}
        super().__init__(Path(prefix), 'tensorflow', tensors)

    def _read_header(self, data: bytes) -> None:
        self._shards, self._order = read_header(data)
        if not 0 < self._shards <= _MAX_SHARDS:
            raise ValueError(f'declares {self._shards} data files')

    def _describe(self, name: str, key: bytes) -> Stored:
        entry = self._entries[key]
        shape = checked_shape(self._index, name, entry.shape)
        if entry.code not in _ELEMENTS:
            return Stored(shape, np.dtype(object), lambda: self._refuse(name, entry))
        element = _ELEMENTS[entry.code]
        if entry.slices:
            parts = self._parts(name, entry)
            return Stored(shape, value_dtype(element), lambda: self._join(entry, parts))
        self._check_size(name, entry)
        return Stored(shape, value_dtype(element), lambda: self._load(entry))

    def _check_size(self, name: str, entry: Entry) -> None:
        dtype = storage_dtype(_ELEMENTS[entry.code])
        expected = math.prod(entry.shape) * dtype.itemsize
        if entry.size != expected or entry.offset < 0:
            raise CheckpointError(
                self._index,
                f'is damaged: {name!r:.160} of shape {entry.shape} needs {expected} '
                f'bytes, its entry says {entry.size} from {entry.offset} on.',
            )

    def _parts(self, name: str, entry: Entry) -> list[tuple[tuple, Entry]]:
        """The slices of a partitioned tensor, checked to fill it exactly."""
        parts = []
        for extents in entry.slices:
            part = self._entries.get(slice_key(name, extents))
            if part is None or part.code != entry.code or part.slices:
                raise CheckpointError(self._index, f'lacks a slice of {name!r:.160}.')
            if len(extents) != len(entry.shape):
                raise CheckpointError(self._index, f'slices {name!r:.160} wrongly.')
            region = tuple(
                slice(start, start + (size if length < 0 else length))
                for (start, length), size in zip(extents, entry.shape, strict=True)
            )
            inside = all(
                0 <= s.start <= s.stop <= size
                for s, size in zip(region, entry.shape, strict=True)
            )
            if not inside or part.shape != tuple(s.stop - s.start for s in region):
                raise CheckpointError(self._index, f'slices {name!r:.160} wrongly.')
            self._check_size(name, part)
            parts.append((region, part))
        if sum(math.prod(p.shape) for _, p in parts) != math.prod(entry.shape):
            raise CheckpointError(
                self._index, f'has gaps between slices of {name!r:.160}.'
            )
        return parts

    def files(self) -> list[Path]:
        """The index and the data files that its tensors lie in."""
        shards = sorted({entry.shard for entry in self._entries.values()})
        return [self._index, *map(self._shard_path, shards)]

    def check_complete(self) -> None:
        """Compare where tensors end with the sizes of the data files.

        Raises:
            CheckpointError: a data file is missing or too short.
        """
        ends: dict[int, int] = {}
        for entry in self._entries.values():
            if entry.size > 0:
                end = entry.offset + entry.size
                ends[entry.shard] = max(end, ends.get(entry.shard, 0))
        for shard, end in sorted(ends.items()):
            self._file(shard).elements(end, 0, np.dtype('uint8'))

    def _shard_path(self, shard: int) -> Path:
        suffix = f'.data-{shard:05d}-of-{self._shards:05d}'
        return self._index.with_name(self._index.name[: -len('.index')] + suffix)

    def _file(self, shard: int) -> MappedFile:
        if shard not in self._files:
            path = self._shard_path(shard)
            if not 0 <= shard < self._shards or not path.is_file():
                raise CheckpointError(
                    path, 'this data file is missing; only names and shapes are known.'
                )
            self._files[shard] = MappedFile(path)
        return self._files[shard]

    def _load(self, entry: Entry) -> np.ndarray:
        if not math.prod(entry.shape):
            return np.empty(entry.shape, value_dtype(_ELEMENTS[entry.code]))
        file = self._file(entry.shard)
        return file.array(entry.offset, entry.shape, _ELEMENTS[entry.code], self._order)

    def _join(self, entry: Entry, parts: list[tuple[tuple, Entry]]) -> np.ndarray:
        # All parts are mapped, and so known to exist, before the whole is allocated.
        loaded = [(region, self._load(part)) for region, part in parts]
        available = sum(file.size for file in self._files.values())
        if sum(part.size for _, part in parts) > available:
            raise CheckpointError(self._index, 'has slices that share their bytes.')
        whole = np.zeros(entry.shape, value_dtype(_ELEMENTS[entry.code]))
        for region, array in loaded:
            whole[region] = array
        return whole

    def _refuse(self, name: str, entry: Entry) -> np.ndarray:
        kind = 'strings' if entry.code == _STRING else f'TensorFlow type {entry.code}'
        raise CheckpointError(
            self.path, f'{name!r:.160} holds {kind}, not plain numbers.'
        )

    def verify(self, name: str | None = None) -> None:
        """Compare tensors with their checksums, which reading does not do.

        Args:
            name: one tensor, or None for all of them.

        Raises:
            CheckpointError: a checksum differs.
        """
        for each in self if name is None else [name]:
            self._stored(each)
            entry = self._entries[each.encode()]
            parts = self._parts(each, entry) if entry.slices else [((), entry)]
            for _, part in parts:
                self._verify(each, part)

    def _verify(self, name: str, entry: Entry) -> None:
        if entry.code not in _ELEMENTS or not entry.size:
            return
        file = self._file(entry.shard)
        data = file.elements(entry.offset, entry.size, np.dtype('uint8'))
        if masked_crc32c(data) != entry.crc:
            raise CheckpointError(
                file.path, f'is corrupt: the checksum of {name!r:.160} is wrong.'
            )


def _key(prefix: Path, name: str) -> bytes:
    """A tensor's name as the index has it; its bytes give the order."""
    try:
        if name and '\0' not in name:
            return name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        pass
    raise CheckpointError(prefix, f'{name!r:.160} cannot be the name of a tensor.')


def _written(prefix: Path, name: str, value: np.ndarray) -> tuple[int, np.ndarray]:
    array = np.asarray(value)
    code = _NUMBERS.get(array.dtype.name)
    if code is None:
        raise CheckpointError(
            prefix, f'{name!r:.160} has dtype {array.dtype}, which cannot be written.'
        )
    order = array.dtype.newbyteorder('<') if array.dtype.kind in 'iufc' else array.dtype
    return code, np.asarray(array, order, order='C')


def write_tensorflow(
    prefix: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]
) -> None:
    """Write a checkpoint that `tf.train.load_checkpoint` and bert4keras read.

    Makes `<prefix>.index`, `<prefix>.data-00000-of-00001` and, beside them, the file
    `checkpoint` that names the newest checkpoint of the folder.

    Args:
        prefix: path and name, such as `out/bert_model.ckpt`.
        tensors: name -> array, kernels as (in, out).

    Raises:
        CheckpointError: a dtype or a name that TensorFlow does not know.
    """
    prefix = Path(prefix)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    entries = [(b'', HEADER)]
    with replacing(f'{prefix}.data-00000-of-00001') as file:
        offset = 0
        for name in sorted(tensors, key=lambda name: _key(prefix, name)):
            code, array = _written(prefix, name, tensors[name])
            data = array.reshape(-1).view('uint8')
            file.write(data)
            crc = masked_crc32c(data)
            entry = Entry(code, array.shape, 0, offset, array.nbytes, crc)
            entries.append((_key(prefix, name), write_entry(entry)))
            offset += array.nbytes
    with replacing(f'{prefix}.index') as file:
        file.write(write_table(entries))
    quoted = re.sub(r'(["\\])', r'\\\1', prefix.name)
    with replacing(prefix.with_name('checkpoint')) as file:
        for key in ('model_checkpoint_path', 'all_model_checkpoint_paths'):
            file.write(f'{key}: "{quoted}"\n'.encode())
