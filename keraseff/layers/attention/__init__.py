"""Attention: projections, mechanisms and masks that do not know each other."""

from keraseff.layers.attention.gated_unit import GatedAttentionUnit
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.mechanism import Mechanism
from keraseff.layers.attention.mechanism import ScoreMechanism
from keraseff.layers.attention.multi_head import MECHANISMS
from keraseff.layers.attention.multi_head import MultiHeadAttention
from keraseff.layers.attention.multi_head import get_mechanism
from keraseff.layers.attention.normalizers import SoftmaxPlus
from keraseff.layers.attention.normalizers import SquaredReLU
from keraseff.layers.attention.softmax import Softmax

__all__ = [
    'GatedAttentionUnit',
    'MECHANISMS',
    'Mask',
    'Mechanism',
    'MultiHeadAttention',
    'ScoreMechanism',
    'Softmax',
    'SoftmaxPlus',
    'SquaredReLU',
    'get_mechanism',
]
