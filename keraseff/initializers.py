"""Initializers: a fresh copy for each weight, none at all, a table of sinusoids."""

import contextlib
import contextvars
import math

import keras
import numpy as np

from keraseff import backends


def fresh(initializer):
    """A new copy of an initializer, drawing numbers of its own.

    One unseeded Keras initializer object returns the same numbers each time it is
    called, so handing one object to the query, key and value projections would make
    them identical.
    """
    initializer = keras.initializers.get(initializer)
    return initializer.clone() if hasattr(initializer, 'clone') else initializer


_UNFILLED = contextvars.ContextVar('unfilled', default=False)


@contextlib.contextmanager
def unfilled(wanted=True):
    """Within it, our `TruncatedNormal` draws nothing, for a file will overwrite it.

    Drawing half a billion numbers takes longer than reading them.
    """
    token = _UNFILLED.set(wanted)
    try:
        yield
    finally:
        _UNFILLED.reset(token)


@keras.saving.register_keras_serializable(package='keraseff')
class TruncatedNormal(keras.initializers.TruncatedNormal):
    """Keras' TruncatedNormal, whose numbers are any at all inside `unfilled()`."""

    def __call__(self, shape, dtype=None):
        """The numbers as a tensor of that shape and dtype."""
        if _UNFILLED.get():
            return backends.empty(shape, dtype=dtype)
        return super().__call__(shape, dtype=dtype)


@keras.saving.register_keras_serializable(package='keraseff')
class Sinusoidal(keras.initializers.Initializer):
    """A table (positions, channels) of interleaved sines and cosines.

    https://arxiv.org/abs/1706.03762
    """

    def __call__(self, shape, dtype=None):
        """The table as a tensor of that shape and dtype."""
        size, dim = shape
        rates = np.exp(-2 * math.log(10000) / dim * np.arange(dim // 2))
        angles = np.arange(size)[:, None] * rates
        table = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
        return keras.ops.convert_to_tensor(table.reshape(size, dim), dtype=dtype)
