"""The position-wise network of a Transformer block."""

from keras.layers import Dense

from keraseff.initializers import fresh
from keraseff.layers.base import Layer
from keraseff.ops.activations import activation_name
from keraseff.ops.activations import get_activation


class FeedForward(Layer):
    """activation(x W_1) W_2, or (Π_k activation_k(x W_1k)) W_2 for several activations.

    Args:
        units: inner channels.
        activation: a name, or a list of names for a gated unit: ['gelu', 'linear'] is
            the GEGLU of T5.1.1, ['swish', 'linear'] SwiGLU.
        use_bias: biases in all projections.

    (b, n, e) -> (b, n, e).
    https://arxiv.org/abs/1706.03762, gated https://arxiv.org/abs/2002.05202
    """

    def __init__(
        self,
        units,
        activation='relu',
        use_bias=True,
        kernel_initializer='glorot_uniform',
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        several = isinstance(activation, list | tuple)
        names = [activation_name(a) for a in activation] if several else None
        self.activation = names or activation_name(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape):
        """Make the projections."""
        names = self.activation
        names = names if isinstance(names, list) else [names]
        self.inner = []
        for k, activation in enumerate(names):
            name = f'intermediate_{k}' if k else 'intermediate'
            dense = self._projection(self.units, name, get_activation(activation))
            dense.build(input_shape)
            self.inner.append(dense)
        self.outer = self._projection(input_shape[-1], 'output')
        self.outer.build((*input_shape[:-1], self.units))

    def _projection(self, units, name, activation=None):
        return Dense(
            units,
            activation=activation,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, x):
        """The network at each step."""
        inner = self.inner[0](x)
        for gate in self.inner[1:]:
            inner = inner * gate(x)
        return self.outer(inner)
