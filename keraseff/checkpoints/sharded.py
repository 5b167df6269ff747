"""Weights spread over several files by a Hugging Face index."""

import os
from pathlib import Path

from keraseff.checkpoints.base import Checkpoint
from keraseff.checkpoints.base import CheckpointError
from keraseff.checkpoints.base import Stored
from keraseff.checkpoints.base import modern_name
from keraseff.checkpoints.mapped import MappedFile
from keraseff.checkpoints.mapped import brief
from keraseff.checkpoints.safetensors import SafetensorsCheckpoint
from keraseff.checkpoints.safetensors import parse_json
from keraseff.checkpoints.torch_zip import TorchCheckpoint

# What file systems allow.
_LONGEST_NAME = 255


def inside(index: Path, name: object) -> Path:
    """The file of that plain name beside the index; no other folder is reachable."""
    plain = isinstance(name, str) and name not in ('', '.', '..')
    plain = plain and name.isprintable() and len(name.encode()) <= _LONGEST_NAME
    if not plain or any(mark in name for mark in '/\\:'):
        raise CheckpointError(
            index, f'names a file outside its own folder: {brief(name)}.'
        )
    return index.with_name(name)


class ShardedCheckpoint(Checkpoint):
    """The tensors that a `*.safetensors.index.json` or `*.bin.index.json` lists.

    Raises:
        CheckpointError: the index is damaged, a shard is missing or lies elsewhere, or
            lacks a tensor it should have.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        weight_map = parse_json(path, MappedFile(path).stream[:]).get('weight_map')
        if not isinstance(weight_map, dict):
            raise CheckpointError(
                path, "has no 'weight_map', so is no index of weights; name the folder."
            )
        shards: dict[str, Checkpoint] = {}
        tensors: dict[str, Stored] = {}
        for name, file in weight_map.items():
            shard = inside(path, file)
            if file not in shards:
                shards[file] = _open_shard(path, shard)
            if name not in shards[file]:
                name = modern_name(name)
            if name not in shards[file]:
                raise CheckpointError(
                    shard, f'lacks {name!r:.160}, which the index lists.'
                )
            tensors[name] = shards[file]._stored(name)
        dialects = {shard.dialect for shard in shards.values()} or {'huggingface'}
        if len(dialects) > 1:
            raise CheckpointError(path, f'mixes dialects {sorted(dialects)}.')
        super().__init__(path, dialects.pop(), tensors)
        self._shards = [shard for name in shards for shard in shards[name].files()]

    def files(self) -> list[Path]:
        """The index and the shards."""
        return [self.path, *self._shards]


def _open_shard(index: Path, shard: Path) -> Checkpoint:
    if not shard.is_file():
        raise CheckpointError(index, f'lists {shard.name!r:.160}, which is missing.')
    if shard.suffix == '.safetensors':
        return SafetensorsCheckpoint(shard)
    return TorchCheckpoint(shard)
