"""Weights from a checkpoint file into a Transformer, by the family's table."""

import dataclasses
import re
import warnings

import numpy as np

from keraseff import backends
from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import compound_rows
from keraseff.checkpoints import expand
from keraseff.checkpoints import keep_rows
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import orthogonally_resize

# The tensors with a row (the matrix: a column) for each token of the vocabulary, by
# the end of their names.
TOKEN_AXES = {
    'Embedding-Token/embeddings': 0,
    'MLM-Bias/beta': 0,
    'MLM-Decoder/kernel': 1,
    'Output-LM/kernel': 1,
}
# What training leaves in a file, and buffers that are no weights.
IGNORED = re.compile(
    r'adam|lamb_|global_step|^save_counter|beta\d_power|Momentum|ExponentialMoving'
    r'|position_ids$|embed_positions|cls\.predictions\.decoder|^_CHECKPOINTABLE'
    r'|loss_scale|bad_steps|good_steps|/slot_v[rc]$|rotary_emb\.inv_freq$',
    re.IGNORECASE,
)
# The output matrices that may be tied to the token embeddings.
OUTPUT_MATRICES = ('MLM-Decoder/kernel', 'Output-LM/kernel')
_OUTPUTS = ('MLM-Decoder', 'Output-LM', 'Decoder-Output-LM')
# What stands between the tokens and the heads, without which numbers would differ.
_COMPUTES = re.compile(r'(^|-)Transformer-|^Embedding-Mapping/')
# The beginning of names that no other program has.
OURS = 'keraseff/'
# Attention's own weights, which another mechanism may not have.
_ATTENTION = re.compile(r'(SelfAttention|GatedAttentionUnit)/')
_RIGHT = re.compile(r'(.+?)(?:\|([T=]))?(?:\[(\d+)/(\d+)\])?')


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where a variable lies in a file: the right side of a row, taken apart.

    Attributes:
        tensor: its name.
        turned: the file holds the transposed.
        part, parts: which of how many equal parts along the last axis of the
            variable, after turning.
    """

    tensor: str
    turned: bool
    part: int
    parts: int


def parse_slot(left, right, dialect):
    """The slot that a row of a checkpoint table names.

    PyTorch keeps its matrices as (out, in), and TensorFlow's BERT its output matrices;
    `|T` at the end of a name says that this one is transposed, `|=` that it is not;
    `[k/n]` that the variable is the k-th of n parts of the tensor.
    """
    tensor, mark, part, parts = _RIGHT.fullmatch(right).groups()
    if mark:
        turned = mark == 'T'
    elif dialect == 'huggingface':
        turned = left.endswith('/kernel')
    else:
        turned = tensor.endswith('/output_weights')
    return Slot(tensor, turned, int(part or 0), int(parts or 1))


def token_axis(left):
    """The axis along which a variable counts tokens, or None."""
    return next((a for end, a in TOKEN_AXES.items() if left.endswith(end)), None)


def named_variables(transformer):
    """{'Layer/variable': variable} of a built Transformer, prefix taken off."""
    prefix = transformer.prefix or ''
    found = {}
    for layer in transformer.model.layers:
        name = layer.name
        if transformer.layers.get(name) is not layer or not name.startswith(prefix):
            continue
        for variable in layer.weights:
            inner = variable.path.split(f'{name}/', 1)[-1]
            found[f'{name[len(prefix) :]}/{inner}'] = variable
    return found


def load_weights(transformer, checkpoint, mapping=None):
    """Fill a model's variables; see `Transformer.load_weights_from_checkpoint`."""
    source = open_checkpoint(checkpoint)
    plan = _Plan(transformer, source, mapping)
    plan.check()
    for variable, read in plan.steps:
        backends.fill(variable, read())


def table_of(transformer, dialect, mapping=None):
    """{'Layer/variable': tensor} of the family, or of a table in its place.

    Variables that no table names, such as a mechanism's own, have names that only files
    of ours hold.
    """
    if mapping is not None:
        return expand(mapping, transformer.num_hidden_layers)
    table = transformer.table(dialect)
    ours = {left: f'{OURS}{left}|=' for left in named_variables(transformer)}
    return {**{k: v for k, v in ours.items() if k not in table}, **table}


