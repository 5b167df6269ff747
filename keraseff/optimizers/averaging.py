"""Moving averages of the weights, to be looked at and taken off again."""

from functools import partial

import numpy as np
from keras import ops

from keraseff import backends
from keraseff.optimizers.arguments import check_number
from keraseff.optimizers.extension import Extension
from keraseff.optimizers.extension import extend
from keraseff.optimizers.extension import register


@register(package='keraseff')
class ExponentialMovingAverage(Extension):
    """Averages of the weights after each update, which the model can put on.

    Args:
        ema_momentum: share of the old average in the new.

    `apply_ema_weights()` gives them to the model, `reset_old_weights()` takes them off.
    The slots are those of Keras' `use_ema`.  But the averages do not begin with the
    first weights, which Keras' contain for long: they are divided by the sum of the
    powers of the momentum instead.  And `fit` does not end with them on.
    https://kexue.fm/archives/6575
    """

    def __init__(self, *args, ema_momentum=0.999, **kwargs):
        if kwargs.get('ema_overwrite_frequency'):
            raise ValueError(
                f'ema_overwrite_frequency={kwargs["ema_overwrite_frequency"]}: these '
                "averages are never trained on; use Keras' use_ema=True for that."
            )
        check_number(0, below=1, ema_momentum=ema_momentum)
        kwargs['use_ema'] = True
        super().__init__(*args, ema_momentum=ema_momentum, **kwargs)
        self._put_back = None

    def apply_ema_weights(self, bias_correction=True):
        """Give the model its averages; before the first update, do nothing.

        Args:
            bias_correction: divide by 1 - ema_momentum ** updates, without which the
                averages lie near zero at first.
        """
        updates = int(self.iterations)
        if updates == 0:
            return
        self.reset_old_weights()
        whole = 1 - self.ema_momentum**updates if bias_correction else 1.0
        pairs = [
            (variable, ops.convert_to_numpy(average) / whole)
            for variable, average in self._averages()
        ]
        # Callables are not tracked as parts of the optimizer; lists of arrays are.
        self._put_back = partial(
            _assign, [(v, np.array(ops.convert_to_numpy(v))) for v, _ in pairs]
        )
        _assign(pairs)

    def reset_old_weights(self):
        """Give the model back what it had before `apply_ema_weights`."""
        if self._put_back is not None:
            self._put_back()
            self._put_back = None

    def finalize_variable_values(self, var_list):
        """Nothing: the end of `fit` leaves the weights as they were trained."""

    def _averages(self):
        pairs = zip(
            self._trainable_variables, self._model_variables_moving_average, strict=True
        )
        return [(v, average) for v, average in pairs if average is not None]

    def _update_model_variables_moving_average(self, trainable_variables):
        group = self.gradient_accumulation_steps or 1
        due = ops.equal((self._iterations + 1) % group, 0)
        for variable, average in self._averages():
            share = ops.cast(due, average.dtype) * (1 - self.ema_momentum)
            old, new = map(ops.convert_to_tensor, (average, variable))
            self.assign(average, backends.between(old, new, share))


def extend_with_exponential_moving_average(BaseOptimizer, name=None):
    """An optimizer class with `ExponentialMovingAverage`: `ema_momentum`."""
    return extend(BaseOptimizer, ExponentialMovingAverage, name)


def _assign(pairs):
    for variable, value in pairs:
        variable.assign(value)
