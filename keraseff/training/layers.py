"""Layers of a model by name, and what they give while it runs."""

import difflib
import functools
from contextlib import ExitStack
from contextlib import contextmanager


def find_layer(model, name, only=None, what='layer'):
    """The layer of a name, in the model or in a model within it.

    Args:
        only: takes a layer, says whether it is of the kind that is looked for.
        what: that kind, for the error's sentence.

    Raises ValueError if there is none; it names those that there are, like ones first.
    """
    if not getattr(model, 'built', True):
        raise ValueError(
            f'{model.name!r} is not built yet, so its layers are not known; call it on '
            'a batch first: model(x).'
        )
    layers = [layer for layer in model._flatten_layers(include_self=False)]
    found = [layer for layer in layers if layer.name == name]
    if found and (only is None or only(found[0])):
        return found[0]
    known = [layer.name for layer in layers if only is None or only(layer)]
    close = difflib.get_close_matches(name, known, n=3) if not found else []
    problem = f'is no {what}' if found else 'is not in the model'
    if close:
        advice = f'Did you mean {" or ".join(map(repr, close))}?  '
    else:
        advice = ''
    shown = ', '.join(known[:20]) + (', …' if len(known) > 20 else '')
    raise ValueError(
        f'{name!r} {problem} {model.name!r}.  {advice}'
        + (f'Its {what}s: {shown}.' if known else f'It has no {what}.')
    )


@contextmanager
def watched(layers, watch):
    """A scope in which `watch(i, inputs, outputs)` takes the place of layers' outputs.

    Args:
        layers: list of layers; i is the place in it.
        watch: gives what the layer is to return.
    """
    with ExitStack() as stack:
        for i, layer in enumerate(layers):
            stack.enter_context(_watched(layer, functools.partial(watch, i)))
        yield


@contextmanager
def _watched(layer, watch):
    # Straight into its dictionary: Keras would track it, and the class's own stays.
    mine = vars(layer)
    before, original = mine.get('call'), layer.call

    @functools.wraps(original)
    def call(*args, **kwargs):
        inputs = args[0] if args else next(iter(kwargs.values()))
        return watch(inputs, original(*args, **kwargs))

    mine['call'] = call
    try:
        yield
    finally:
        if before is None:
            del mine['call']
        else:
            mine['call'] = before


def search_layer(inputs, name, exclude_from=None):
    """The layer of a name from which a tensor or a layer comes, bert4keras' way.

    Args:
        inputs: a symbolic tensor of a functional model, or a layer.
        name: of the layer.
        exclude_from: a set, to which the layers that were looked at are added; those in
            it already are not looked at again.

    Returns the layer, also one within a model on the way, or None.
    """
    seen = set() if exclude_from is None else exclude_from
    waiting = [_origin(inputs)]
    while waiting:
        layer = waiting.pop()
        if layer.name == name:
            return layer
        if layer in seen:
            continue
        seen.add(layer)
        for inner in getattr(layer, 'layers', ()):
            if inner.name == name:
                return inner
            waiting.append(inner)
        for node in layer._inbound_nodes:
            waiting.extend(_origin(x) for x in node.input_tensors)
    return None


def _origin(x):
    history = getattr(x, '_keras_history', None)
    return x if history is None else history.operation


def make_trainable(model):
    """Let all layers of a model be trained, in all their trainable variables.

    `model.trainable = True` does nothing on TensorFlow where that is True already,
    whatever the layers and variables within say.
    """
    for layer in model._flatten_layers(include_self=True):
        layer.trainable = True
        for variable in layer._trainable_variables:
            variable.trainable = True