class _Plan:
    """What goes where, worked out and checked in full before a weight changes."""

    def __init__(self, transformer, source, mapping):
        self.transformer = transformer
        self.source = source
        self.names = set(source)
        self.steps = []
        self.missing = []
        self.misshaped = []
        self.used = set()
        self.left_over = []  # parts of blocks that the config leaves out
        self.idle = []  # embeddings that it leaves out
        self.fresh = []  # what other attention has, and no file of the family
        self.swapped = transformer.attention_parts.swapped
        variables = named_variables(transformer)
        self.table = {
            left: parse_slot(left, right, source.dialect)
            for left, right in table_of(transformer, source.dialect, mapping).items()
        }
        for left, slot in self.table.items():
            tensor = self._find(slot.tensor)
            self.used.update(transformer.tensor_names(slot.tensor))
            if left in variables:
                self._add(left, slot, tensor, variables[left])
            elif tensor is not None and self.swapped and _ATTENTION.search(left):
                self.idle.append(tensor)
            elif tensor is not None and _COMPUTES.search(left):
                self.left_over.append(f'{tensor}, for {left}')
            elif tensor is not None and left.startswith('Embedding-'):
                self.idle.append(tensor)
        self._check_tied(variables)

    def _find(self, right):
        """The tensor under any of the names it has gone by, or None."""
        names = self.transformer.tensor_names(right)
        return next((name for name in names if name in self.names), None)

    def _add(self, left, slot, tensor, variable):
        wanted = tuple(variable.shape)
        if tensor is None and slot.tensor.startswith(OURS):
            if _ATTENTION.search(left) or 'Position/' in left:
                self.fresh.append(left)
            return
        if tensor is None:
            self.missing.append(f'{slot.tensor}, of shape {wanted}, for {left}')
            return
        came = tuple(self.source.shape(tensor))
        shape = came[::-1] if slot.turned else came
        if slot.parts > 1 and shape and shape[-1] % slot.parts == 0:
            shape = (*shape[:-1], shape[-1] // slot.parts)
        shape = self._kept_shape(left, tensor, shape)
        if shape != wanted and not self.transformer.autoresize_weights:
            shown = f'{came} (as {shape} here)' if shape != came else f'{came}'
            self.misshaped.append(
                f'{tensor}: shape {shown} came, {wanted} was wanted for {left}'
            )
            return
        self.steps.append((variable, lambda: self._read(left, tensor, slot, wanted)))

    def _kept_shape(self, left, tensor, shape):
        axis, keep = token_axis(left), self.transformer.keep_tokens
        compound = self.transformer.compound_tokens
        if axis is None or axis >= len(shape):
            return shape
        rows = shape[axis]
        if keep is not None:
            largest = max(keep, default=-1)
            if largest >= rows:
                raise CheckpointError(
                    self.source.path,
                    f'keep_tokens asks for token {largest}, but '
                    f'{tensor} has {rows} rows; it was made for another vocabulary.',
                )
            rows = len(keep)
        rows += len(compound or ())
        return (*shape[:axis], rows, *shape[axis + 1 :])

    def _read(self, left, tensor, slot, wanted):
        array = self.source[tensor]
        array = array.T if slot.turned else array
        if slot.parts > 1:
            size = array.shape[-1] // slot.parts
            array = array[..., slot.part * size : (slot.part + 1) * size]
        axis = token_axis(left)
        if axis is not None:
            array = self._adapt(array.T if axis else array)
            array = array.T if axis else array
        if array.shape != wanted:  # only with autoresize_weights, see _add
            array = orthogonally_resize(np.asarray(array, 'float32'), wanted)
        return array

    def _adapt(self, array):
        if self.transformer.keep_tokens is not None:
            array = keep_rows(array, self.transformer.keep_tokens)
        return compound_rows(array, self.transformer.compound_tokens or [])

    def _check_tied(self, variables):
        """Refuse to drop an output matrix that is not the embeddings after all."""
        if not self.transformer.scores_tokens:
            return
        for left, slot in self.table.items():
            output = self._find(slot.tensor)
            if not left.endswith(OUTPUT_MATRICES) or left in variables or not output:
                continue
            words = self.table.get('Embedding-Token/embeddings')
            words = words and self._find(words.tensor)
            if words and not np.array_equal(self.source[words], self.source[output]):
                raise CheckpointError(
                    self.source.path,
                    f'{output} differs from {words}; this model scores '
                    'with a matrix of its own: pass tie_word_embeddings=False.',
                )

    def check(self):
        """Raise, or warn, for what does not fit.

        Raises:
            CheckpointError: tensors are missing or mis-shaped, or the file is another
                family's, unless the model says ignore_invalid_weights.
        """
        wrong = [f'missing: {text}' for text in self.missing]
        wrong += [f'mis-shaped: {text}' for text in self.misshaped]
        wrong += [f'the config leaves out: {text}' for text in self.left_over]
        extra = sorted(n for n in self.names - self.used if not self._ignored(n))
        notes = [f'tensors that no layer takes: {_few(extra)}'] if extra else []
        if self.idle:
            notes.append(f'the model has no place for {_few(self.idle)}')
        if self.fresh:
            notes.append(
                f'the file has nothing for {_few(self.fresh)}, which keep the values '
                'they begin with'
            )
            if any('/quantizer/' in left for left in self.fresh):
                notes[-1] += (
                    ', and codebooks that fit no key; fill them from some texts with '
                    'keraseff.layers.fit_codebook(model, inputs)'
                )
        lenient = self.transformer.ignore_invalid_weights
        other = self._other_family() if (wrong or extra) and not lenient else ''
        if (wrong or other) and not lenient:
            lines = '\n  '.join(wrong[:20] + notes)
            more = f'\n  and {len(wrong) - 20} more' if len(wrong) > 20 else ''
            raise CheckpointError(
                self.source.path,
                f'it does not fit this {type(self.transformer).__name__}'
                f'{other}; no weight was changed.\n  {lines}{more}\n{self._advice()}',
            )
        for text in wrong + notes:
            warnings.warn(f'{self.source.path}: {text}.', stacklevel=4)

    def _advice(self):
        advice = (
            'Check the config; ignore_invalid_weights=True leaves such weights as '
            'they are, autoresize_weights=True tiles or cuts mis-shaped ones.'
        )
        if any(f'for {end}' in text for text in self.missing for end in _OUTPUTS):
            advice = (
                'The file has no output matrix of its own: if its model scores tokens '
                f'with their embeddings, pass tie_word_embeddings=True.  {advice}'
            )
        return advice

    def _other_family(self):
        from keraseff.models.recognition import looks_like  # which imports this

        hint = looks_like(self.source, self.transformer)
        return f'; {hint}' if hint else ''

    def _ignored(self, name):
        own = self.transformer.ignored
        return IGNORED.search(name) or (own and re.search(own, name))


def _few(names):
    shown = ', '.join(names[:10])
    return f'{shown} and {len(names) - 10} more' if len(names) > 10 else shown
