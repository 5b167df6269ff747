"""The only place that asks which backend runs."""

import keras


def compiles_scan():
    """Whether XLA can differentiate `keras.ops.scan` on this backend.

    Under TensorFlow it cannot: the loop's length is not known to the compiler.
    """
    return keras.config.backend() != 'tensorflow'


def empty(shape, dtype=None):
    """A tensor of any content, for numbers that are overwritten.

    Args:
        shape: a tuple.
        dtype: its name; Keras' floatx by default.
    """
    if keras.config.backend() == 'tensorflow':
        from keraseff.backends import tensorflow

        # Keras' own gives zeros, which take memory at once.
        return tensorflow.empty(shape, dtype or keras.config.floatx())
    return keras.ops.empty(shape, dtype=dtype)


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


def fuses_attention():
    """Whether this backend has `fused_attention`."""
    return keras.config.backend() == 'torch'


def fused_attention(q, k, v, seen=None, causal=False):
    """softmax(q kᵀ) v in one kernel that keeps no scores, if `fuses_attention()`.

    Args:
        q, k, v: (b, m, h, d), (b, n, h, d), (b, n, h, d_v).
        seen: bool (b or 1, 1, m or 1, n), or None.
        causal: no query sees a later key; m = n, and seen is None.

    -> (b, m, h, d_v).
    """
    from keraseff.backends import torch

    return torch.fused_attention(q, k, v, seen, causal)


__all__ = ['compiles_scan', 'empty', 'fill', 'fused_attention', 'fuses_attention']
