"""AdaFactor, with factored second moments and bert4keras' arguments."""

import keras
import numpy as np
from keras import ops

from keraseff.optimizers.arguments import as_patterns
from keraseff.optimizers.arguments import warn_of_none
from keraseff.optimizers.extension import DenseGradients
from keraseff.optimizers.extension import matches


@keras.saving.register_keras_serializable(package='keraseff')
class AdaFactor(DenseGradients, keras.optimizers.Optimizer):
    """Adam whose second moment of a matrix is a column times a row.

    Args:
        learning_rate: None for min(1 / sqrt(t), 0.01), a twentieth of that without
            `multiply_by_parameter_scale`.
        beta1: of the first moment; 0 keeps none.
        beta2: of the second; None for 1 - t ** -0.8.
        epsilon1: added to squares.
        epsilon2: the least scale of a weight.
        multiply_by_parameter_scale: whether updates are proportional to their weight's
            root mean square.
        clipping_threshold: for the root mean square of the update without lr.
        min_dim_size_to_factor: weights whose second largest axis is shorter have a
            whole second moment.
        exclude_from_parameter_scale: regular expressions, searched in a weight's path.

    Keras' `Adafactor` keeps whole second moments beside the factors, no first ones, and
    factors the last two axes whatever their size.  https://arxiv.org/abs/1804.04235
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta1=0.0,
        beta2=None,
        epsilon1=1e-30,
        epsilon2=1e-3,
        multiply_by_parameter_scale=True,
        clipping_threshold=1.0,
        min_dim_size_to_factor=128,
        exclude_from_parameter_scale=(),
        **kwargs,
    ):
        # Keras wants some number; None is remembered and answered below.
        relative = learning_rate is None
        super().__init__(learning_rate=0.01 if relative else learning_rate, **kwargs)
        self.relative = relative
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon1 = epsilon1
        self.epsilon2 = epsilon2
        self.multiply_by_parameter_scale = multiply_by_parameter_scale
        self.clipping_threshold = clipping_threshold
        self.min_dim_size_to_factor = min_dim_size_to_factor
        self.exclude_from_parameter_scale = as_patterns(
            'exclude_from_parameter_scale', exclude_from_parameter_scale
        )

    def build(self, variables):
        """Make room for the moments: a list of factors for each weight."""
        if self.built:
            return
        super().build(variables)
        self._m = None
        if self.beta1:
            self._m = self.add_optimizer_variables(variables, 'momentum')
        self._v = [self._factors(v) for v in variables]
        texts = self.exclude_from_parameter_scale
        warn_of_none('exclude_from_parameter_scale', texts, variables, matches)

    def update_step(self, gradient, variable, learning_rate):
        """One step of one weight, in float32."""
        index = self._get_variable_index(variable)
        g = ops.cast(gradient, 'float32')
        v = self._second_moment(index, ops.square(g) + self.epsilon1)
        u = g / ops.sqrt(v + self.epsilon1)
        u = u / ops.maximum(1.0, _rms(u) / self.clipping_threshold)
        if self._m is not None:
            u = self._averaged(self._m[index], u, self.beta1)
        rate = ops.cast(learning_rate, 'float32')
        if self._scaled(index):
            rate = rate * ops.maximum(_rms(variable), self.epsilon2)
        self.assign_sub(variable, ops.cast(rate * u, variable.dtype))

    def get_config(self):
        """With the optimizer's arguments."""
        config = super().get_config()
        names = (
            'beta1',
            'beta2',
            'epsilon1',
            'epsilon2',
            'multiply_by_parameter_scale',
            'clipping_threshold',
            'min_dim_size_to_factor',
        )
        config.update({name: getattr(self, name) for name in names})
        excluded = list(self.exclude_from_parameter_scale)
        config['exclude_from_parameter_scale'] = excluded
        if self.relative:
            config['learning_rate'] = None
        return config

    def _get_current_learning_rate(self):
        if not self.relative:
            return super()._get_current_learning_rate()
        t = ops.cast(self.iterations + 1, 'float32')
        rate = ops.minimum(1 / ops.sqrt(t), 0.01)
        return rate if self.multiply_by_parameter_scale else 0.05 * rate

    def _factors(self, variable):
        shape = tuple(variable.shape)
        shapes = [shape]
        axes = self._axes(shape)
        if axes is not None:
            shapes = [
                tuple(1 if i == a else n for i, n in enumerate(shape)) for a in axes
            ]
        return [self._slot(variable, s, i) for i, s in enumerate(shapes)]

    def _slot(self, variable, shape, i):
        name = f'{variable.path.replace("/", "_")}_velocity_{i}'
        return self.add_variable(shape=shape, dtype='float32', name=name)

    def _axes(self, shape):
        """The largest and the second largest axis, if that is long enough."""
        if len(shape) < 2:
            return None
        second, first = np.argsort(shape, kind='stable')[-2:].tolist()
        return (first, second) if shape[second] >= self.min_dim_size_to_factor else None

    def _second_moment(self, index, squares):
        beta = self.beta2
        if beta is None:
            beta = 1 - ops.power(ops.cast(self.iterations + 1, 'float32'), -0.8)
        slots = self._v[index]
        if len(slots) == 1:
            return self._averaged(slots[0], squares, beta)
        axes = self._axes(tuple(squares.shape))
        row, column = (
            self._averaged(slot, ops.mean(squares, axis=axis, keepdims=True), beta)
            for slot, axis in zip(slots, axes, strict=True)
        )
        return row * column / ops.mean(row, axis=axes[1], keepdims=True)

    def _averaged(self, slot, value, beta):
        average = ops.cast(slot, 'float32') * beta + value * (1 - beta)
        self.assign(slot, ops.cast(average, slot.dtype))
        return average

    def _scaled(self, index):
        path = self._trainable_variables[index].path
        excluded = matches(path, self.exclude_from_parameter_scale)
        return self.multiply_by_parameter_scale and not excluded


def _rms(x):
    return ops.sqrt(ops.mean(ops.square(ops.cast(x, 'float32'))))
