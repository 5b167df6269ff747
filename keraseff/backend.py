"""bert4keras' `backend` by its import path; everything here lives elsewhere."""

import keras

from keraseff.losses import multilabel_categorical_crossentropy
from keraseff.losses import sparse_multilabel_categorical_crossentropy
from keraseff.ops import align
from keraseff.ops import apply_rotary_position_embeddings
from keraseff.ops import batch_gather
from keraseff.ops import flatten
from keraseff.ops import gelu_erf
from keraseff.ops import gelu_tanh
from keraseff.ops import leaky_relu
from keraseff.ops import sequence_masking
from keraseff.ops import set_gelu
from keraseff.ops import sinusoidal_embeddings
from keraseff.ops import swish
from keraseff.ops.keras2 import K
from keraseff.optimizers import piecewise_linear
from keraseff.training.layers import search_layer

__all__ = [
    'K',
    'align',
    'apply_rotary_position_embeddings',
    'batch_gather',
    'flatten',
    'gelu_erf',
    'gelu_tanh',
    'keras',
    'leaky_relu',
    'multilabel_categorical_crossentropy',
    'piecewise_linear',
    'search_layer',
    'sequence_masking',
    'set_gelu',
    'sinusoidal_embeddings',
    'sparse_multilabel_categorical_crossentropy',
    'swish',
]
