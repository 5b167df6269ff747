"""Moving weights between a Transformer and a checkpoint file, by the family's table."""

import re
import warnings

import numpy as np
from keras import ops

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import compound_rows
from keraseff.checkpoints import expand
from keraseff.checkpoints import keep_rows
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import orthogonally_resize
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow

# The tensors with a row (the matrix: a column) for each token of the vocabulary.
TOKEN_AXES = {
    'Embedding-Token/embeddings': 0,
    'MLM-Bias/beta': 0,
    'MLM-Decoder/kernel': 1,
}
# What training leaves in a file, and buffers that are no weights.
IGNORED = re.compile(
    r'adam|lamb_|global_step|^save_counter|beta\d_power|Momentum|ExponentialMoving'
    r'|position_ids$|embed_positions|cls\.predictions\.decoder|^_CHECKPOINTABLE'
    r'|loss_scale|bad_steps|good_steps',
    re.IGNORECASE,
)


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
        variable.assign(read())


def save_weights(transformer, filename, mapping=None, dtype=None):
    """Write a Transformer's variables; see `save_weights_as_checkpoint`."""
    filename = str(filename)
    if filename.endswith(('.h5', '.bin', '.pt', '.pth', '.keras')):
        raise ValueError(
            f'{filename}: save_weights_as_checkpoint writes `.safetensors` files, and '
            'TensorFlow checkpoints, whose names end in anything else, say `.ckpt`; '
            'use model.save for `.keras` and model.save_weights for `.weights.h5`.'
        )
    dialect = 'huggingface' if filename.endswith('.safetensors') else 'tensorflow'
    table = _table(transformer, dialect, mapping)
    variables = named_variables(transformer)
    tensors = {}
    for left, right in table.items():
        if left not in variables:
            continue
        array = np.asarray(ops.convert_to_numpy(variables[left]), dtype or 'float32')
        tensors[right] = array.T if _turned(left, right, dialect) else array
    if dialect == 'huggingface':
        tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        write_safetensors(filename, tensors, metadata={'format': 'pt'})
    else:
        write_tensorflow(filename, tensors)


def _table(transformer, dialect, mapping):
    if mapping is None:
        mapping = transformer.names.get(dialect)
        if mapping is None:
            raise ValueError(
                f'{type(transformer).__name__} has no names for {dialect} files; it '
                f'knows those of {", ".join(transformer.names)}.'
            )
    return expand(mapping, transformer.num_hidden_layers)


def _turned(left, right, dialect):
    """Whether the file holds the transposed of a variable."""
    if dialect == 'huggingface':
        return left.endswith('/kernel')
    return right.endswith('/output_weights')


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
        variables = named_variables(transformer)
        for left, right in _table(transformer, source.dialect, mapping).items():
            tensor = self._find(right)
            self.used.update(self._candidates(right))
            if left in variables:
                self._add(left, right, tensor, variables[left])
        self._check_tied(variables)

    def _find(self, right):
        """The tensor under any of the names it has gone by, or None."""
        return next((n for n in self._candidates(right) if n in self.names), None)

    def _candidates(self, right):
        # An untied file has a bias at the decoder, and leaves the other one unused.
        names = [right.replace('cls.predictions.bias', 'cls.predictions.decoder.bias')]
        names.append(right)
        for prefix in self.transformer.model_prefixes:
            names += [n[len(prefix) :] for n in names if n.startswith(prefix)]
        return names

    def _add(self, left, right, tensor, variable):
        wanted = tuple(variable.shape)
        if tensor is None:
            self.missing.append(f'{right}, of shape {wanted}, for {left}')
            return
        turned = _turned(left, right, self.source.dialect)
        came = tuple(self.source.shape(tensor))
        shape = came[::-1] if turned else came
        shape = self._kept_shape(left, tensor, shape)
        if shape != wanted and not self.transformer.autoresize_weights:
            shown = f'{came} (as {shape} here)' if shape != came else f'{came}'
            self.misshaped.append(
                f'{tensor}: shape {shown} came, {wanted} was wanted for {left}'
            )
            return
        self.steps.append((variable, lambda: self._read(left, tensor, turned, wanted)))

    def _kept_shape(self, left, tensor, shape):
        axis, keep = TOKEN_AXES.get(left), self.transformer.keep_tokens
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

    def _read(self, left, tensor, turned, wanted):
        array = self.source[tensor]
        array = array.T if turned else array
        if left in TOKEN_AXES:
            array = self._adapt(array.T if TOKEN_AXES[left] else array)
            array = array.T if TOKEN_AXES[left] else array
        if array.shape != wanted:  # only with autoresize_weights, see _add
            array = orthogonally_resize(np.asarray(array, 'float32'), wanted)
        return np.array(array)  # files are read-only, which Torch warns of

    def _adapt(self, array):
        if self.transformer.keep_tokens is not None:
            array = keep_rows(array, self.transformer.keep_tokens)
        return compound_rows(array, self.transformer.compound_tokens or [])

    def _check_tied(self, variables):
        """Refuse to drop an output matrix that is not the embeddings after all."""
        names = self.transformer.names.get(self.source.dialect, {})
        output = self._find(names.get('MLM-Decoder/kernel', ''))
        tied = 'MLM-Bias/beta' in variables and 'MLM-Decoder/kernel' not in variables
        if not tied or output is None:
            return
        table = expand(names, 1)
        words = self._find(table.get('Embedding-Token/embeddings', ''))
        if words and not np.array_equal(self.source[words], self.source[output]):
            raise CheckpointError(
                self.source.path,
                f'{output} differs from {words}; this model scores '
                'with a matrix of its own: pass tie_word_embeddings=False.',
            )

    def check(self):
        """Raise, or warn, for what does not fit.

        Raises:
            CheckpointError: tensors are missing or mis-shaped, unless the model says
                ignore_invalid_weights.
        """
        wrong = [f'missing: {text}' for text in self.missing]
        wrong += [f'mis-shaped: {text}' for text in self.misshaped]
        extra = sorted(n for n in self.names - self.used if not IGNORED.search(n))
        unused = f'tensors that no layer takes: {_few(extra)}' if extra else ''
        if wrong and not self.transformer.ignore_invalid_weights:
            lines = '\n  '.join(wrong[:20] + [unused] * bool(extra))
            more = f'\n  and {len(wrong) - 20} more' if len(wrong) > 20 else ''
            raise CheckpointError(
                self.source.path,
                f'it does not fit this {type(self.transformer).__name__}; '
                'no weight was changed.\n  '
                f'{lines}{more}\n'
                'Check the config; ignore_invalid_weights=True leaves such weights as '
                'they are, autoresize_weights=True tiles or cuts mis-shaped ones.',
            )
        for text in wrong + [unused] * bool(extra):
            warnings.warn(f'{self.source.path}: {text}.', stacklevel=4)


def _few(names):
    shown = ', '.join(names[:10])
    return f'{shown} and {len(names) - 10} more' if len(names) > 10 else shown
