"""A Transformer of fewer layers, with the weights of some of another's."""

import dataclasses
import re
from numbers import Integral

from keras import ops

from keraseff import backends
from keraseff.models.loading import named_variables
from keraseff.models.saving import check_plain
from keraseff.training.arguments import check_transformer

_NUMBER = re.compile(r'(^|-)Transformer-(\d+)(?=[-/])')
_COUNTS = 'num_hidden_layers', 'num_decoder_layers'


def truncate(transformer, layers, prefix=None, **options):
    """A new Transformer like the given one, but with some of its layers only.

    Args:
        transformer: a built `Transformer`, not its `.model`: what
            build_transformer_model(…, return_keras_model=False) returns.
        layers: the number of layers, of which the weights are those of the first; or a
            list of numbers from 0, as [0, 4, 8].  T5 takes them in both its parts.
        prefix: of the new layers' names; None or '' for none.  In one graph with the
            other (`bert_of_theseus`) the names must differ.
        options: more that are to differ, see `Config`; no weight may change its shape.

    Returns a built `Transformer`; its weights are copies.

    Raises ValueError if there are no such layers, or the family's layers share their
    weights in groups that would be torn apart.
    """
    check_transformer('transformer', transformer)
    kept = _numbers(transformer, layers)
    config = transformer.config
    given = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    given |= {name: len(kept) for name in _COUNTS if name in given}
    given |= {'layers': None, 'prefix': prefix or None} | options
    new = type(transformer)({}, transformer.application, **given)
    new.build()
    sources = check_plain(named_variables(transformer))
    per_layer = _blocks_per_layer(transformer, sources)
    for name, variable in named_variables(new).items():
        source = sources.get(_NUMBER.sub(_renumber(kept, per_layer), name))
        if source is None or source.shape != variable.shape:
            had = 'nothing' if source is None else f'shape {tuple(source.shape)}'
            raise ValueError(
                f'{name} has shape {tuple(variable.shape)} in the new model and '
                f'{had} in the given one; leave out the options that change it.'
            )
        backends.fill(variable, ops.convert_to_numpy(source))
    return new


def layers_of(transformer):
    """The number of a Transformer's layers, a decoder's own where it is one."""
    decodes = getattr(transformer, 'parts', ()) == ('decoder',)
    return transformer.num_decoder_layers if decodes else transformer.num_hidden_layers


def _numbers(transformer, layers):
    counts = {layers_of(transformer)}
    if getattr(transformer, 'parts', None) == ('encoder', 'decoder'):
        counts.add(transformer.num_decoder_layers)
    count = min(counts)
    if isinstance(layers, (str, bool, float)) or layers is None:
        kept = []  # no number, and no list
    else:
        kept = list(range(layers)) if isinstance(layers, Integral) else list(layers)
    fit = {k for k in range(count) if k in kept}
    if not kept or len(fit) != len(kept):
        raise ValueError(
            f'layers={layers!r}: expected a number from 1 to {count}, or a list of '
            f'different numbers from 0 to {count - 1}.'
        )
    return [int(k) for k in kept]


def _blocks_per_layer(transformer, names):
    """How many blocks of weights a layer has; ALBERT's share or have several."""
    found = {int(m.group(2)) for m in map(_NUMBER.search, names) if m}
    count = max(layers_of(transformer), getattr(transformer, 'num_decoder_layers', 0))
    if not found:
        return 1
    if len(found) % count:
        raise ValueError(
            f'the {count} layers share {len(found)} blocks of weights in groups; such '
            'a model cannot be cut.'
        )
    return len(found) // count


def _renumber(kept, per_layer):
    def number(match):
        layer, inner = divmod(int(match.group(2)), per_layer)
        return f'{match.group(1)}Transformer-{kept[layer] * per_layer + inner}'

    return number
