"""A gated recurrent cell whose output gate comes last."""

from keras import ops

from keraseff.layers.base import Layer
from keraseff.layers.base import check_sizes


class GRUCellV2(Layer):
    """h = r ∘ c with c = (1 - z) ∘ c' + z ∘ tanh(x W + h' U + b).

    z and r are sigmoids of x and h' as in a GRU; c' and h' are of the step before.

    Args:
        units: numbers in h, and in c.
        use_bias: of both gates and of the candidate.

    A cell for `keras.layers.RNN`: x (b, e), states [h, c] of (b, units) each, the
    output is h.  Each new c lies between the last one and a tanh, and h is no larger,
    so states never leave (-1, 1); the gradient comes back through c, untouched by a
    matrix.  https://kexue.fm/archives/7888
    """

    def __init__(
        self,
        units,
        use_bias=True,
        kernel_initializer='glorot_uniform',
        recurrent_initializer='orthogonal',
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes(units=units)
        self.units = units
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.state_size = [units, units]
        self.output_size = units

    def build(self, input_shape):
        """Make the weights: columns of the update gate, output gate, candidate."""
        wide = 3 * self.units
        self.kernel = self.add_weight(
            shape=(input_shape[-1], wide),
            initializer=self.kernel_initializer,
            name='kernel',
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, wide),
            initializer=self.recurrent_initializer,
            name='recurrent_kernel',
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(wide,), initializer='zeros', name='bias')

    def call(self, inputs, states, training=False):
        """One step: (b, e), [h, c] -> h, [h, c]."""
        h, c = states
        x = ops.matmul(inputs, ops.convert_to_tensor(self.kernel))
        x = x + ops.matmul(h, ops.convert_to_tensor(self.recurrent_kernel))
        if self.use_bias:
            x = x + ops.convert_to_tensor(self.bias)
        z, r, candidate = ops.split(x, 3, axis=-1)
        z, r = ops.sigmoid(z), ops.sigmoid(r)
        c = (1 - z) * c + z * ops.tanh(candidate)
        h = r * c
        return h, [h, c]

    def get_initial_state(self, batch_size=None):
        """Zeros."""
        shape = (batch_size, self.units)
        return [ops.zeros(shape, dtype=self.compute_dtype) for _ in range(2)]
