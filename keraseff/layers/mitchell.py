"""A dense layer whose products are sums of words."""

from keras import ops

from keraseff.initializers import fresh
from keraseff.layers.base import Layer
from keraseff.layers.base import check_sizes
from keraseff.ops.activations import activation_name
from keraseff.ops.activations import get_activation
from keraseff.ops.mitchell import BACKWARDS
from keraseff.ops.mitchell import mitchell_matmul


class MitchellDense(Layer):
    """activation(x ∘ W + b), each product of x ∘ W approximated by Mitchell's rule.

    Args:
        units: output channels.
        activation: a name, a callable or None.
        use_bias: add b.
        kernel_initializer: of W.
        backward: 'exact' for the gradient of the true products, 'mitchell' for one made
            of Mitchell's products too, so that training needs no multiplication either.
        correct: take the products' bias, 3.8 % too low in the mean, away.

    Raises:
        ValueError: `backward` is another word.

    (…, e) -> (…, units); its weights are those of a `Dense`.  A simulation: slower than
    a `Dense`.  Mogami, 2020, https://arxiv.org/abs/2012.03458
    """

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer='glorot_uniform',
        backward='exact',
        correct=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if backward not in BACKWARDS:
            raise ValueError(f"backward={backward!r}: use 'exact' or 'mitchell'.")
        check_sizes(units=units)
        self.units = units
        self.activation = activation_name(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.backward = backward
        self.correct = correct

    def build(self, input_shape):
        """Make the kernel and the bias."""
        self.kernel = self.add_weight(
            name='kernel',
            shape=(input_shape[-1], self.units),
            initializer=fresh(self.kernel_initializer),
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name='bias', shape=(self.units,), initializer='zeros'
            )

    def compute_output_shape(self, input_shape):
        """(…, e) -> (…, units)."""
        return (*input_shape[:-1], self.units)

    def call(self, x):
        """The layer at each step."""
        kernel = ops.convert_to_tensor(self.kernel)
        x = mitchell_matmul(x, kernel, self.correct, self.backward)
        if self.use_bias:
            x = x + ops.cast(self.bias, x.dtype)
        return get_activation(self.activation)(x)
