"""Attention: projections, mechanisms and masks that do not know each other."""

from keraseff.layers.attention.attention import Attention
from keraseff.layers.attention.diag import Diag
from keraseff.layers.attention.efficient import EfficientAttention
from keraseff.layers.attention.fourier import FourierMixing
from keraseff.layers.attention.gated_unit import GatedAttentionUnit
from keraseff.layers.attention.key_norm import KeyNorm
from keraseff.layers.attention.linear import LinearAttention
from keraseff.layers.attention.linformer import Linformer
from keraseff.layers.attention.local import Local
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.mechanism import Mechanism
from keraseff.layers.attention.mechanism import Rotation
from keraseff.layers.attention.mechanism import ScoreMechanism
from keraseff.layers.attention.mechanisms import MECHANISMS
from keraseff.layers.attention.mechanisms import get_mechanism
from keraseff.layers.attention.mitchell import MitchellSoftmax
from keraseff.layers.attention.multi_head import MultiHeadAttention
from keraseff.layers.attention.norm_attention import NormAttention
from keraseff.layers.attention.normalizers import Entmax
from keraseff.layers.attention.normalizers import Gumbel
from keraseff.layers.attention.normalizers import Normalizer
from keraseff.layers.attention.normalizers import PerturbMax
from keraseff.layers.attention.normalizers import SoftmaxPlus
from keraseff.layers.attention.normalizers import Sparsemax
from keraseff.layers.attention.normalizers import SquaredReLU
from keraseff.layers.attention.normalizers import Taylor
from keraseff.layers.attention.normalizers import TopK
from keraseff.layers.attention.normalizers import TopP
from keraseff.layers.attention.performer import Performer
from keraseff.layers.attention.quantizer import VectorQuantizer
from keraseff.layers.attention.quantizer import fit_codebook
from keraseff.layers.attention.softmax import Softmax
from keraseff.layers.attention.sparse import Atrous
from keraseff.layers.attention.sparse import Fixed
from keraseff.layers.attention.sparse import Sparse
from keraseff.layers.attention.sparse import Strided
from keraseff.layers.attention.synthesizer import Synthesizer
from keraseff.layers.attention.vq import TransformerVQ

__all__ = [
    'Atrous',
    'Attention',
    'Diag',
    'EfficientAttention',
    'Entmax',
    'Fixed',
    'FourierMixing',
    'GatedAttentionUnit',
    'Gumbel',
    'KeyNorm',
    'LinearAttention',
    'Linformer',
    'Local',
    'MECHANISMS',
    'Mask',
    'Mechanism',
    'MitchellSoftmax',
    'MultiHeadAttention',
    'NormAttention',
    'Normalizer',
    'Performer',
    'PerturbMax',
    'Rotation',
    'ScoreMechanism',
    'Softmax',
    'SoftmaxPlus',
    'Sparse',
    'Sparsemax',
    'SquaredReLU',
    'Strided',
    'Synthesizer',
    'Taylor',
    'TopK',
    'TopP',
    'TransformerVQ',
    'VectorQuantizer',
    'fit_codebook',
    'get_mechanism',
]
