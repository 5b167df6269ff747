"""Attention whose keys have length 1."""

from keras import ops

from keraseff.layers.attention.normalizers import seen_keys
from keraseff.layers.attention.softmax import Softmax
from keraseff.layers.base import check_not_negative
from keraseff.layers.base import check_positive


class KeyNorm(Softmax):
    """softmax(λ q k̂ᵀ) v with k̂ = k / ‖k‖, and no division by √d.

    A key can be near in direction but not long, which keeps attention from going
    astray on texts longer than those it was trained on.

    Args:
        dropout: share of the weights dropped while training.
        scale: λ; a number, 'learnt' for one of each head's own that starts at 1, or
            'log' for 4 log(l), l the number of keys the query sees.
        cosine: queries get length 1 as well; with scale='log' this is CosA.
        epsilon: added to the squared lengths.

    Raises:
        ValueError: the scale is another word.

    Su, 2023, https://kexue.fm/archives/9859
    """

    scaled = False

    def __init__(self, dropout=0.0, scale=1.0, cosine=False, epsilon=1e-6, **kwargs):
        super().__init__(dropout, **kwargs)
        if isinstance(scale, str) and scale not in ('learnt', 'log'):
            raise ValueError(f"scale={scale!r}: use a number, 'learnt' or 'log'.")
        if not isinstance(scale, str):
            check_positive(scale=scale)
        check_not_negative(epsilon=epsilon)
        self.scale = scale
        self.cosine = cosine
        self.epsilon = epsilon

    def build(self, q_shape, k_shape, v_shape):
        """Make the scales of the heads, if they are learnt."""
        if self.scale == 'learnt':
            self.factor = self.add_weight(
                name='scale', shape=(q_shape[2], 1, 1), initializer='ones'
            )

    def score(self, q, k):
        """(b, m, h, d), (b, n, h, d) -> (b, h, m, n)."""
        q = self._unit(q) if self.cosine else q
        scores = super().score(q, self._unit(k))
        if self.scale == 'log' or self.scale == 1:
            return scores
        factor = self.factor if self.scale == 'learnt' else self.scale
        return scores * ops.cast(factor, scores.dtype)

    def weigh(self, scores, where):
        """The softmax over the keys that may be seen."""
        if self.scale != 'log':
            return super().weigh(scores, where)
        factor = 4 * ops.log(ops.maximum(seen_keys(scores, where), 1.0))
        weights = super().weigh(ops.cast(scores, 'float32') * factor, where)
        return ops.cast(weights, scores.dtype)

    def _unit(self, x):
        dtype = x.dtype
        x = ops.cast(x, 'float32')
        squared = ops.sum(ops.square(x), axis=-1, keepdims=True)
        return ops.cast(x / ops.sqrt(squared + self.epsilon), dtype)
