"""int8 or int4: matrices in less of their memory, through Keras' `quantize`."""

import dataclasses
import gc
import math
import re
from contextlib import contextmanager

import keras
import numpy as np

from keraseff.training.arguments import model_of


@dataclasses.dataclass(frozen=True)
class Quantised:
    """What `quantize` did, and what it left; `str()` says it in words.

    Attributes:
        layers: paths of the layers that compute with whole numbers now.
        left: {path of a variable of two axes or more that stays as it was: bytes}.
        bytes_before, bytes_after: of all weights.
        mode: as `quantize` was told.
    """

    layers: tuple
    left: dict
    bytes_before: int
    bytes_after: int
    mode: str = 'int8'

    def __str__(self):
        mb = 1e6
        largest = sorted(self.left.items(), key=lambda item: -item[1])
        left = ', '.join(f'{name} ({size / mb:.1f} MB)' for name, size in largest[:5])
        left += f' and {len(largest) - 5} more' if len(largest) > 5 else ''
        return (
            f'{len(self.layers)} layers in {self.mode}: '
            f'{self.bytes_before / mb:.1f} MB -> {self.bytes_after / mb:.1f} MB; '
            f'left as they were: {left or "none"}'
        )


def quantize(model, mode='int8', filters=None):
    """Turn the matrices of a model into whole numbers of 8 or 4 bits, in place.

    Args:
        model: a built `keras.Model`, or a `Transformer`, of which it is the model.
        mode: 'int8', or another that Keras' `Model.quantize` has and that needs no
            examples ('int4').
        filters: a regular expression, or several, searched for in the names of the
            layers that have matrices: 'query', 'intermediate', 'output' ….

    Each column of a Dense has a scale, and so has each row that comes in.  Dense,
    EinsumDense and Keras' Embedding can; layers with kernels of their own (our
    `Embedding`, GRU and LSTM, convolutions, MitchellDense) and positions cannot.  The
    model is for inference, or for adapters (`add_lora`); `.keras` and `.weights.h5`
    save it as it is.  Compile again what was compiled.

    Returns a `Quantised`.  Raises ValueError if nothing was done.
    """
    model = model_of(model)
    before = _bytes(model.variables)
    done_before = set(_quantised(model))
    with _few_collections():
        model.quantize(mode, filters=lambda layer: _can(layer, filters))
    layers = tuple(path for path in _quantised(model) if path not in done_before)
    if not layers:
        raise ValueError(
            f'{model.name!r} has no layer to turn into {mode}'
            + (f' that {filters!r} finds.' if filters else '.')
            + ('' if model.built else '  Call it on a batch first: model(x).')
        )
    left = {
        variable.path: _bytes([variable])
        for variable in model.weights
        if len(variable.shape) > 1 and 'int' not in str(variable.dtype)
    }
    return Quantised(layers, left, before, _bytes(model.variables), mode)


@contextmanager
def _few_collections():
    """A scope in which looking for garbage skips what is there already.

    Keras looks for each matrix that it takes away, which in a large program takes most
    of a second each; what is garbage goes at the end.
    """
    if gc.get_freeze_count():
        yield  # somebody else's, who would not have it thawed
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.collect()


def _can(layer, patterns):
    """Whether a layer has a `quantize` of its own, and a name that was asked for."""
    if not layer.built or type(layer).quantize is keras.layers.Layer.quantize:
        return False
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return patterns is None or any(re.search(p, layer.name) for p in patterns)


def _quantised(model):
    return [
        layer.path
        for layer in model._flatten_layers(include_self=False)
        if layer.quantization_mode is not None
    ]


def _bytes(variables):
    return sum(math.prod(v.shape) * _item(v.dtype) for v in variables)


def _item(dtype):
    return 2 if dtype == 'bfloat16' else np.dtype(dtype).itemsize
