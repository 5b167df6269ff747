"""Arithmetic that one backend does faster in a way of its own."""

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


def assign_in_place(variable, method, value):
    """Change the very memory of a Keras variable, if this backend can.

    Args:
        variable: a `keras.Variable`.
        method: 'copy_', 'add_' or 'sub_'.
        value: a tensor of its shape.

    -> whether it was done.
    """
    if keras.config.backend() != 'torch' or keras.src.backend.in_stateless_scope():
        return False
    from keraseff.backends import torch

    torch.assign_in_place(variable, method, value)
    return True


def between(a, b, share):
    """a + share (b - a), in one pass where the backend has one.

    Args:
        a, b: tensors of one shape and dtype.
        share: a scalar, a number or a tensor.
    """
    if keras.config.backend() == 'torch':
        from keraseff.backends import torch

        return torch.between(a, b, share)
    return a + keras.ops.cast(share, a.dtype) * (b - a)


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


def fused_normalization(x, gamma, beta, epsilon):
    """Layer normalisation over the last axis in one kernel, if `fuses_attention()`.

    Args:
        x: (…, e), float32.
        gamma, beta: (e,), or None.

    -> (…, e).
    """
    from keraseff.backends import torch

    return torch.fused_normalization(x, gamma, beta, epsilon)


def fuses_adam(variable):
    """Whether `fused_adam` can update a variable, and change it in place.

    It cannot where a weight lies transposed in memory, through which the kernel goes.
    """
    if keras.config.backend() != 'torch' or keras.src.backend.in_stateless_scope():
        return False
    return variable.value.is_contiguous()


def fused_adam(variable, gradient, slots, rate, betas, epsilon, step):
    """Update a variable as Adam does, in one kernel, if `fuses_adam(variable)`.

    Args:
        slots: the variables of the two moments; they are updated too.
        rate: a number, or a tensor of one.
        betas: two numbers.
        epsilon: added after the correction.
        step: the number of this one, from 1 on; with infinity nothing is corrected.
    """
    from keraseff.backends import torch

    torch.fused_adam(variable, gradient, slots, rate, betas, epsilon, step)


def drops_out():
    """Whether this backend has `dropout`, faster than that of Keras."""
    return keras.config.backend() == 'torch'


def dropout(x, rate):
    """Zeros in a share of x, the rest divided by 1 - rate, if `drops_out()`."""
    from keraseff.backends import torch

    return torch.dropout(x, rate)


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
