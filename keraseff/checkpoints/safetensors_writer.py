"""Writing the safetensors format, tensor by tensor, in one file or in several."""

import json
import os
import re
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keraseff.checkpoints.base import Checkpoint
from keraseff.checkpoints.base import CheckpointError
from keraseff.checkpoints.files import replacing
from keraseff.checkpoints.mapped import value_dtype
from keraseff.checkpoints.safetensors import ELEMENTS

_CODES = {element: code for code, element in ELEMENTS.items()}
_BLOCK = 1 << 26
_UNITS = {'': 1, 'K': 10**3, 'M': 10**6, 'G': 10**9, 'T': 10**12}
_UNITS |= {'KI': 2**10, 'MI': 2**20, 'GI': 2**30, 'TI': 2**40}

Described = dict[str, tuple[tuple[int, ...], np.dtype]]


def parse_size(text: str | int) -> int:
    """A number of bytes: 5000000, '5MB' (decimal, as Hugging Face counts) or '5MiB'.

    Raises:
        ValueError: not a size, or none above 0.
    """
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?', str(text).strip().upper())
    if match is None or match.group(2) not in _UNITS or not float(match.group(1)):
        raise ValueError(f'{text!r} is no size; write for example 2GB, 500MB or 64MiB.')
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    metadata: dict[str, str] | None = None,
    dtype: str | None = None,
    max_shard_size: str | int | None = None,
) -> None:
    """Write a `.safetensors` file, or several with an index, one tensor at a time.

    Args:
        path: the file; it appears when it is complete. In shards it becomes
            `<stem>-00001-of-00003.safetensors` and so on, listed in
            `<path>.index.json`, which appears last.
        tensors: name -> array. Where it is a `Checkpoint`, its dialect is noted, and
            its tensors are read when their turn comes.
        metadata: strings to store along. `{'dialect': 'tensorflow'}` makes
            `open_checkpoint` take the names for TensorFlow's.
        dtype: casts what is floating point to 'float32', 'float16', 'bfloat16' or
            'float64'; integers stay as they are.
        max_shard_size: bytes, or such as '2GB'; more than that goes into several
            files, none of them larger unless one tensor alone is.

    Raises:
        CheckpointError: a dtype or a name that the format does not know.
    """
    path = Path(path)
    notes = dict(metadata or {})
    if isinstance(tensors, Checkpoint):
        notes.setdefault('dialect', tensors.dialect)
    described = {name: _describe(path, tensors, name, dtype) for name in tensors}
    path.parent.mkdir(parents=True, exist_ok=True)
    limit = None if max_shard_size is None else parse_size(max_shard_size)
    shards = _shards(described, limit)
    index = path.with_name(f'{path.name}.index.json')
    if len(shards) == 1:
        with replacing(path) as file:
            _write_file(file, tensors, described, notes)
        # An index of before would speak for other files.
        index.unlink(missing_ok=True)
        return
    files = [
        path.with_name(f'{path.stem}-{k:05d}-of-{len(shards):05d}{path.suffix}')
        for k in range(1, len(shards) + 1)
    ]
    # None of them takes its name before all are written.
    with ExitStack() as stack:
        for name, shard in zip(files, shards, strict=True):
            file = stack.enter_context(replacing(name))
            _write_file(file, tensors, {each: described[each] for each in shard}, notes)
    _write_index(index, files, shards, described)
    path.unlink(missing_ok=True)


def shard_files(path: str | os.PathLike[str]) -> list[Path]:
    """What `write_safetensors` may have left under that name: whole or in shards."""
    path = Path(path)
    numbers = re.compile(
        rf'{re.escape(path.stem)}-\d{{5}}-of-\d{{5}}{re.escape(path.suffix)}'
    )
    index = path.with_name(f'{path.name}.index.json')
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    shards = sorted(file for file in beside if numbers.fullmatch(file.name))
    return [file for file in (path, index) if file.exists()] + shards


def _describe(
    path: Path, tensors: Mapping[str, np.ndarray], name: str, dtype: str | None
) -> tuple[tuple[int, ...], np.dtype]:
    if isinstance(tensors, Checkpoint):
        shape, kind = tensors.shape(name), tensors.dtype(name)
    else:
        array = np.asarray(tensors[name])
        shape, kind = array.shape, array.dtype
    if dtype is not None and is_float(kind):
        kind = value_dtype(dtype)
    unsayable = any('\ud800' <= letter <= '\udfff' for letter in name)
    if kind.name not in _CODES or name == '__metadata__' or unsayable:
        raise CheckpointError(
            path, f'{name!r:.160} of dtype {kind} cannot be written in this format.'
        )
    # Bytes in the file are little-endian.
    return tuple(shape), kind.newbyteorder('<') if kind.kind in 'iufc' else kind


def is_float(dtype: np.dtype) -> bool:
    """Whether numbers of that dtype are floating point; bfloat16's kind is 'V'."""
    return dtype.kind == 'f' or dtype.name == 'bfloat16'


def _size(described: tuple[tuple[int, ...], np.dtype]) -> int:
    shape, kind = described
    return int(np.prod(shape, dtype=object)) * kind.itemsize


def _shards(described: Described, limit: int | None) -> list[list[str]]:
    """Names in their order, cut where a file would grow beyond the limit."""
    shards: list[list[str]] = [[]]
    size = 0
    for name in described:
        more = _size(described[name])
        if limit is not None and shards[-1] and size + more > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += more
    return shards


def _write_file(
    file: BinaryIO,
    tensors: Mapping[str, np.ndarray],
    described: Described,
    notes: dict[str, str],
) -> None:
    # The widest numbers first, so that all are aligned.
    names = sorted(described, key=lambda name: (-described[name][1].itemsize, name))
    header: dict[str, object] = {'__metadata__': notes} if notes else {}
    offset = 0
    for name in names:
        shape, kind = described[name]
        end = offset + _size(described[name])
        header[name] = {
            'dtype': _CODES[kind.name],
            'shape': list(shape),
            'data_offsets': [offset, end],
        }
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    file.write(len(text).to_bytes(8, 'little') + text)
    for name in names:
        _write_array(file, np.asarray(tensors[name]), described[name][1])


def _write_array(file: BinaryIO, array: np.ndarray, dtype: np.dtype) -> None:
    for block in _blocks(array):
        data = np.ascontiguousarray(block, dtype)
        file.write(data.reshape(-1).view('uint8').data)


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array in runs of rows, so that turning and casting copies few at a time."""
    if array.ndim < 2 or array.nbytes <= _BLOCK:
        yield array
        return
    rows = max(1, _BLOCK * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _write_index(
    index: Path, files: list[Path], shards: list[list[str]], described: Described
) -> None:
    total = sum(_size(each) for each in described.values())
    places = {
        name: file.name
        for file, shard in zip(files, shards, strict=True)
        for name in shard
    }
    value = {'metadata': {'total_size': total}, 'weight_map': places}
    with replacing(index) as file:
        text = json.dumps(value, ensure_ascii=False, indent=2)
        file.write(text.encode() + b'\n')
