"""`StopOnNaN` stops where the loss is not finite, and says what was so first."""

import math
from contextlib import contextmanager

import keras
import numpy as np
from keras import ops

from keraseff import backends
from keraseff.callbacks.arguments import check_generator
from keraseff.callbacks.state import arrays_of
from keraseff.callbacks.state import assign
from keraseff.callbacks.state import random_state
from keraseff.callbacks.state import set_random_state
from keraseff.callbacks.state import variables_of
from keraseff.optimizers.arguments import check_count


class NonFinite(FloatingPointError):
    """The loss, or a weight, is NaN or infinite.

    Attributes:
        step: number of the step, from 0; of the whole training where it was continued.
        layer: name of the layer whose output was the first that is not finite, or None.
        batch: the arrays (inputs, targets) of the step, or None.
    """

    def __init__(self, message, step, layer=None, batch=None):
        super().__init__(message)
        self.step, self.layer, self.batch = step, layer, batch


class StopOnNaN(keras.callbacks.Callback):
    """Raises `NonFinite` when the loss is NaN or infinite, and finds where it began.

    Args:
        batches: the `DataGenerator` whose `forfit()`, or `saver.stream(batches)`, is
            trained on.  Without it the message can only name step and weights.
        every: steps between two copies of weights and optimizer in memory.

    A step costs nothing but a look at the loss.  When it is not finite, the weights go
    back to the last copy, the batches since are made and trained on once more, up to
    the first step whose loss or weights are not finite.  Its batch goes through the
    model layer by layer; so it is known whether inputs, labels, a layer's output, the
    loss or only the gradient went first.  The model is left with the weights before
    that step.  `keras.callbacks.TerminateOnNaN` only ends training.

    Put it behind `Checkpoint`, which saves nothing that is not finite.
    """

    def __init__(self, batches=None, every=200):
        super().__init__()
        check_count(every=every)
        if batches is not None:
            check_generator('StopOnNaN', batches)
        self.batches = batches
        self.every = every

    def on_train_begin(self, logs=None):
        """Forget an earlier training."""
        self._steps, self._taken, self._copy = 0, None, None

    def on_epoch_begin(self, epoch, logs=None):
        """Note where the epoch begins."""
        self._epoch, self._begun = epoch, self._steps

    def on_train_batch_begin(self, batch, logs=None):
        """Copy the weights, once in a while."""
        step = self._begun + batch
        if self._taken is None or step - self._taken >= self.every:
            if self.batches is not None:
                self._copy = arrays_of(self.model), random_state()
            self._taken = step

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss."""
        self._steps = self._begun + batch + 1
        if not math.isfinite((logs or {}).get('loss', 0.0)):
            raise self._found(batch, logs['loss'])

    def _found(self, batch, loss):
        where = f'epoch {self._epoch + 1}, batch {batch}: the loss is {loss}'
        stream = getattr(self.batches, 'running', None)
        first = stream.first if stream is not None else 0
        if stream is None:
            wrong = _listed(_wrong_variables(self.model))
            return NonFinite(
                f'{where}. Weights that are not finite by now: {wrong or "none"}. Give '
                'StopOnNaN the DataGenerator that is trained on to learn what was '
                'first.',
                self._steps - 1,
            )
        self.model.steps_per_execution, self.model.train_function = 1, None
        for step, arrays in zip(
            range(self._taken, self._steps),
            stream.since(first + self._taken),
            strict=False,
        ):
            message, layer = self._again(arrays)
            if message:
                began = f'It began in step {first + step} ({_sizes(arrays)})'
                message = f'{where}. {began}: {message}'
                return NonFinite(message, first + step, layer, arrays)
        return NonFinite(
            f'{where}. It did not happen again when the last steps were repeated, so '
            'they depend on something random that has no seed.',
            first + self._steps - 1,
        )

    def _again(self, arrays):
        """Train on a batch; if that goes wrong, say why and leave the weights."""
        set_copy(self.model, self._copy)
        loss = self.model.train_on_batch(*arrays, return_dict=True)['loss']
        if math.isfinite(loss) and not _wrong_variables(self.model):
            self._copy = arrays_of(self.model), random_state()
            return None, None
        wrong = _wrong_variables(self.model)
        set_copy(self.model, self._copy)
        try:
            return explain(self.model, arrays, loss, wrong)
        finally:
            set_copy(self.model, self._copy)


def set_copy(model, copy):
    """Give a model the weights, optimizer and random states of a copy."""
    assign(variables_of(model), copy[0], 'the copy')
    set_random_state(copy[1])


def explain(model, batch, loss=math.nan, updated=()):
    """What is the first that is not finite in a step of training.

    Args:
        model: compiled, with the weights before the step.
        batch: tuple of inputs, targets and sample weights, as far as there are any.
        loss: of the step.
        updated: names of weights that are not finite after it.

    Returns (sentence, name of the layer or None).
    """
    parts = keras.utils.unpack_x_y_sample_weight(batch)
    for name, part in zip(('inputs', 'labels', 'sample weights'), parts, strict=True):
        if not _finite(part):
            return f'the {name} of the batch are not finite.', None
    wrong = _wrong_variables(model)
    if wrong:
        return f'weights were not finite before it: {_listed(wrong)}.', None
    x, y, sample_weight = parts
    with _watched(model) as seen:
        y_pred = backends.call_in_training(model, keras.tree.map_structure(_tensor, x))
    for layer, inputs, outputs in seen:
        if not _finite(outputs):
            kind = type(layer).__name__
            return (
                f'the output of layer {layer.name!r} ({kind}) is the first that is not '
                f'finite; what goes in lies {_between(inputs)}, its weights '
                f'{_between(getattr(layer, "weights", ()))}.'
            ), layer.name
    plain = model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
    if not _finite(plain):
        return (
            f'all layers are finite, the outputs lie {_between(y_pred)}, and the loss '
            'of them is not.'
        ), None
    if not math.isfinite(loss):
        return (
            'model and compiled loss are finite; what is added in training not.',
            None,
        )
    return (
        'inputs, outputs and loss are finite, but not the gradient, nor after it '
        f'{_listed(updated)}.'
    ), None


@contextmanager
def _watched(model):
    """A list of (layer, inputs, outputs) in the order in which calls end."""
    seen, replaced = [], []

    def watch(layer):
        call = layer.call

        def watching(*args, **kwargs):
            outputs = call(*args, **kwargs)
            seen.append((layer, args, outputs))
            return outputs

        replaced.append((layer, vars(layer).get('call')))
        object.__setattr__(layer, 'call', watching)

    layers = list(model._flatten_layers(include_self=False))
    graphs = [m for m in (model, *layers) if hasattr(m, 'operations')]
    for layer in {id(o): o for m in graphs for o in (*m.operations, *layers)}.values():
        watch(layer)
    try:
        yield seen
    finally:
        for layer, call in replaced:
            vars(layer).pop('call')
            if call is not None:
                object.__setattr__(layer, 'call', call)


def _tensor(x):
    return x if x is None else ops.convert_to_tensor(x)


def _floats(nest):
    """The arrays of floats in a nest."""
    found = []
    for leaf in keras.tree.flatten(nest):
        if hasattr(leaf, 'dtype') and hasattr(leaf, 'shape'):
            array = np.asarray(ops.convert_to_numpy(leaf))
            if array.dtype.kind in 'fV':
                found.append(
                    array.astype('float32') if array.dtype.itemsize < 4 else array
                )
    return found


def _finite(nest):
    return all(np.isfinite(array).all() for array in _floats(nest))


def _between(nest):
    arrays = [array for array in _floats(nest) if array.size]
    if not arrays:
        return 'nowhere (there are none)'
    low, high = min(a.min() for a in arrays), max(a.max() for a in arrays)
    return f'between {low:.3g} and {high:.3g}'


def _wrong_variables(model):
    if hasattr(model, 'jax_state_sync'):
        model.jax_state_sync()
    return [v.path for v in model.variables if not _finite(v)]


def _listed(names, most=3):
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more


def _sizes(batch):
    inputs = [np.shape(a) for a in keras.tree.flatten(batch[0])]
    return 'inputs ' + ', '.join(map(str, inputs))
