"""Functions of tensors that keep nothing.

Shape letters, the same everywhere in keraseff: `b` batch, `n` keys (or sequence
length), `m` queries, `h` heads, `d` head size, `e` hidden size, `v` vocabulary,
`c` classes.
"""

from keraseff.ops.activations import gelu_erf
from keraseff.ops.activations import gelu_tanh
from keraseff.ops.activations import get_activation
from keraseff.ops.activations import leaky_relu
from keraseff.ops.activations import set_gelu
from keraseff.ops.activations import swish
from keraseff.ops.masking import masked_value
from keraseff.ops.masking import sequence_masking
from keraseff.ops.mitchell import mitchell_divide
from keraseff.ops.mitchell import mitchell_matmul
from keraseff.ops.mitchell import mitchell_multiply
from keraseff.ops.normalizers import entmax
from keraseff.ops.normalizers import entmax15
from keraseff.ops.normalizers import gumbel_softmax
from keraseff.ops.normalizers import perturb_max
from keraseff.ops.normalizers import sparsemax
from keraseff.ops.normalizers import taylor_softmax
from keraseff.ops.normalizers import topk_softmax
from keraseff.ops.normalizers import topp_softmax
from keraseff.ops.rotary import apply_rotary_position_embeddings
from keraseff.ops.rotary import plain_frequencies
from keraseff.ops.rotary import sinusoidal_embeddings
from keraseff.ops.rotary import sinusoids
from keraseff.ops.rotary_scaling import ROTARY_SCALINGS
from keraseff.ops.rotary_scaling import complete_scaling
from keraseff.ops.rotary_scaling import rotary_frequencies
from keraseff.ops.shapes import align
from keraseff.ops.shapes import batch_gather
from keraseff.ops.shapes import flatten

__all__ = [
    'ROTARY_SCALINGS',
    'align',
    'apply_rotary_position_embeddings',
    'batch_gather',
    'complete_scaling',
    'entmax',
    'entmax15',
    'flatten',
    'gelu_erf',
    'gelu_tanh',
    'get_activation',
    'gumbel_softmax',
    'leaky_relu',
    'masked_value',
    'mitchell_divide',
    'mitchell_matmul',
    'mitchell_multiply',
    'perturb_max',
    'plain_frequencies',
    'rotary_frequencies',
    'sequence_masking',
    'set_gelu',
    'sinusoidal_embeddings',
    'sinusoids',
    'sparsemax',
    'swish',
    'taylor_softmax',
    'topk_softmax',
    'topp_softmax',
]
