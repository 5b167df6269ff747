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
