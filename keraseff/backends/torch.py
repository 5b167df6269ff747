"""What is written for PyTorch alone."""

import warnings

import numpy as np
import torch


def fill(variable, array):
    """Copy an array into a variable in place, turned and cast on the way."""
    bfloat16 = array.dtype.name == 'bfloat16'
    with warnings.catch_warnings():
        # Read-only arrays make Torch warn of writing to them, which we do not.
        warnings.filterwarnings('ignore', message='.*not writable')
        tensor = torch.from_numpy(array.view(np.int16) if bfloat16 else array)
    tensor = tensor.view(torch.bfloat16) if bfloat16 else tensor
    with torch.no_grad():
        variable.value.copy_(tensor)


def fused_attention(q, k, v, seen, causal):
    """See `keraseff.backends.fused_attention`."""
    if seen is not None:
        # Not the bool itself: a query that sees nothing would get NaN.
        lowest = torch.finfo(q.dtype).min / 2
        seen = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, lowest)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mixed = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=seen, is_causal=causal, scale=1.0
    )
    return mixed.transpose(1, 2)


def add_rows(x, rows, count):
    """See `keraseff.backends.add_rows`."""
    return x.new_zeros((count, *x.shape[1:])).index_add(0, rows, x)


def add_matmul(x, a, b):
    """See `keraseff.backends.add_matmul`."""
    return torch.baddbmm(x, a, b)
