"""Gradients that are kept from being too long."""

from keras import ops

from keraseff.optimizers.extension import Extension
from keraseff.optimizers.extension import extend
from keraseff.optimizers.extension import norm
from keraseff.optimizers.extension import register

SCALES = {
    'hard': lambda length, gamma: ops.minimum(gamma / length, 1.0),
    'smooth': lambda length, gamma: 1 / (1 + length / gamma),
}


@register(package='keraseff')
class GradientClipping(Extension):
    """Gradients made shorter, in their direction.

    g * min(1, gamma / |g|), or smoothly g * gamma / (|g| + gamma), which lies between
    half of that and the whole of it.

    Args:
        mode: 'hard' or 'smooth'.
        gamma: the length that no gradient exceeds.
        per: 'global' for the length of all gradients together, 'variable' for each one.

    Lengths are taken in float32, after loss scaling and accumulation and before weight
    decay; under `tf.distribute` each replica clips its own, as Keras' `clipnorm` does.
    For a function whose curvature is at most L0 + L1 |g| smooth clipping with a
    learning rate of 1 / L0 and gamma = L0 / L1 is the step that descends most for sure,
    1 / (L0 + L1 |g|); plain descent may diverge there.  Hard global clipping is Keras'
    `global_clipnorm`.  https://arxiv.org/abs/1905.11881, https://kexue.fm/archives/7469
    """

    def __init__(self, *args, mode='hard', gamma=1.0, per='global', **kwargs):
        if mode not in SCALES or per not in ('global', 'variable') or not gamma > 0:
            raise ValueError(
                f"mode={mode!r}, gamma={gamma}, per={per!r}; mode is 'hard' or "
                "'smooth', gamma positive, per 'global' or 'variable'."
            )
        super().__init__(*args, **kwargs)
        self.mode = mode
        self.gamma = gamma
        self.per = per

    def _clip_gradients(self, grads):
        grads = super()._clip_gradients(grads)
        lengths = [norm(g) for g in grads]
        if self.per == 'global':
            lengths = [norm(ops.stack(lengths))] * len(grads)
        return [self._clipped(g, n) for g, n in zip(grads, lengths, strict=True)]

    def _clipped(self, gradient, length):
        scale = SCALES[self.mode](length, self.gamma)
        return ops.cast(ops.cast(gradient, 'float32') * scale, gradient.dtype)

    def get_config(self):
        """With the extension's arguments."""
        own = {'mode': self.mode, 'gamma': self.gamma, 'per': self.per}
        return {**super().get_config(), **own}


def extend_with_gradient_clipping(BaseOptimizer, name=None):
    """An optimizer class with `GradientClipping`: `mode, gamma, per`."""
    return extend(BaseOptimizer, GradientClipping, name)
