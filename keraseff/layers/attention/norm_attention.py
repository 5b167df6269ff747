"""NormAttention of TransNormer: linear attention without a denominator."""

from keras import ops

from keraseff.layers.attention.linear import check_one_length
from keraseff.layers.attention.mechanism import Mechanism
from keraseff.layers.base import check_not_negative
from keraseff.layers.base import check_sizes
from keraseff.ops.linear_attention import causal_linear_attention
from keraseff.ops.linear_attention import noncausal_linear_attention

ACTIVATIONS = {
    'elu': ops.elu,
    'elu_plus_one': lambda x: ops.elu(x) + 1,
    'relu': ops.relu,
}


class NormAttention(Mechanism):
    """RMS(φ(q) (φ(k)ᵀ v)), x / √(mean x² + ε) over all heads' channels together.

    Args:
        feature_map: φ: 'elu', as in TransNormer T1, 'elu_plus_one', as in T2, or
            'relu'.
        chunk: steps whose scores are formed at once where it is causal.
        epsilon: ε.

    The gradient by a score is at most 3 c₁ c₂ d / (2 √ε), c₁ the largest gradient by an
    output, c₂ the largest value and d the channels; with a denominator it has no bound.
    A `Rotary` position rotates φ(q) and φ(k).  Queries are not scaled by 1 / √d: the
    norm would undo it.
    Raises ValueError where nobody bears the map's name.
    Qin et al., The Devil in Linear Transformer, 2022, https://arxiv.org/abs/2210.10340
    """

    scaled = False
    turns_itself = True

    def __init__(self, feature_map='elu', chunk=64, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        if feature_map not in ACTIVATIONS:
            known = ', '.join(sorted(ACTIVATIONS))
            raise ValueError(
                f'feature_map={feature_map!r} is unknown; there are: {known}.'
            )
        check_sizes(chunk=chunk)
        check_not_negative(epsilon=epsilon)
        self.feature_map = feature_map
        self.chunk = chunk
        self.epsilon = epsilon

    def call(self, q, k, v, where, rotation=None):
        """The mixed values (b, m, h, d_v)."""
        dtype = q.dtype
        q, k = self._features(q, k, rotation)
        if where.causal:
            check_one_length(self, q, k)
            mixed = causal_linear_attention(
                q, k, v, where.padding, normalise=False, chunk=self.chunk
            )
        else:
            mixed = noncausal_linear_attention(q, k, v, where.padding, normalise=False)
        return ops.cast(self._norm(mixed), dtype)

    def _features(self, q, k, rotation):
        act = ACTIVATIONS[self.feature_map]
        q, k = (act(ops.cast(x, 'float32')) for x in (q, k))
        return (q, k) if rotation is None else rotation.pair(q, k)

    def _norm(self, x):
        square = ops.mean(ops.square(x), axis=(-2, -1), keepdims=True)
        return x * ops.rsqrt(square + self.epsilon)

    def start(self, batch, length, heads, key_size, value_size):
        """An empty sum: the state before the first step."""
        return {'states': ops.zeros((batch, heads, key_size, value_size))}

    def step(self, q, k, v, t, state, rotation=None):
        """Row t of the causal `call`, and the sum with key t."""
        dtype = q.dtype
        q, k = (x[:, 0] for x in self._features(q, k, rotation))
        v = ops.cast(v[:, 0], 'float32')
        states = state['states'] + k[..., :, None] * v[..., None, :]
        mixed = ops.einsum('bhf,bhfd->bhd', q, states)[:, None]
        return ops.cast(self._norm(mixed), dtype), {'states': states}
