"""The only place that asks which backend runs."""

from importlib import import_module

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import global_seed_generator

from keraseff.backends.kernels import add_matmul
from keraseff.backends.kernels import add_rows
from keraseff.backends.kernels import adds_rows
from keraseff.backends.kernels import assign_in_place
from keraseff.backends.kernels import between
from keraseff.backends.kernels import dropout
from keraseff.backends.kernels import drops_out
from keraseff.backends.kernels import fused_adam
from keraseff.backends.kernels import fused_attention
from keraseff.backends.kernels import fused_normalization
from keraseff.backends.kernels import fuses_adam
from keraseff.backends.kernels import fuses_attention


def compiles_scan():
    """Whether XLA can differentiate `keras.ops.scan` on this backend.

    Under TensorFlow it cannot: the loop's length is not known to the compiler.
    """
    return keras.config.backend() != 'tensorflow'


def empty(shape, dtype=None):
    """A tensor of any content, for numbers that are overwritten.

    Args:
        shape: a tuple.
        dtype: its name; Keras' floatx by default.
    """
    if keras.config.backend() == 'tensorflow':
        from keraseff.backends import tensorflow

        # Keras' own gives zeros, which take memory at once.
        return tensorflow.empty(shape, dtype or keras.config.floatx())
    return keras.ops.empty(shape, dtype=dtype)


def fill(variable, array):
    """Give a Keras variable the numbers of an array, with no more copies than needed.

    Args:
        variable: a `keras.Variable`.
        array: numpy, of its shape; read-only ones and bfloat16 are fine.
    """
    if keras.config.backend() == 'torch':
        from keraseff.backends import torch

        torch.fill(variable, array)
    elif getattr(variable, '_layout', None) is not None:
        from keraseff.backends.distribution import jax

        variable.assign(jax.spread(variable, array))
    else:
        variable.assign(array)


def call_in_training(model, x):
    """model(x) as in training; models whose `call` knows no `training` do without."""
    if getattr(model, '_call_has_training_arg', True):
        return model(x, training=True)
    return model(x)


def dense(gradient):
    """A gradient, which TensorFlow may give by rows, as one tensor."""
    if keras.config.backend() == 'tensorflow':
        from keraseff.backends import tensorflow

        return tensorflow.dense(gradient)
    return keras.ops.convert_to_tensor(gradient, sparse=False)


def differentiate(function, values, again=False):
    """A scalar's gradients with respect to tensors.

    Args:
        function: *values -> (scalar, aux); pure, for JAX traces it.
        values: list of float tensors.
        again: whether the gradients will be differentiated.

    -> (aux, gradients): dense tensors, zero where the scalar does not depend on one.
    """
    return _backend().differentiate(function, values, again)


def set_objective(model, objective, batch, constants=()):
    """Make `model.fit` minimise `objective(batch(model, x, y, sample_weight))`.

    Args:
        model: a compiled `keras.Model`.
        objective: gives (loss, y_pred); None for Keras' own loss.
        batch: makes its argument.
        constants: variables that are not the model's and that the objective reads;
            XLA would else compile their numbers into the step.
    """
    for name in _REPLACED:
        vars(model).pop(name, None)
    if objective is not None:
        model.objective = objective
        _backend().set_objective(
            model, lambda *data: objective(batch(model, *data)), list(constants)
        )
    model.train_function = None
    if hasattr(model, '_jax_state_synced'):
        model.jax_state_sync()


def repeatable():
    """A scope after which the framework's own random state is what it was before.

    Dropout without a seed draws from it on PyTorch; elsewhere all states are variables.
    """
    return _backend().repeatable()


def without_gradients():
    """A scope whose results are constants to whoever differentiates, where it can.

    It saves the memory of the way back on PyTorch; others need `ops.stop_gradient`.
    """
    return _backend().without_gradients()


def name():
    """The backend's, for records; what differs between them is a function here."""
    return keras.config.backend()


def devices():
    """The kinds of the devices that the backend computes on, such as `NVIDIA H100`."""
    return _backend().devices()


def random_state():
    """{name: array} of what is drawn from without a seed, by Keras or the framework."""
    state = _backend().random_state()
    shared = global_state.get_global_attribute('global_seed_generator')
    if shared is not None:
        state['keras'] = np.array(keras.ops.convert_to_numpy(shared.state))
    return state


def set_random_state(state):
    """Go back to what `random_state` gave."""
    state = dict(state)
    seed = state.pop('keras', None)
    if seed is not None:
        global_seed_generator().state.assign(seed)
    _backend().set_random_state(state)


def fit_input(stream):
    """Batches without end as `model.fit` takes them, where each is kept as it is.

    Args:
        stream: a `keraseff.data.stream.Stream`; each `iter()` of it begins anew.
    """
    return _backend().fit_input(stream)


def recomputed(function, values):
    """A function's value, of which nothing is kept for its gradients but `values`.

    Args:
        function: *values -> (float tensors, other tensors), two lists; it runs again in
            the backward pass, where its second result is not looked at.
        values: list of float tensors; all that gradients are to flow into.

    -> (float tensors, other tensors).
    """
    return _backend().recomputed(function, values)


def compiled(function):
    """A function of nests of tensors, compiled where the backend does so.

    Variables that it reads and that do not come as arguments, or through a
    `StatelessScope`, are constants of the first call on JAX.
    """
    return _backend().compiled(function)


# What `set_objective` puts on a model itself, in place of its class's.
_REPLACED = (
    'objective',
    'train_step',
    'compute_loss_and_updates',
    'make_train_function',
)


def _backend():
    return import_module(f'keraseff.backends.{keras.config.backend()}')


__all__ = [
    'add_matmul',
    'add_rows',
    'adds_rows',
    'assign_in_place',
    'between',
    'call_in_training',
    'compiled',
    'compiles_scan',
    'dense',
    'devices',
    'differentiate',
    'empty',
    'fill',
    'fit_input',
    'dropout',
    'drops_out',
    'fused_adam',
    'fused_attention',
    'fuses_adam',
    'fused_normalization',
    'fuses_attention',
    'name',
    'random_state',
    'recomputed',
    'repeatable',
    'set_objective',
    'set_random_state',
    'without_gradients',
]
