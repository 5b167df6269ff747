"""The `tf_model.h5` of transformers before version 5, under PyTorch's names."""

import math
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from keraseff.checkpoints.base import Checkpoint
from keraseff.checkpoints.base import CheckpointError
from keraseff.checkpoints.base import Stored
from keraseff.checkpoints.mapped import MappedFile
from keraseff.checkpoints.mapped import checked_shape

_LEAVES = {
    'kernel': 'weight',
    'embeddings': 'weight',
    'gamma': 'weight',
    'beta': 'bias',
    'moving_mean': 'running_mean',
    'moving_variance': 'running_var',
}
# Deflate shrinks to a thousandth at best; more than that is a trap.
_MAX_RATIO = 1100
_MAX_DEPTH = 24
_MAX_MEMBERS = 100_000
_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    ArithmeticError,
    AttributeError,
    MemoryError,
)


def torch_name(layer: str, weight: str) -> str:
    """The PyTorch name of a Keras weight.

    Args:
        layer: the group it lies in, such as `bert` or `mlm___cls`.
        weight: its Keras name, such as `tf_bert_model/bert/pooler/dense/kernel:0`.
    """
    parts = re.sub(r':\d+$', '', weight).split('/')
    if layer in parts[:-1]:
        parts = parts[parts.index(layer) :]
    elif parts[0].startswith('tf_'):
        parts = parts[1:]
    # `mlm___cls` is Keras' way to have two layers where PyTorch has one, `cls`.
    parts = [part.rpartition('___')[2] for part in parts]
    parts = [piece for part in parts for piece in part.split('_._')]
    parts[-1] = _LEAVES.get(parts[-1], parts[-1])
    return '.'.join(parts)


class KerasH5Checkpoint(Checkpoint):
    """A `tf_model.h5`: names and orientation as in `pytorch_model.bin`.

    Kernels are transposed, as views.

    Raises:
        CheckpointError: damaged, links out of the file, or not of this layout.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self._file = MappedFile(path)
        try:
            with h5py.File(path, 'r') as root:
                tensors = self._collect(root)
        except CheckpointError:
            raise
        except _FAULTS as error:
            reason = f'is no tf_model.h5, or is damaged: {error}'
            raise CheckpointError(path, f'{reason:.300}.') from error
        super().__init__(path, 'huggingface', tensors)

    def _collect(self, root: h5py.File) -> dict[str, Stored]:
        tensors: dict[str, Stored] = {}
        if not any(key in root.attrs for key in ('layer_names', 'layer_names0')):
            raise CheckpointError(
                self._file.path,
                "has no 'layer_names'; only transformers' tf_model.h5 can be read, "
                'files of Keras itself load with model.load_weights().',
            )
        for layer in root:
            for weight, dataset in _datasets(root, layer):
                name = torch_name(layer, weight)
                if name in tensors:
                    raise ValueError(f'two weights are called {name!r:.160}')
                tensors[name] = self._describe(f'{layer}/{weight}', dataset)
        return tensors

    def _describe(self, where: str, dataset: h5py.Dataset) -> Stored:
        path = self._file.path
        if not isinstance(dataset, h5py.Dataset) or dataset.external:
            raise CheckpointError(path, f'{where!r:.160} is no array of this file.')
        shape = checked_shape(path, where, tuple(map(int, dataset.shape)))
        dtype = dataset.dtype
        if dtype.kind not in 'biufc':
            raise CheckpointError(path, f'{where!r:.160} has dtype {dtype}.')
        stored = dataset.id.get_storage_size()
        size = math.prod(shape) * dtype.itemsize
        whole = dataset.chunks is None
        if (
            dataset.is_virtual
            or (whole and stored != size)
            or (size > _MAX_RATIO * min(stored, self._file.size))
        ):
            raise CheckpointError(
                path, f'is damaged: {where!r:.160} of shape {shape} has {stored} bytes.'
            )
        offset = dataset.id.get_offset() if whole else None
        if offset is None:
            read = partial(self._read, where)
        else:
            order = '>' if dtype.byteorder == '>' else '<'
            read = partial(self._file.array, offset, shape, dtype.name, order)
        native = dtype.newbyteorder('=')
        if re.search(r'/kernel(:\d+)?$', where) and len(shape) == 2:
            return Stored(shape[::-1], native, lambda: read().T)
        return Stored(shape, native, read)

    def _read(self, where: str) -> np.ndarray:
        """A dataset in chunks, which cannot be mapped."""
        try:
            with h5py.File(self._file.path, 'r') as root:
                array = np.asarray(root[where])
                return array.astype(array.dtype.newbyteorder('='), copy=False)
        except _FAULTS as error:
            reason = f'is damaged at {where!r:.160}: {error}'
            raise CheckpointError(self._file.path, f'{reason:.300}.') from error


def _datasets(root: h5py.Group, layer: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """The arrays below a layer's group, with their paths from there on.

    Their paths are their names. The attribute `weight_names` has the same, but its
    strings lie in a heap on which the HDF5 library hangs or crashes when it is
    damaged. Links that leave the file or the tree are refused.
    """
    waiting = [(layer, root, 0)]
    seen = 0
    while waiting:
        path, parent, depth = waiting.pop()
        name = path.rpartition('/')[2]
        if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f'{path!r} is a link')
        member = parent[name]
        if not isinstance(member, h5py.Group):
            yield path.removeprefix(f'{layer}/'), member
            continue
        children = list(member)
        seen += len(children)
        if depth > _MAX_DEPTH or seen > _MAX_MEMBERS:
            raise ValueError('its groups go on without end')
        waiting += [(f'{path}/{child}', member, depth + 1) for child in children]
