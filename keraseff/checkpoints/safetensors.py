"""The safetensors format: a JSON header, then raw tensors.

https://huggingface.co/docs/safetensors
"""

import json
import math
import os
from functools import partial
from pathlib import Path

import numpy as np

from keraseff.checkpoints.base import Checkpoint
from keraseff.checkpoints.base import CheckpointError
from keraseff.checkpoints.base import Stored
from keraseff.checkpoints.base import modern_names
from keraseff.checkpoints.mapped import MappedFile
from keraseff.checkpoints.mapped import brief
from keraseff.checkpoints.mapped import checked_shape
from keraseff.checkpoints.mapped import storage_dtype
from keraseff.checkpoints.mapped import value_dtype

ELEMENTS = {
    'F64': 'float64',
    'F32': 'float32',
    'F16': 'float16',
    'BF16': 'bfloat16',
    'I64': 'int64',
    'I32': 'int32',
    'I16': 'int16',
    'I8': 'int8',
    'U64': 'uint64',
    'U32': 'uint32',
    'U16': 'uint16',
    'U8': 'uint8',
    'BOOL': 'bool',
    'C64': 'complex64',
}
_MAX_HEADER = 100_000_000


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError('a name comes twice')
    return result


def parse_json(path: Path, data: bytes) -> dict[str, object]:
    """A JSON object whose keys are unique, or a CheckpointError."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, f'has damaged JSON: {error}.') from error
    if not isinstance(value, dict):
        raise CheckpointError(path, 'has JSON that is no object.')
    return value


class SafetensorsCheckpoint(Checkpoint):
    """One `.safetensors` file.

    Its dialect is 'huggingface', unless its metadata has an entry `dialect`, as
    `write_safetensors` leaves it.

    Raises:
        CheckpointError: the header is damaged or does not account for every byte.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        file = MappedFile(path)
        size = int.from_bytes(file.stream[:8], 'little')
        if file.size < 8 or size > min(_MAX_HEADER, file.size - 8):
            raise CheckpointError(
                path,
                f'is no safetensors file, or is truncated: its header of {size} '
                f'bytes does not fit into {file.size}.',
            )
        header = parse_json(path, file.stream[8 : 8 + size])
        metadata = header.pop('__metadata__', None) or {}
        if not isinstance(metadata, dict):
            raise CheckpointError(path, 'has metadata that are no object.')
        tensors, ranges = {}, []
        for name, entry in header.items():
            tensors[name], span = _describe(file, name, entry, 8 + size)
            ranges.append(span)
        _check_ranges(path, ranges, file.size - 8 - size)
        dialect = metadata.get('dialect', 'huggingface')
        if dialect == 'huggingface':
            tensors = modern_names(tensors)
        super().__init__(path, dialect, tensors)
        self.metadata = metadata


def _describe(
    file: MappedFile, name: str, entry: object, base: int
) -> tuple[Stored, tuple[int, int]]:
    if not isinstance(entry, dict):
        raise CheckpointError(file.path, f'has a damaged entry {name!r:.160}.')
    shape = checked_shape(file.path, name, entry.get('shape'))
    span = checked_shape(file.path, name, entry.get('data_offsets'))
    if len(span) != 2 or span[0] > span[1]:
        raise CheckpointError(file.path, f'has damaged offsets for {name!r:.160}.')
    code = entry.get('dtype')
    element = ELEMENTS.get(code) if isinstance(code, str) else None
    if element is None:

        def refuse() -> np.ndarray:
            raise CheckpointError(
                file.path,
                f'{name!r:.160} has dtype {brief(code)}, which is not supported.',
            )

        return Stored(shape, np.dtype(object), refuse), span
    expected = math.prod(shape) * storage_dtype(element).itemsize
    if span[1] - span[0] != expected:
        raise CheckpointError(
            file.path,
            f'is damaged: {name!r:.160} of shape {shape} needs {expected} bytes, '
            f'its entry says {span[1] - span[0]}.',
        )
    read = partial(file.array, base + span[0], shape, element)
    return Stored(shape, value_dtype(element), read), span


def _check_ranges(path: Path, ranges: list[tuple[int, int]], size: int) -> None:
    end = 0
    for start, stop in sorted(ranges):
        if start != end:
            raise CheckpointError(path, 'is damaged: tensors overlap or leave gaps.')
        end = stop
    if end != size:
        raise CheckpointError(
            path,
            f'is truncated or damaged: its tensors take {end} bytes, there are {size}.',
        )
