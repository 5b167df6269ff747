"""Extensions of the learning rate: over time, and of single weights."""

from keras import ops

from keraseff import backends
from keraseff.optimizers.arguments import check_number
from keraseff.optimizers.arguments import warn_of_none
from keraseff.optimizers.extension import Extension
from keraseff.optimizers.extension import extend
from keraseff.optimizers.extension import register
from keraseff.optimizers.schedules import checked
from keraseff.optimizers.schedules import piecewise_linear
from keraseff.optimizers.schedules import written


@register(package='keraseff')
class PiecewiseLinearLR(Extension):
    """The learning rate, and all that depends on it, times a broken line.

    Args:
        lr_schedule: {step: factor} for `piecewise_linear`, in calls of the optimizer:
            with k accumulated gradients, k to an update.

    `optimizer.learning_rate` is the first factor, which callbacks such as Keras'
    `ReduceLROnPlateau` may read and assign; `scheduled_learning_rate()` gives the
    product.  With `PiecewiseLinear` as its learning rate any optimizer does the same,
    but nothing may be assigned.
    """

    def __init__(self, *args, lr_schedule=None, **kwargs):
        super().__init__(*args, **kwargs)
        self._lr_schedule = written(checked(lr_schedule or {0: 1}, 'lr_schedule'))
        self._updates = 0  # that are being computed

    def scheduled_learning_rate(self):
        """The rate of the next step: the learning rate times its factor."""
        factor = piecewise_linear(self._iterations, self._lr_schedule)
        return super()._get_current_learning_rate() * factor

    def _get_current_learning_rate(self):
        if self._updates:
            return self.scheduled_learning_rate()
        return super()._get_current_learning_rate()

    def _backend_apply_gradients(self, grads, trainable_variables):
        # A number, for mirrored devices compute theirs at a time.
        self._updates += 1
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            self._updates -= 1

    def get_config(self):
        """With the extension's arguments."""
        return {**super().get_config(), 'lr_schedule': dict(self._lr_schedule)}


@register(package='keraseff')
class ParameterWiseLR(Extension):
    """Updates times a factor of their weight's own.

    Args:
        paramwise_lr_schedule: {text: factor}; a weight whose path contains several of
            the texts gets all their factors.

    bert4keras-style layer-wise rates: {'Embedding': 0.1, 'MLM': 10}.
    """

    def __init__(self, *args, paramwise_lr_schedule=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.paramwise_lr_schedule = _factors(paramwise_lr_schedule)

    def build(self, variables):
        """Warn if no text is in any path."""
        if self.built:
            return
        super().build(variables)
        texts = list(self.paramwise_lr_schedule)
        warn_of_none('paramwise_lr_schedule', texts, variables, _contains)

    def update_step(self, gradient, variable, learning_rate):
        """Stretch the update."""
        path, factor = self.path_of(variable), 1.0
        for text, multiplier in self.paramwise_lr_schedule.items():
            factor *= multiplier if text in path else 1.0
        if factor == 1.0:
            super().update_step(gradient, variable, learning_rate)
            return
        old = ops.copy(variable)
        super().update_step(gradient, variable, learning_rate)
        new = ops.convert_to_tensor(variable)
        self.assign(variable, backends.between(old, new, factor))

    def get_config(self):
        """With the extension's arguments."""
        schedule = dict(self.paramwise_lr_schedule)
        return {**super().get_config(), 'paramwise_lr_schedule': schedule}


def extend_with_piecewise_linear_lr(BaseOptimizer, name=None):
    """An optimizer class with `PiecewiseLinearLR`: `lr_schedule={step: factor}`."""
    return extend(BaseOptimizer, PiecewiseLinearLR, name)


def extend_with_parameter_wise_lr(BaseOptimizer, name=None):
    """An optimizer class with `ParameterWiseLR`: `paramwise_lr_schedule={text: x}`."""
    return extend(BaseOptimizer, ParameterWiseLR, name)


def _factors(schedule):
    if not isinstance(schedule, dict | None):
        raise ValueError(
            f'paramwise_lr_schedule={schedule!r} must be a dict of {{text: factor}}'
        )
    for text, factor in (schedule or {}).items():
        check_number(0, **{f'paramwise_lr_schedule[{text!r}]': factor})
    return schedule or {}


def _contains(path, texts):
    return any(text in path for text in texts)
