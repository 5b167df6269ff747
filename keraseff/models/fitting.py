"""What a checkpoint says of its model: sizes, heads, and what would not fit."""

import contextlib
import dataclasses
import re

import keras
from keras.src.backend.common import global_state

from keraseff.models.loading import IGNORED
from keraseff.models.loading import named_variables
from keraseff.models.loading import parse_slot
from keraseff.models.recognition import candidates

# Option: (the end of a left name, the axis of the variable that shows it).
_SIZES = {
    'vocab_size': (r'Embedding-Token/embeddings', 0),
    'embedding_size': (r'Embedding-Token/embeddings', -1),
    'segment_vocab_size': (r'Embedding-Segment/embeddings', 0),
    'max_position': (r'Embedding-Position/embeddings', 0),
    'hidden_size': (
        r'(SelfAttention/output|GatedAttentionUnit/output|FeedForward/output)/kernel',
        -1,
    ),
    'intermediate_size': (r'FeedForward/intermediate/kernel', -1),
}
_HEADS = {
    'with_pool': 'Pooler-',
    'with_nsp': 'NSP-',
    'with_mlm': 'MLM-',
    'with_discriminator': 'Discriminator-',
}
# A config that asks for more was never trained, and would take long to lay out.
_MOST_LAYERS = 1024
_MOST = 1 << 31


@dataclasses.dataclass(frozen=True)
class Misfit:
    """What keeps a checkpoint from filling a model; empty where it fits.

    Attributes:
        differs: sizes that the config and the tensors say differently.
        missing, misshaped: tensors, each in a sentence.
        unused: names of tensors that no layer takes; they alone do no harm.
    """

    differs: tuple = ()
    missing: tuple = ()
    misshaped: tuple = ()
    unused: tuple = ()

    def __bool__(self):
        return bool(self.differs or self.missing or self.misshaped)


def infer_options(checkpoint, recognised):
    """The options that the tensors' shapes show, under our spellings.

    The number of attention heads, activations and dropouts leave no trace in shapes,
    nor does the number of layers where all share one (ALBERT).

    Args:
        checkpoint: an open `Checkpoint`.
        recognised: what `recognise` says of it.
    """
    known = {field.name for field in dataclasses.fields(_config_class(recognised))}
    options, layers = {}, set()
    for tensor, rows in recognised.rows.items():
        for row in rows:
            layers.add(row.layer)
            shape = _shape(checkpoint, tensor, row)
            for option, (pattern, axis) in _SIZES.items():
                fits = re.search(f'(^|-){pattern}$', row.left)
                if option not in options and len(shape) == 2 and fits:
                    options[option] = shape[axis]
    options.update(_layers(layers - {None}))
    if 'hidden_size' not in options and 'embedding_size' in options:
        options['hidden_size'] = options['embedding_size']
    if options.get('embedding_size') == options.get('hidden_size'):
        options.pop('embedding_size', None)
    return {key: value for key, value in options.items() if key in known}


def _config_class(recognised):
    return recognised.family.config_class


def _layers(numbers):
    return {'num_hidden_layers': max(numbers) + 1} if numbers else {}


def _shape(checkpoint, tensor, row):
    """A variable's shape in a model, by the tensor it lies in."""
    shape = tuple(checkpoint.shape(tensor))
    shape = shape[::-1] if row.turned else shape
    return (*shape[:-1], shape[-1] // row.parts) if shape else shape


def heads_in(recognised):
    """The options that put on the heads whose tensors are there."""
    lefts = {row.left for rows in recognised.rows.values() for row in rows}
    fields = {field.name for field in dataclasses.fields(_config_class(recognised))}
    fields -= {f'with_{head}' for head in ('pool', 'nsp', 'mlm')}
    fields |= {f'with_{head}' for head in recognised.family.heads}
    return {
        option: True
        for option, start in _HEADS.items()
        if option in fields and any(left.startswith(start) for left in lefts)
    }


@contextlib.contextmanager
def shapes_only():
    """Within it, variables have shapes and no values, so that a model costs nothing.

    They stay that way: the model can be looked at, and not used.
    """
    with keras.StatelessScope(initialize_variables=False):
        yield
    # Keras would fill them all when some other scope ends.
    global_state.set_global_attribute('uninitialized_variables', [])


def find_misfit(checkpoint, recognised, options, **keywords):
    """Compare a checkpoint with the model that a config asks for; reads no weight.

    Args:
        checkpoint: an open `Checkpoint`.
        recognised: what `recognise` says of it, for the family to compare with.
        options: what `read_config` gave.
        keywords: options that override them.

    Returns:
        A `Misfit`, false where everything fits.

    Raises:
        ValueError: the config lacks something or is refused by the family.
    """
    found = infer_options(checkpoint, recognised)
    transformer = recognised.family(options, **heads_in(recognised), **keywords)
    differs = [
        f'{key}={getattr(transformer, key)} in the config, {value} by the tensors'
        for key, value in found.items()
        if getattr(transformer, key, value) != value
    ]
    _check_sizes(transformer)
    if 'num_hidden_layers' in found:
        transformer.num_hidden_layers = found['num_hidden_layers']
    with shapes_only():
        transformer.build()
    return _compare(checkpoint, transformer, tuple(differs))


def _check_sizes(transformer):
    for key, value in vars(transformer.config).items():
        most = _MOST_LAYERS if key == 'num_hidden_layers' else _MOST
        if isinstance(value, int) and value > most:
            raise ValueError(f'{key}={value} is beyond any model; at most {most}.')


def _compare(checkpoint, transformer, differs):
    variables = named_variables(transformer)
    missing, misshaped, used = [], [], set()
    for left, right in transformer.table(checkpoint.dialect).items():
        slot = parse_slot(left, right, checkpoint.dialect)
        names = candidates(transformer, slot.tensor)
        used.update(names)
        if left not in variables:
            continue
        wanted = tuple(variables[left].shape)
        tensor = next((name for name in names if name in checkpoint), None)
        if tensor is None:
            missing.append(f'{slot.tensor} of shape {wanted}, for {left}')
        elif _shape(checkpoint, tensor, slot) != wanted:
            came = tuple(checkpoint.shape(tensor))
            misshaped.append(f'{tensor} of shape {came}, for {left} of {wanted}')
    ignored = re.compile(transformer.ignored or r'(?!)')
    unused = [
        name
        for name in sorted(set(checkpoint) - used)
        if not IGNORED.search(name) and not ignored.search(name)
    ]
    return Misfit(differs, tuple(missing), tuple(misshaped), tuple(unused))

