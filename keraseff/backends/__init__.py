"""The only place that asks which backend runs."""

import keras


def compiles_scan():
    """Whether XLA can differentiate `keras.ops.scan` on this backend.

    Under TensorFlow it cannot: the loop's length is not known to the compiler.
    """
    return keras.config.backend() != 'tensorflow'


def fill(variable, array):
    """Give a Keras variable the numbers of an array, with no more copies than needed.

    Args:
        variable: a `keras.Variable`.
        array: numpy, of its shape; read-only ones and bfloat16 are fine.
    """
    if keras.config.backend() == 'torch':
        from keraseff.backends import torch

        torch.fill(variable, array)
    else:
        variable.assign(array)


__all__ = ['compiles_scan', 'fill']
