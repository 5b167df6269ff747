"""Efficient attention: two softmaxes that can be multiplied in any order."""

from keras import ops

from keraseff.layers.attention.linear import TINY
from keraseff.layers.attention.linear import add_step
from keraseff.layers.attention.linear import check_one_length
from keraseff.layers.attention.linear import scaled_exp
from keraseff.layers.attention.mechanism import Mechanism
from keraseff.layers.base import check_sizes
from keraseff.ops.linear_attention import causal_linear_attention
from keraseff.ops.linear_attention import noncausal_linear_attention
from keraseff.ops.linear_attention import running_logsumexp


class EfficientAttention(Mechanism):
    """softmax(q)·(softmax(k)ᵀ v): over the channels of q, over the positions of k.

    Args:
        chunk: steps whose scores are formed at once where it is causal.

    The shares of a query sum to 1 without a division.  Where it is causal, the keys'
    softmax at query i runs over the positions up to i, channel by channel; masking the
    plain form would let the future in through its normaliser.  A `Rotary` position
    turns the features softmax(q) and softmax(k), and the normaliser stays as it is;
    where it is causal, these are softmax(q) / Σ_(j≤i) e^(k_j) and e^k.
    Queries are not scaled by 1 / √d, as in the paper.
    Shen et al., 2018, https://arxiv.org/abs/1812.01243
    """

    scaled = False
    turns_itself = True

    def __init__(self, chunk=64, **kwargs):
        super().__init__(**kwargs)
        check_sizes(chunk=chunk)
        self.chunk = chunk

    def call(self, q, k, v, where, rotation=None):
        """The mixed values (b, m, h, d_v)."""
        dtype = q.dtype
        q, k = ops.cast(q, 'float32'), ops.cast(k, 'float32')
        mix = self._mix_causally if where.causal else self._mix
        return ops.cast(mix(q, k, v, where.padding, rotation), dtype)

    def _mix(self, q, k, v, padding, rotation):
        if padding is not None:
            real = ops.cast(padding, 'bool')[:, :, None, None]
            k = ops.where(real, k, -1e30)
        q, k = ops.softmax(q, axis=-1), _softmax_of_positions(k)
        if rotation is not None:
            q, k = rotation.pair(q, k)
        return noncausal_linear_attention(q, k, v, padding, normalise=False)

    def _mix_causally(self, q, k, v, padding, rotation):
        check_one_length(self, q, k)
        hidden = k
        if padding is not None:
            real = ops.cast(padding, 'bool')[:, :, None, None]
            hidden = ops.where(real, k, -1e30)
        features, turned, logs = _features(q, k, running_logsumexp(hidden), rotation)
        return causal_linear_attention(
            *features,
            v,
            padding,
            logs=logs,
            turned=turned,
            epsilon=TINY,
            chunk=self.chunk,
        )

    def start(self, batch, length, heads, key_size, value_size):
        """Empty sums: the state before the first step."""
        return {
            'states': ops.zeros((batch, heads, key_size, value_size)),
            'total': ops.zeros((batch, heads, key_size)),
            'top': ops.full((batch, heads, 1), -1e30),
            'norm': ops.full((batch, 1, heads, key_size), -1e30),
        }

    def step(self, q, k, v, t, state, rotation=None):
        """Row t of the causal `call`, and the sums with key t."""
        dtype, state = q.dtype, dict(state)
        q, k = ops.cast(q, 'float32'), ops.cast(k, 'float32')
        norm = ops.logaddexp(state.pop('norm'), k)
        features, turned, logs = _features(q, k, norm, rotation)
        mixed, state = add_step(features, turned, v, logs, state, TINY)
        return ops.cast(mixed, dtype), state | {'norm': norm}


def _softmax_of_positions(k):
    if k.shape[1] == 1:  # of which ops.softmax warns
        return ops.ones_like(k)
    return ops.softmax(k, axis=1)


def _features(q, k, norm, rotation):
    """softmax(q) / e^norm and e^k up to factors, the same rotated, the keys' factor."""
    (q, _), (k, logs) = scaled_exp(_log_softmax(q) - norm), scaled_exp(k)
    return (q, k), rotation.pair(q, k) if rotation is not None else None, logs


def _log_softmax(q):
    return q - ops.logsumexp(q, axis=-1, keepdims=True)
