"""Adam as bert4keras has it, and LAMB, which is made of it."""

import keras
from keras import ops

from keraseff import backends
from keraseff.optimizers.extend import extend_with_layer_adaptation
from keraseff.optimizers.extend import extend_with_weight_decay
from keraseff.optimizers.extension import DenseGradients


@keras.saving.register_keras_serializable(package='keraseff')
class Adam(DenseGradients, keras.optimizers.Optimizer):
    """Adam: lr * m / (sqrt(v) + epsilon), of the corrected averages m and v.

    Args:
        bias_correction: whether the averages are divided by 1 - beta ** t.  Without, as
            BERT was pretrained, early steps are up to 6.6 times as long.
        epsilon: 1e-6, added after the correction; Keras' Adam adds its 1e-7 before.

    https://arxiv.org/abs/1412.6980
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
        bias_correction=True,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.bias_correction = bias_correction

    def build(self, variables):
        """Make room for the two moments."""
        if not self.built:
            super().build(variables)
            names = ['momentum', 'velocity']
            self._m, self._v = self.add_optimizer_variables(variables, names)

    def update_step(self, gradient, variable, learning_rate):
        """One step of one weight."""
        index = self._get_variable_index(variable)
        g = ops.cast(gradient, variable.dtype)
        if backends.fuses_adam(variable):
            slots, betas = (self._m[index], self._v[index]), (self.beta_1, self.beta_2)
            step = self.iterations + 1 if self.bias_correction else float('inf')
            backends.fused_adam(
                variable, g, slots, learning_rate, betas, self.epsilon, step
            )
            return
        m, whole_m = self._averaged(self._m[index], g, self.beta_1)
        v, whole_v = self._averaged(self._v[index], ops.square(g), self.beta_2)
        # scalars carry the correction: fewer passes over the weight
        whole = whole_v**0.5
        rate = ops.cast(learning_rate, variable.dtype) * (whole / whole_m)
        self.assign_sub(variable, m * rate / (ops.sqrt(v) + self.epsilon * whole))

    def get_config(self):
        """With the optimizer's arguments."""
        names = 'beta_1', 'beta_2', 'epsilon', 'bias_correction'
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _averaged(self, slot, value, beta):
        """The average, and the sum of the shares in it."""
        self.assign_add(slot, (value - slot) * (1 - beta))
        if not self.bias_correction:
            return ops.convert_to_tensor(slot), 1.0
        t = ops.cast(self.iterations + 1, slot.dtype)
        return ops.convert_to_tensor(slot), 1 - ops.power(ops.cast(beta, t.dtype), t)


LAMB = extend_with_layer_adaptation(extend_with_weight_decay(Adam, 'AdamW'), 'LAMB')
LAMB.__doc__ = """Adam, weight decay, and the length of each update set by its weight's.

Its arguments are those of `Adam`, `WeightDecay` and `LayerAdaptation`.  Keras' `Lamb`
decays before, where the ratio does not see it.  https://arxiv.org/abs/1904.00962
"""
