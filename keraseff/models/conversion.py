"""A checkpoint seen under the names of another dialect, by a family's two tables."""

import re
from functools import partial

import numpy as np

from keraseff.checkpoints import Checkpoint
from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints.base import Stored
from keraseff.models.loading import IGNORED
from keraseff.models.loading import OUTPUT_MATRICES
from keraseff.models.loading import parse_slot

_BLOCK = 1 << 24


class Piece:
    """A variable of the model, or a part of one tensor, where a file has it.

    Args:
        source: the checkpoint.
        tensor: its name there.
        slot: how it lies there, see `loading.Slot`.
    """

    def __init__(self, source, tensor, slot):
        self.source, self.tensor, self.slot = source, tensor, slot
        shape = tuple(source.shape(tensor))
        shape = shape[::-1] if slot.turned else shape
        if slot.parts > 1:
            if not shape or shape[-1] % slot.parts:
                raise CheckpointError(
                    source.path,
                    f'{tensor!r} of shape {tuple(source.shape(tensor))} does not fall '
                    f'into {slot.parts} equal parts.',
                )
            shape = (*shape[:-1], shape[-1] // slot.parts)
        self.shape = shape

    def read(self):
        """The array, as the model has it; a view wherever that is possible."""
        array = self.source[self.tensor]
        array = array.T if self.slot.turned else array
        if self.slot.parts > 1:
            size = self.shape[-1]
            array = array[..., self.slot.part * size : (self.slot.part + 1) * size]
        return array


def convert_names(source, transformer, dialect):
    """A checkpoint whose tensors are read from another one when asked for.

    Matrices are turned, fused tensors split and joined as the tables say.  The output
    matrix of a model that shares it with its embeddings is left out.

    Args:
        source: an open `Checkpoint`.
        transformer: a `Transformer` of its family and config; it need not be built.
        dialect: 'tensorflow' or 'huggingface', whose names the result has.

    Returns:
        (checkpoint, names): the second lists the source's tensors that have no name in
        that dialect, leftovers of training aside.

    Raises:
        ValueError: the family has no names in one of the dialects.
        CheckpointError: a part of a tensor is missing, or has another shape.
    """
    pieces, used = _pieces(source, transformer)
    groups = {}
    for left, right in transformer.table(dialect).items():
        slot = parse_slot(left, right, dialect)
        if left in pieces:
            used.add(pieces[left].tensor)
            group = groups.setdefault(slot.tensor, (slot, {}))[1]
            # Layers that share one tensor lead to it more than once.
            group.setdefault(slot.part, pieces[left])
    tensors = {}
    for name, (slot, parts) in groups.items():
        tensors[name] = _join(source, name, slot, parts)
        if not transformer.tie_word_embeddings:
            # Readers look for some tensors under each of their names then.
            for other in transformer.alternatives.get(name, ()):
                tensors[other] = tensors[name]
    ignored = re.compile(transformer.ignored or r'(?!)')
    lost = [
        name
        for name in sorted(set(source) - used)
        if not IGNORED.search(name) and not ignored.search(name)
    ]
    return Checkpoint(source.path, dialect, tensors), lost


def left_out(source, transformer):
    """The source's tensors that belong to another model, which its family ignores.

    Such as the generator in a file of ELECTRA's two models.
    """
    _, used = _pieces(source, transformer)
    pattern = re.compile(transformer.ignored or r'(?!)')
    rest = sorted(set(source) - used)
    return [n for n in rest if pattern.search(n) and not IGNORED.search(n)]


def _pieces(source, transformer):
    """{left: Piece} of what a file has, and the names of tensors to leave unnoticed."""
    pieces, unnoticed = {}, set()
    for left, right in transformer.table(source.dialect).items():
        slot = parse_slot(left, right, source.dialect)
        names = transformer.tensor_names(slot.tensor)
        tensor = next((name for name in names if name in source), None)
        if tensor is not None:
            unnoticed.update(names)  # copies under its other names
            pieces[left] = Piece(source, tensor, slot)
    words = pieces.get('Embedding-Token/embeddings')
    for left in [left for left in pieces if left.endswith(OUTPUT_MATRICES)]:
        if transformer.tie_word_embeddings and words and _tied(words, pieces[left]):
            unnoticed.add(pieces.pop(left).tensor)
    return pieces, unnoticed


def _tied(words, output):
    """Whether an output matrix (e, v) is the embeddings (v, e), seen block by block."""
    if output.shape != words.shape[::-1]:
        return False
    first, second = words.read(), output.read().T
    rows = max(1, _BLOCK // max(1, first.nbytes // max(1, len(first))))
    return all(
        np.array_equal(first[start : start + rows], second[start : start + rows])
        for start in range(0, len(first), rows)
    )


def _join(source, name, slot, parts):
    absent = sorted(set(range(slot.parts)) - set(parts))
    if absent:
        raise CheckpointError(
            source.path, f'{name!r} has {slot.parts} parts; {absent} are missing.'
        )
    pieces = [parts[k] for k in range(slot.parts)]
    heads = {piece.shape[:-1] for piece in pieces}
    if slot.parts > 1 and (len(heads) > 1 or not pieces[0].shape):
        raise CheckpointError(source.path, f'the parts of {name!r} differ in shape.')
    shape = pieces[0].shape
    if slot.parts > 1:
        shape = (*shape[:-1], sum(piece.shape[-1] for piece in pieces))
    shape = shape[::-1] if slot.turned else shape
    dtype = source.dtype(pieces[0].tensor)
    return Stored(shape, dtype, partial(_read, pieces, slot))


def _read(pieces, slot):
    arrays = [piece.read() for piece in pieces]
    array = np.concatenate(arrays, axis=-1) if len(arrays) > 1 else arrays[0].view()
    return array.T if slot.turned else array
