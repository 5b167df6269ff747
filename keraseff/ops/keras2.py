"""Keras 2's backend functions by their old names, over `keras.ops`.

User scripts written for bert4keras compute with `K.sum`, `K.int_shape`, `K.gather`.
A name that `keras.ops` still has is that function; a renamed one stands below; one
whose idea is gone says what to write instead.
"""

import math

import keras
from keras import ops

from keraseff.ops import shapes

_GONE = {
    'gradients': 'override train_step of a keras.Model and differentiate there',
    'function': 'use a keras.Model of the same inputs and outputs',
    'get_session': 'leave it out, every Keras 3 backend runs eagerly',
    'set_session': 'leave it out, every Keras 3 backend runs eagerly',
    'in_train_phase': "use the layer's `training` call argument",
    'in_test_phase': "use the layer's `training` call argument",
    'learning_phase': "use the layer's `training` call argument",
    'set_learning_phase': "use the layer's `training` call argument",
    'placeholder': 'use keras.Input',
    'rnn': 'use keras.ops.scan',
}


class _Keras2Backend:
    """The namespace behind `K`."""

    epsilon = staticmethod(keras.backend.epsilon)
    floatx = staticmethod(keras.backend.floatx)
    set_floatx = staticmethod(keras.backend.set_floatx)
    clear_session = staticmethod(keras.backend.clear_session)
    is_keras_tensor = staticmethod(keras.backend.is_keras_tensor)
    image_data_format = staticmethod(keras.backend.image_data_format)
    name_scope = staticmethod(keras.name_scope)
    flatten = staticmethod(shapes.flatten)
    gather = staticmethod(
        lambda reference, indices: ops.take(reference, indices, axis=0)
    )
    permute_dimensions = staticmethod(ops.transpose)
    pow = staticmethod(ops.power)
    repeat_elements = staticmethod(ops.repeat)
    update = staticmethod(lambda variable, value: variable.assign(value))
    update_add = staticmethod(lambda variable, value: variable.assign_add(value))
    update_sub = staticmethod(lambda variable, value: variable.assign_sub(value))
    eval = staticmethod(ops.convert_to_numpy)
    get_value = staticmethod(ops.convert_to_numpy)

    def __getattr__(self, name):
        if hasattr(ops, name):
            return getattr(ops, name)
        if name in _GONE:
            raise AttributeError(f'K.{name} is gone in Keras 3: {_GONE[name]}.')
        raise AttributeError(f'K.{name} is unknown; see keras.ops.')

    @staticmethod
    def int_shape(x):
        """The static shape as a tuple, None where a size is free."""
        return tuple(x.shape)

    @staticmethod
    def ndim(x):
        """The number of axes."""
        return len(x.shape)

    @staticmethod
    def dtype(x):
        """The dtype's name."""
        return keras.backend.standardize_dtype(x.dtype)

    @staticmethod
    def prod(x, axis=None, keepdims=False):
        """The product; of a shape's static sizes as an integer, fit to reshape with."""
        if isinstance(x, list | tuple) and all(isinstance(i, int) for i in x):
            return math.prod(x)
        return ops.prod(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def constant(value, dtype=None, shape=None):
        """A tensor of a value, repeated to a shape if one is given."""
        x = ops.convert_to_tensor(value, dtype=dtype or keras.backend.floatx())
        return x if shape is None else ops.broadcast_to(x, shape)

    @staticmethod
    def variable(value, dtype=None, name=None):
        """A trainable variable."""
        return keras.Variable(value, dtype=dtype or keras.backend.floatx(), name=name)

    @staticmethod
    def set_value(variable, value):
        """Assign."""
        variable.assign(value)

    @staticmethod
    def batch_get_value(variables):
        """The values of several variables as numpy arrays."""
        return [ops.convert_to_numpy(v) for v in variables]

    @staticmethod
    def batch_set_value(pairs):
        """Assign each (variable, value)."""
        for variable, value in pairs:
            variable.assign(value)

    @staticmethod
    def l2_normalize(x, axis=None):
        """x / ‖x‖ over an axis."""
        norm = ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=True))
        return x / ops.maximum(norm, keras.backend.epsilon())

    @staticmethod
    def batch_dot(x, y, axes=None):
        """The product of each pair in the batch, summed over one axis of each."""
        if axes is None:
            return ops.matmul(x, y)
        a, b = (axes, axes) if isinstance(axes, int) else axes
        last = 'abcdefgh'
        left = list(last[: len(x.shape)])
        right = ['a', *'ijklmnop'[: len(y.shape) - 1]]
        right[b] = left[a]
        kept = [c for c in left if c != left[a]] + [
            c for c in right[1:] if c != left[a]
        ]
        return ops.einsum(f'{"".join(left)},{"".join(right)}->{"".join(kept)}', x, y)

    @staticmethod
    def switch(condition, then, otherwise):
        """`then` where the condition holds, `otherwise` elsewhere."""
        return ops.where(condition, then, otherwise)

    @staticmethod
    def temporal_padding(x, padding=(1, 1)):
        """Zeros before and after the sequence."""
        return ops.pad(x, ((0, 0), tuple(padding), (0, 0)))

    @staticmethod
    def random_uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
        """Uniform random numbers."""
        return keras.random.uniform(shape, minval, maxval, dtype, seed)

    @staticmethod
    def random_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
        """Normal random numbers."""
        return keras.random.normal(shape, mean, stddev, dtype, seed)

    @staticmethod
    def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
        """Normal random numbers within two deviations."""
        return keras.random.truncated_normal(shape, mean, stddev, dtype, seed)

    @staticmethod
    def random_binomial(shape, p=0.0, dtype=None, seed=None):
        """Ones with probability p, zeros otherwise."""
        drawn = keras.random.uniform(shape, seed=seed) < p
        return ops.cast(drawn, dtype or keras.backend.floatx())


K = _Keras2Backend()
