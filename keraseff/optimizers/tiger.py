"""Tiger, the optimizer that keeps one number per weight."""

import re

import keras
from keras import ops

from keraseff.optimizers.arguments import check_count
from keraseff.optimizers.arguments import check_number
from keraseff.optimizers.rates import PiecewiseLinearLR


@keras.saving.register_keras_serializable(package='keraseff')
class Tiger(PiecewiseLinearLR, keras.optimizers.Optimizer):
    """Steps along the sign of the averaged gradient, as long as the weight asks.

    w -= lr * s * (sign(m) + weight_decay * w), where s is the root mean square of w, of
    each row of an embedding; for biases, betas and gammas s is 0.5 and nothing decays.

    Args:
        beta: share of the old average in the new.
        weight_decay: relative to the sign's length of 1.
        grad_accum_steps: gradients to an update.  They are added up in the average
            itself, which takes no memory; Keras' `gradient_accumulation_steps` does.
        lr_schedule: {step: factor} for `piecewise_linear`, in gradients.
        shrink_ratio: what a weight whose gradient has a NaN is multiplied by, or a
            gamma's distance from 1; its average stays.  In mixed float16 Keras skips
            such steps before any optimizer sees them.

    https://kexue.fm/archives/9512, https://github.com/bojone/tiger
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta=0.965,
        weight_decay=0.01,
        grad_accum_steps=1,
        lr_schedule=None,
        shrink_ratio=0.99,
        **kwargs,
    ):
        check_count(grad_accum_steps=grad_accum_steps)
        check_number(0, 1, beta=beta, shrink_ratio=shrink_ratio)
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            lr_schedule=lr_schedule,
            **kwargs,
        )
        self.beta = beta
        self.grad_accum_steps = int(grad_accum_steps)
        self.shrink_ratio = shrink_ratio

    def build(self, variables):
        """Make room for the average."""
        if not self.built:
            super().build(variables)
            self._m = self.add_optimizer_variables(variables, 'momentum')

    def update_step(self, gradient, variable, learning_rate):
        """Gather one gradient of a weight, and step if it is the last of its group."""
        path, w = self.path_of(variable), ops.convert_to_tensor(variable)
        lost = ops.any(ops.isnan(gradient))
        m = self._gathered(variable, gradient, lost)
        scale, decay = self._scale(path, w)
        last = ops.equal((self.iterations + 1) % self.grad_accum_steps, 0)
        rate = ops.cast(learning_rate, w.dtype) * ops.cast(last, w.dtype) * scale
        kept = ops.where(lost, self.shrink_ratio, 1 - rate * decay)
        new = kept * w - ops.where(lost, 0.0, rate) * ops.sign(m)
        if 'gamma' in path:
            new = new + ops.where(lost, 1 - self.shrink_ratio, 0.0)
        self.assign(variable, new)

    def get_config(self):
        """With the optimizer's arguments."""
        names = 'beta', 'grad_accum_steps', 'shrink_ratio'
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _gathered(self, variable, gradient, lost):
        slot = self._m[self._get_variable_index(variable)]
        m = ops.convert_to_tensor(slot)
        gradient = ops.where(lost, ops.zeros_like(m), ops.cast(gradient, m.dtype))
        first = ops.equal(self.iterations % self.grad_accum_steps, 0)
        fades = ops.logical_and(first, ops.logical_not(lost))
        share = (1 - self.beta) / self.grad_accum_steps
        m = ops.where(fades, self.beta, 1.0) * m + share * gradient
        self.assign(slot, m)
        return m

    def _scale(self, path, w):
        """The length of an update, and its decay."""
        if re.search('bias|beta|gamma', path):
            return 0.5, 0.0
        axis = -1 if 'embeddings' in path else None
        mean = ops.mean(ops.square(w), axis=axis, keepdims=axis is not None)
        return ops.sqrt(mean), self.weight_decay

    def _apply_weight_decay(self, variables):
        """Nothing: it is a part of the update."""
