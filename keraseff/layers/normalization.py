"""Normalisation over channels, scale and offset, and their dependence on a vector."""

import keras
from keras import ops
from keras.layers import Dense

from keraseff import backends
from keraseff.initializers import fresh
from keraseff.layers.base import Layer
from keraseff.ops import get_activation


class ScaleOffset(Layer):
    """x γ + β, the two learned, or dependent on a vector c as well.

    Args:
        scale, offset: whether γ and β are there.
        conditional: γ and β grow by linear maps of `cond`, zero at first, so that a
            pretrained model computes what it did before.
        hidden_units: pass `cond` through a Dense of that many units first.
        hidden_activation: its activation.

    Call arguments: `x` (b, …, e); `cond` (b, c) where `conditional`.

    (b, …, e) -> (b, …, e).  Conditional: https://kexue.fm/archives/7124
    """

    def __init__(
        self,
        scale=True,
        offset=True,
        conditional=False,
        hidden_units=None,
        hidden_activation='linear',
        hidden_initializer='glorot_uniform',
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.conditional = conditional
        self.hidden_units = hidden_units
        self.hidden_activation = hidden_activation
        self.hidden_initializer = hidden_initializer

    def build(self, x_shape, cond_shape=None):
        """Make γ, β and, where conditional, the maps of the condition."""
        size = x_shape[-1:]
        if self.offset:
            self.beta = self.add_weight(shape=size, initializer='zeros', name='beta')
        if self.scale:
            self.gamma = self.add_weight(shape=size, initializer='ones', name='gamma')
        if self.conditional:
            self._build_conditional(size[0], cond_shape)

    def _build_conditional(self, size, cond_shape):
        if cond_shape is None:
            raise ValueError(f'{self.name} is conditional: call it with cond=….')
        if self.hidden_units:
            self.hidden_dense = Dense(
                self.hidden_units,
                activation=get_activation(self.hidden_activation),
                use_bias=False,
                kernel_initializer=fresh(self.hidden_initializer),
                dtype=self.dtype_policy,
                name='hidden',
            )
            self.hidden_dense.build(cond_shape)
            cond_shape = (*cond_shape[:-1], self.hidden_units)
        if self.offset:
            self.beta_dense = self._zero_dense(size, 'beta_map', cond_shape)
        if self.scale:
            self.gamma_dense = self._zero_dense(size, 'gamma_map', cond_shape)

    def _zero_dense(self, units, name, shape):
        dense = Dense(
            units,
            use_bias=False,
            kernel_initializer='zeros',
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(shape)
        return dense

    def call(self, x, cond=None):
        """Scale and shift."""
        gamma, beta = self._factors(cond, len(x.shape))
        if gamma is not None:
            x = x * gamma
        return x if beta is None else x + beta

    def _factors(self, cond, ndim):
        gamma = ops.convert_to_tensor(self.gamma) if self.scale else None
        beta = ops.convert_to_tensor(self.beta) if self.offset else None
        if not self.conditional:
            return gamma, beta
        if cond is None:
            raise ValueError(f'{self.name} is conditional: call it with cond=….')
        if self.hidden_units:
            cond = self.hidden_dense(cond)
        for _ in range(ndim - len(cond.shape)):
            cond = ops.expand_dims(cond, 1)
        gamma = gamma + self.gamma_dense(cond) if self.scale else None
        beta = beta + self.beta_dense(cond) if self.offset else None
        return gamma, beta


class LayerNormalization(ScaleOffset):
    """(x - mean) / √(variance + ε) γ + β over the last axis, in float32.

    Args:
        zero_mean: subtract the mean; False gives RMSNorm.
        unit_variance: divide by the deviation.
        epsilon: ε; Keras' epsilon, 1e-7, by default.

    The other arguments are those of `ScaleOffset`.

    (b, …, e) -> (b, …, e).
    https://arxiv.org/abs/1607.06450, RMSNorm https://arxiv.org/abs/1910.07467
    """

    def __init__(self, zero_mean=True, unit_variance=True, epsilon=None, **kwargs):
        super().__init__(**kwargs)
        self.zero_mean = zero_mean
        self.unit_variance = unit_variance
        self.epsilon = keras.backend.epsilon() if epsilon is None else epsilon

    def call(self, x, cond=None):
        """Normalise, scale and shift."""
        dtype = x.dtype
        x = ops.cast(x, 'float32')
        if self.zero_mean and self.unit_variance and backends.fuses_attention():
            return ops.cast(self._fused(x, cond), dtype)
        if self.zero_mean:
            x = x - ops.mean(x, axis=-1, keepdims=True)
        if self.unit_variance:
            variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
            x = x * ops.rsqrt(variance + self.epsilon)
        gamma, beta = self._factors(cond, len(x.shape))
        if gamma is not None:
            x = x * ops.cast(gamma, 'float32')
        if beta is not None:
            x = x + ops.cast(beta, 'float32')
        return ops.cast(x, dtype)

    def _fused(self, x, cond):
        if self.conditional:
            x = backends.fused_normalization(x, None, None, self.epsilon)
        factors = self._factors(cond, len(x.shape))
        factors = [f if f is None else ops.cast(f, 'float32') for f in factors]
        if not self.conditional:
            return backends.fused_normalization(x, *factors, self.epsilon)
        x = x if factors[0] is None else x * factors[0]
        return x if factors[1] is None else x + factors[1]
