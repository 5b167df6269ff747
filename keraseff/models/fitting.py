"""What a checkpoint says of its model: sizes, heads, and what would not fit."""

import contextlib
import dataclasses
import re

import keras
from keras.src.backend.common import global_state

from keraseff.models.loading import IGNORED
from keraseff.models.loading import named_variables
from keraseff.models.loading import parse_slot

# Option: (the end of a left name, the axis of the variable that shows it).
_SIZES = {
    'vocab_size': (r'Embedding-Token/embeddings$', 0),
    'embedding_size': (r'Embedding-Token/embeddings$', -1),
    'segment_vocab_size': (r'Embedding-Segment/embeddings$', 0),
    'max_position': (r'Embedding-Position/embeddings$', 0),
    'hidden_size': (r'(Attention/output|Unit/o_dense|FeedForward/output)/kernel$', -1),
    'intermediate_size': (r'(FeedForward/output|Unit/o_dense)/kernel$', 0),
    'attention_key_size': (r'Unit/q_scaleoffset/gamma$', -1),
    'num_attention_heads': (r'coder-Embedding-Relative-Position/embeddings$', -1),
    'attention_head_size': (r'SelfAttention/query_norm/gamma$', -1),
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

    Activations and dropouts leave no trace in shapes, nor does the number of layers
    where all share one (ALBERT), nor in most families that of attention heads.

    Args:
        checkpoint: an open `Checkpoint`.
        recognised: what `recognise` says of it.
    """
    options, widths = {}, _widths(checkpoint, recognised)
    for left, shape in widths.items():
        for option, (pattern, axis) in _SIZES.items():
            if option not in options and shape and re.search(pattern, left):
                options[option] = shape[axis]
    options |= _layers(recognised)
    options |= _heads(options, widths)
    if 'hidden_size' not in options and 'embedding_size' in options:
        options['hidden_size'] = options['embedding_size']
    if options.get('embedding_size') == options.get('hidden_size'):
        options.pop('embedding_size', None)
    known = {field.name for field in dataclasses.fields(_config_class(recognised))}
    return {key: value for key, value in options.items() if key in known}


def guess_options(checkpoint, recognised):
    """`infer_options`, and numbers of heads that have the same shapes as the true ones.

    Enough for a model whose weights are only looked at or renamed: what it computes
    would be wrong.
    """
    options = infer_options(checkpoint, recognised)
    options.setdefault('num_hidden_layers', 1)
    options.setdefault('intermediate_size', 1)
    widths = _widths(checkpoint, recognised)
    query, key, value = (_width(widths, part) for part in ('query', 'key', 'value'))
    size = options.get('attention_head_size')
    one = size or key or options.get('hidden_size', 1)
    guess = {
        'num_attention_heads': max(1, (query or one) // one),
        'num_key_value_heads': 1,
        'attention_head_size': size or value or one,
        'attention_key_size': one,
    }
    known = {field.name for field in dataclasses.fields(_config_class(recognised))}
    return {key: value for key, value in guess.items() if key in known} | options


def _config_class(recognised):
    return recognised.family.config_class


def _widths(checkpoint, recognised):
    """{left name: a variable's shape}, one layer for all."""
    return {
        row.left: _shape(checkpoint, tensor, row)
        for tensor, rows in recognised.rows.items()
        for row in rows
    }


def _width(widths, part):
    """How wide a projection of self-attention is, or None."""
    end = f'SelfAttention/{part}/kernel'
    return next((s[-1] for left, s in widths.items() if left.endswith(end) and s), None)


def _heads(options, widths):
    """The numbers and sizes of heads, where something shows one of them."""
    query, key = _width(widths, 'query'), _width(widths, 'key')
    size = options.get('attention_head_size')
    heads = options.get('num_attention_heads')
    if not query or not key or not (size or heads):
        return {}
    size = size or query // heads
    if query % size or key % size:
        return {}
    return {
        'num_attention_heads': query // size,
        'num_key_value_heads': key // size,
        'attention_head_size': size,
    }


def _layers(recognised):
    """How many layers there are, of an encoder and of a decoder."""
    found = {}
    for rows in recognised.rows.values():
        for row in rows:
            if row.layer is not None:
                side = 'decoder' if row.left.startswith('Decoder-') else 'hidden'
                option = f'num_{side}_layers'
                found[option] = max(found.get(option, 0), row.layer + 1)
    if 'num_decoder_layers' in found:
        found.setdefault('num_hidden_layers', found['num_decoder_layers'])
    return found


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
    check_options(options)
    found = infer_options(checkpoint, recognised)
    transformer = recognised.family(options, **heads_in(recognised), **keywords)
    differs = [
        f'{key}={getattr(transformer, key)} in the config, {value} by the tensors'
        for key, value in found.items()
        if getattr(transformer, key, None) not in (None, value)
    ]
    for key in ('num_hidden_layers', 'num_decoder_layers'):
        if key in found:
            setattr(transformer, key, found[key])
    with shapes_only():
        transformer.build()
    return _compare(checkpoint, transformer, tuple(differs))


def check_options(options):
    """Refuse what would take for ever to lay out.

    Args:
        options: a dict, as a config file has it.

    Raises:
        ValueError: a number is beyond any model.
    """
    for key, value in options.items():
        most = _MOST_LAYERS if key.endswith('layers') else _MOST
        if isinstance(value, int | float) and value > most:
            raise ValueError(f'{key}={value} is beyond any model; at most {most}.')


def _compare(checkpoint, transformer, differs):
    variables = named_variables(transformer)
    missing, misshaped, used = [], [], set()
    for left, right in transformer.table(checkpoint.dialect).items():
        slot = parse_slot(left, right, checkpoint.dialect)
        names = transformer.tensor_names(slot.tensor)
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
