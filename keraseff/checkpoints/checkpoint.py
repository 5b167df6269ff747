"""One door to every kind of weight file."""

import os
import re
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keraseff.checkpoints.base import Checkpoint
from keraseff.checkpoints.base import CheckpointError
from keraseff.checkpoints.base import DictCheckpoint
from keraseff.checkpoints.keras_h5 import KerasH5Checkpoint
from keraseff.checkpoints.safetensors import SafetensorsCheckpoint
from keraseff.checkpoints.sharded import ShardedCheckpoint
from keraseff.checkpoints.tensorflow import TensorFlowCheckpoint
from keraseff.checkpoints.torch_zip import TorchCheckpoint

__all__ = ['Checkpoint', 'CheckpointError', 'DictCheckpoint', 'open_checkpoint']

_ACCEPTED = (
    'a folder or file of: *.safetensors, *.safetensors.index.json, pytorch_model.bin '
    '(.bin .pt .pth), pytorch_model.bin.index.json, tf_model.h5, or the prefix of a '
    'TensorFlow checkpoint (<prefix>.index)'
)
_READERS: dict[str, Callable[[Path], Checkpoint]] = {
    '.safetensors': SafetensorsCheckpoint,
    '.json': ShardedCheckpoint,
    '.bin': TorchCheckpoint,
    '.pt': TorchCheckpoint,
    '.pth': TorchCheckpoint,
    '.h5': KerasH5Checkpoint,
}
# In this order; a pattern counts only if it matches exactly one file.
_PREFERENCES = (
    'model.safetensors',
    'model.safetensors.index.json',
    '*.safetensors',
    '*.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
    'tf_model.h5',
)
_TENSORFLOW = re.compile(r'(.+)\.(index|meta|data-\d{5}-of-\d{5})')


def open_checkpoint(
    source: str | os.PathLike[str] | Mapping[str, np.ndarray],
) -> Checkpoint:
    """Open weights of any kind.

    Args:
        source: a TensorFlow prefix (or one of its files), a safetensors, PyTorch or
            `tf_model.h5` file, the index of a sharded one, a folder that holds one of
            these (safetensors is preferred, TensorFlow comes last), a dict of arrays in
            TensorFlow's names, or an open checkpoint.

    Raises:
        CheckpointError: nothing found, or the file is truncated, corrupt or hostile.
    """
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, Mapping):
        return DictCheckpoint(source)
    path = Path(source)
    name = _TENSORFLOW.fullmatch(path.name)
    prefix = path.with_name(name.group(1)) if name else path
    if Path(f'{prefix}.index').is_file():
        return TensorFlowCheckpoint(prefix)
    if path.is_dir():
        return _open_folder(path)
    if name:
        raise CheckpointError(f'{prefix}.index', 'the index is missing.')
    if not path.is_file():
        raise _nothing(path)
    if path.suffix in _READERS:
        return _READERS[path.suffix](path)
    return _open_by_content(path)


def _open_by_content(path: Path) -> Checkpoint:
    with open(path, 'rb') as file:
        start = file.read(8)
    if start.startswith((b'PK\x03\x04', b'\x80\x02\x8a\x0a')):
        return TorchCheckpoint(path)
    if start == b'\x89HDF\r\n\x1a\n':
        return KerasH5Checkpoint(path)
    raise CheckpointError(path, f'is of no known kind; expected {_ACCEPTED}.')


def _open_folder(folder: Path) -> Checkpoint:
    for pattern in _PREFERENCES:
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return _READERS[found[0].suffix](found[0])
    state = folder / 'checkpoint'
    if state.is_file():
        return TensorFlowCheckpoint(_newest(state))
    found = sorted(folder.glob('*.index'))
    if len(found) == 1:
        return TensorFlowCheckpoint(found[0].with_suffix(''))
    raise _nothing(folder)


def _newest(state: Path) -> Path:
    """The prefix that a `checkpoint` file names, looked for beside it only."""
    text = state.read_bytes()[:65536].decode(errors='replace')
    match = re.search(r'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.M)
    if match is None:
        raise CheckpointError(state, "names no 'model_checkpoint_path'.")
    named = re.sub(r'\\(.)', r'\1', match.group(1))
    # Training elsewhere leaves paths of another machine; only the last part counts.
    last = re.split(r'[/\\]', named)[-1]
    if last in ('', '.', '..') or not state.with_name(f'{last}.index').is_file():
        raise CheckpointError(
            state, f'names {named!r:.100}, but {last!r:.60}.index is not beside it.'
        )
    return state.with_name(last)


def _nothing(path: Path) -> CheckpointError:
    if not path.exists() and not path.parent.is_dir():
        return CheckpointError(path, 'does not exist.')
    folder = path if path.is_dir() else path.parent
    there = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    more = f' and {len(there) - 20} more' if len(there) > 20 else ''
    listing = f'{there[:20]}{more}' if there else 'nothing'
    found = 'no weights found' if path.exists() else 'does not exist'
    return CheckpointError(
        path, f'{found}. {folder} holds {listing}; expected {_ACCEPTED}.'
    )
