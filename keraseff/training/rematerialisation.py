"""Rematerialisation: layers that compute twice what they would else have to keep.

`keras.RematScope` calls a layer once more in the backward pass as if it stood alone:
without knowing that it trains, in which precision, and with which random numbers, so
that dropout within attention would differ between the passes.  Here the second
computation is that of the first.
"""

import functools
import re
from contextlib import contextmanager

import keras
from keras import ops
from keras.src.backend.common import global_state

from keraseff import backends
from keraseff.layers import Attention
from keraseff.layers import EfficientGlobalPointer
from keraseff.layers import FeedForward
from keraseff.layers import GlobalPointer
from keraseff.layers import LayerNormalization
from keraseff.layers import Mixer
from keraseff.layers import ScaleOffset
from keraseff.training.arguments import model_of

# As bert4keras' RECOMPUTE=1.
KINDS = (
    Attention,
    Mixer,
    FeedForward,
    LayerNormalization,
    ScaleOffset,
    GlobalPointer,
    EfficientGlobalPointer,
)
_CONTEXT = 'current_call_ctx'


def rematerialise(model, pattern=None):
    """Keep of some layers only what goes in while training, and compute the rest again.

    Args:
        model: a built `keras.Model` or `Transformer`; its outputs, gradients and files
            stay as they are.
        pattern: a regular expression that is searched for in the layers' names; by
            default those of attention, feed-forward and normalisation, and the
            pointers.

    Returns the list of the layers' names.  A step of training takes about a third more
    time, and much less memory where the texts are long.

    Raises ValueError if no layer is found.
    Chen et al., 2016, https://arxiv.org/abs/1604.06174
    """
    model = model_of(model)
    layers = [x for x in model._flatten_layers(include_self=False) if x.built]
    if pattern is None:
        found = [layer for layer in layers if isinstance(layer, KINDS)]
    else:
        found = [layer for layer in layers if re.search(pattern, layer.name)]
    if not found:
        said = 'attention, feed-forward or normalisation of ours'
        said = said if pattern is None else f'layer that {pattern!r} finds'
        advice = '' if model.built else '  Call it on a batch first: model(x).'
        raise ValueError(f'{model.name!r} has no {said} to rematerialise.{advice}')
    parts = [layer._flatten_layers(include_self=False) for layer in found]
    inner = {id(part) for group in parts for part in group}
    found = [layer for layer in found if id(layer) not in inner]
    for layer in found:
        if not hasattr(layer.call, 'kept'):
            # Straight into its dictionary, where Keras does not track it.
            vars(layer)['call'] = _recomputing(layer)
    model.train_function = None
    return [layer.name for layer in found]


def keep_everything(model):
    """Undo `rematerialise`; returns the model."""
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer.call, 'kept'):
            del vars(layer)['call']
    model.train_function = None
    return model


def _recomputing(layer):
    original = layer.call

    @functools.wraps(original)
    def call(*args, **kwargs):
        given = keras.tree.flatten((args, kwargs))
        context = global_state.get_global_attribute(_CONTEXT)
        if any(isinstance(x, keras.KerasTensor) for x in given) or not _trains(context):
            return original(*args, **kwargs)
        return _call_twice(layer, original, (args, kwargs), given, context)

    call.kept = original
    return call


def _trains(context):
    return context is not None and context.get_value('training')


def _call_twice(layer, original, structure, given, context):
    state = [(v, _as_it_is(v)) for v in layer.variables]
    values = [*given, *(value for _, value in state)]
    floats = [i for i, x in enumerate(values) if _is_float(x)]
    notes = {}

    def compute(*tensors):
        now = [*values]
        for i, tensor in zip(floats, tensors, strict=True):
            now[i] = tensor
        args, kwargs = keras.tree.pack_sequence_as(structure, now[: len(given)])
        variables = [v for v, _ in state]
        mapping = list(zip(variables, now[len(given) :], strict=True))
        scope = keras.StatelessScope(mapping, collect_losses=True)
        before = [scope.get_current_value(v) for v, _ in state]
        with _within(context, layer), scope:
            outputs = original(*args, **kwargs)
        after = [scope.get_current_value(v) for v, _ in state]
        flat = keras.tree.flatten(outputs)
        changed = [k for k, x in enumerate(after) if x is not before[k]]
        notes.update(outputs=outputs, changed=changed)
        notes['floats'] = [_is_float(x) for x in flat]
        differentiable = [x for x in flat if _is_float(x)] + list(scope.losses)
        others = [x for x in flat if not _is_float(x)] + [after[k] for k in changed]
        return differentiable, others

    found, others = backends.recomputed(compute, [values[i] for i in floats])
    found, others = list(found), list(others)
    outputs = [(found if f else others).pop(0) for f in notes['floats']]
    for loss in found:
        layer.add_loss(loss)
    for k, value in zip(notes['changed'], others, strict=True):
        state[k][0].assign(value)
    return keras.tree.pack_sequence_as(notes['outputs'], outputs)


@contextmanager
def _within(context, layer):
    """What holds around a layer's call, which the backward pass knows nothing of."""
    before = global_state.get_global_attribute(_CONTEXT)
    global_state.set_global_attribute(_CONTEXT, context)
    try:
        with keras.src.backend.AutocastScope(layer.compute_dtype):
            yield
    finally:
        global_state.set_global_attribute(_CONTEXT, before)


def _as_it_is(variable):
    """A variable's number; a copy if the call itself may assign another."""
    value = ops.convert_to_tensor(variable)
    return value if variable.trainable else ops.copy(value)


def _is_float(x):
    return ops.is_tensor(x) and keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(x.dtype)
    )
