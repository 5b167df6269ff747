"""The only place that asks which backend runs."""

import keras


def add_matmul(x, a, b):
    """x + a b, in one stroke where the backend would otherwise make two of it.

    Args:
        x: broadcasts to (k, m, n).
        a, b: (k, m, r), (k, r, n) of one dtype.
    """
    if keras.config.backend() == 'torch':
        from keraseff.backends import torch

        return torch.add_matmul(x, a, b)
    return x + keras.ops.matmul(a, b)


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


def adds_rows():
    """Whether this backend has `add_rows`, faster than a product with one-hot rows."""
    return keras.config.backend() == 'torch'


def add_rows(x, rows, count):
    """Sums of the rows of x that bear one number, if `adds_rows()`.

    Args:
        x: (n, ...).
        rows: (n,) int32, from 0 to count - 1.
        count: how many sums there are.

    -> (count, ...).
    """
    from keraseff.backends import torch

    return torch.add_rows(x, rows, count)


__all__ = [
    'add_matmul',
    'add_rows',
    'adds_rows',
    'compiles_scan',
    'empty',
    'fill',
    'fused_attention',
    'fuses_attention',
]
