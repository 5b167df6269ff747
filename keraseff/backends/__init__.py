"""The only place that asks which backend runs."""

import keras


def compiles_scan():
    """Whether XLA can differentiate `keras.ops.scan` on this backend.

    Under TensorFlow it cannot: the loop's length is not known to the compiler.
    """
    return keras.config.backend() != 'tensorflow'


__all__ = ['compiles_scan']
