"""What is written for JAX alone."""

from contextlib import nullcontext

import jax
import keras


def differentiate(function, values, again):
    """See `keraseff.backends.differentiate`."""
    places = tuple(range(len(values)))
    gradient = jax.grad(function, argnums=places, has_aux=True)
    gradients, aux = gradient(*values)
    return aux, list(gradients)


def set_objective(model, objective, constants):
    """See `keraseff.backends.set_objective`."""
    plain = type(model).compute_loss_and_updates
    fixed = []

    def compute_loss_and_updates(
        trainable, non_trainable, metrics, x, y, sample_weight,
        training=False, optimizer_variables=None,
    ):  # fmt: skip
        if not training:
            return plain(
                model, trainable, non_trainable, metrics, x, y, sample_weight,
                training, optimizer_variables,
            )  # fmt: skip
        mapping = [
            *zip(model.trainable_variables, trainable, strict=True),
            *zip(model.non_trainable_variables, non_trainable, strict=True),
            *zip(model.metrics_variables, metrics, strict=True),
            *zip(model.optimizer.variables, optimizer_variables, strict=True),
            *fixed,
        ]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            loss, y_pred = objective(x, y, sample_weight)
            scaled = model.optimizer.scale_loss(loss)
        now = scope.get_current_value
        return scaled, (
            loss,
            y_pred,
            [now(v) for v in model.non_trainable_variables],
            [now(v) for v in model.metrics_variables],
        )

    model.compute_loss_and_updates = compute_loss_and_updates
    if constants:
        _pass_constants(model, constants, fixed)


def _pass_constants(model, constants, fixed):
    """Hand them to each compiled step beside its data, and leave the pairs in `fixed`.

    The step is compiled with state and data as its only arguments.
    """
    kind = type(model)

    def train_step(state, data):
        data, values = data
        fixed[:] = zip(constants, values, strict=True)
        try:
            return kind.train_step(model, state, data)
        finally:
            fixed.clear()

    def make_train_function(force=False):
        if model.train_function is not None and not force:
            return
        kind.make_train_function(model, force=True)
        step = model.train_function
        model.train_function = lambda state, batches: step(
            state, _Beside(batches, [v.value for v in constants])
        )

    model.train_step = train_step
    model.make_train_function = make_train_function


class _Beside:
    """Batches, each with the same further values."""

    def __init__(self, batches, values):
        self.batches, self.values = batches, values

    def __next__(self):
        return next(self.batches), self.values


repeatable = nullcontext
without_gradients = nullcontext


def random_state():
    """See `keraseff.backends.random_state`; JAX itself has none."""
    return {}


def set_random_state(state):
    """See `keraseff.backends.set_random_state`."""


def fit_input(stream):
    """See `keraseff.backends.fit_input`."""
    return iter(stream)


def recomputed(function, values):
    """See `keraseff.backends.recomputed`."""
    return jax.checkpoint(function)(*values)


def devices():
    """See `keraseff.backends.devices`."""
    return [device.device_kind for device in jax.devices()]


def compiled(function):
    """See `keraseff.backends.compiled`."""
    return jax.jit(function)
