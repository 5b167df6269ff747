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
from keraseff.ops.hippo import diagonal_rates
from keraseff.ops.hippo import discretize
from keraseff.ops.hippo import dplr
from keraseff.ops.hippo import hippo_matrices
from keraseff.ops.linear_attention import causal_linear_attention
from keraseff.ops.linear_attention import noncausal_linear_attention
from keraseff.ops.linear_attention import running_logsumexp
from keraseff.ops.linear_recurrence import diagonal_recurrence
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
from keraseff.ops.state_space import dplr_kernel
from keraseff.ops.state_space import fft_convolve

__all__ = [
    'ROTARY_SCALINGS',
    'align',
    'apply_rotary_position_embeddings',
    'batch_gather',
    'causal_linear_attention',
    'complete_scaling',
    'diagonal_rates',
    'diagonal_recurrence',
    'discretize',
    'dplr',
    'dplr_kernel',
    'entmax',
    'entmax15',
    'fft_convolve',
    'flatten',
    'gelu_erf',
    'gelu_tanh',
    'get_activation',
    'gumbel_softmax',
    'hippo_matrices',
    'leaky_relu',
    'masked_value',
    'mitchell_divide',
    'mitchell_matmul',
    'mitchell_multiply',
    'noncausal_linear_attention',
    'perturb_max',
    'plain_frequencies',
    'rotary_frequencies',
    'running_logsumexp',
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
