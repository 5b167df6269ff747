"""KERPLE: scores lowered by a learned function of distance."""

import keras
from keras import ops

from keraseff.layers.position.alibi import DistanceBias
from keraseff.layers.position.alibi import for_each_head

_LEAST = 1e-2


class _Within(keras.constraints.Constraint):
    def __init__(self, most):
        self.most = most

    def __call__(self, w):
        return ops.clip(w, _LEAST, self.most)


class Kerple(DistanceBias):
    """Scores less a learned function of the distance d = |i - j|, one for each head.

    'log': r₁ log(1 + r₂ d); 'power': r₁ d^r₂.  Both kernels are conditionally positive
    definite for r₁ > 0 and r₂ > 0, the second for r₂ ≤ 2; the weights `r1` and `r2`
    (heads,) are kept within 0.01 … ∞ and 0.01 … 2.

    Args:
        head_size: not used; every position takes it.
        heads: number of heads; may be left out where only `bias` is used.
        kind: 'log' or 'power'.

    (b, m, …) -> p (1 or b, heads, m, n) float32.  At first r₁ and r₂ are uniform in
    (0, 2) and (0, 1) with 'log', in (0, 1) and (0, 2) with 'power', as in the authors'
    code.
    Chi et al., KERPLE, 2022, https://arxiv.org/abs/2205.09921
    """

    learned = True

    def __init__(self, head_size=None, heads=None, kind='log', **kwargs):
        super().__init__(head_size, heads, **kwargs)
        if kind not in ('log', 'power'):
            raise ValueError(
                f"Kerple(kind={kind!r}) is unknown; give 'log' or 'power'."
            )
        self.kind = kind

    def build(self, x_shape, position_ids_shape=None, keys_shape=None):
        """Make the weights r1 and r2 (heads,)."""
        self._check_heads()
        log = self.kind == 'log'
        self.r1 = self._number('r1', 2.0 if log else 1.0, float('inf'))
        self.r2 = self._number('r2', 1.0 if log else 2.0, self._most())

    def _most(self):
        return float('inf') if self.kind == 'log' else 2.0

    def _number(self, name, start, most):
        return self.add_weight(
            shape=(self.heads,),
            initializer=keras.initializers.RandomUniform(_LEAST, start),
            constraint=_Within(most),
            autocast=False,
            name=name,
        )

    def of_distance(self, far):
        """-r₁ log(1 + r₂ d), or -r₁ d^r₂."""
        r1 = for_each_head(_inside(self.r1, float('inf')))
        r2 = for_each_head(_inside(self.r2, self._most()))
        far = far[:, None]
        if self.kind == 'log':
            return -r1 * ops.log1p(r2 * far)
        # 0^r has no finite slope in r as a computer sees it: log 0 is in it.
        apart = far > 0
        power = ops.exp(r2 * ops.log(ops.where(apart, far, 1.0)))
        return -r1 * ops.where(apart, power, 0.0)


def _inside(weight, most):
    """The weight within its bounds, with a gradient even where it is at one of them."""
    value = ops.cast(ops.convert_to_tensor(weight), 'float32')
    return value + ops.stop_gradient(ops.clip(value, _LEAST, most) - value)
