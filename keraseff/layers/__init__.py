"""Layers: tensors in, tensors out, weights kept."""

from keraseff.layers.attention import MECHANISMS
from keraseff.layers.attention import Atrous
from keraseff.layers.attention import Attention
from keraseff.layers.attention import Diag
from keraseff.layers.attention import EfficientAttention
from keraseff.layers.attention import Entmax
from keraseff.layers.attention import Fixed
from keraseff.layers.attention import FourierMixing
from keraseff.layers.attention import GatedAttentionUnit
from keraseff.layers.attention import Gumbel
from keraseff.layers.attention import KeyNorm
from keraseff.layers.attention import LinearAttention
from keraseff.layers.attention import Linformer
from keraseff.layers.attention import Local
from keraseff.layers.attention import Mask
from keraseff.layers.attention import Mechanism
from keraseff.layers.attention import MitchellSoftmax
from keraseff.layers.attention import MultiHeadAttention
from keraseff.layers.attention import Normalizer
from keraseff.layers.attention import NormAttention
from keraseff.layers.attention import Performer
from keraseff.layers.attention import PerturbMax
from keraseff.layers.attention import Rotation
from keraseff.layers.attention import ScoreMechanism
from keraseff.layers.attention import Softmax
from keraseff.layers.attention import SoftmaxPlus
from keraseff.layers.attention import Sparse
from keraseff.layers.attention import Sparsemax
from keraseff.layers.attention import SquaredReLU
from keraseff.layers.attention import Strided
from keraseff.layers.attention import Synthesizer
from keraseff.layers.attention import Taylor
from keraseff.layers.attention import TopK
from keraseff.layers.attention import TopP
from keraseff.layers.attention import TransformerVQ
from keraseff.layers.attention import VectorQuantizer
from keraseff.layers.attention import fit_codebook
from keraseff.layers.base import Layer
from keraseff.layers.base import Loss
from keraseff.layers.crf import ConditionalRandomField
from keraseff.layers.crf import MaximumEntropyMarkovModel
from keraseff.layers.dropout import Dropout
from keraseff.layers.embeddings import Embedding
from keraseff.layers.embeddings import FactorizedEmbedding
from keraseff.layers.feed_forward import FeedForward
from keraseff.layers.global_pointer import EfficientGlobalPointer
from keraseff.layers.global_pointer import GlobalPointer
from keraseff.layers.gru_v2 import GRUCellV2
from keraseff.layers.hippo_memory import HiPPOMemory
from keraseff.layers.lru import LRU
from keraseff.layers.mitchell import MitchellDense
from keraseff.layers.mixer import Mixer
from keraseff.layers.mixers import MIXERS
from keraseff.layers.normalization import LayerNormalization
from keraseff.layers.normalization import ScaleOffset
from keraseff.layers.pooling import FirstToken
from keraseff.layers.position import POSITIONS
from keraseff.layers.position import XPOS
from keraseff.layers.position import ALiBi
from keraseff.layers.position import Kerple
from keraseff.layers.position import LeakyReRoPE
from keraseff.layers.position import Position
from keraseff.layers.position import PositionEmbedding
from keraseff.layers.position import Relative
from keraseff.layers.position import RelativePositionEmbedding
from keraseff.layers.position import RelativePositionEmbeddingT5
from keraseff.layers.position import ReRoPE
from keraseff.layers.position import Rotary
from keraseff.layers.position import Sandwich
from keraseff.layers.position import SelfExtend
from keraseff.layers.position import SinusoidalPositionEmbedding
from keraseff.layers.position import T5Relative
from keraseff.layers.replacement import BinaryRandomChoice
from keraseff.layers.residual import Add
from keraseff.layers.state_space import S4
from keraseff.layers.state_space import S4D

__all__ = [
    'ALiBi',
    'Add',
    'Atrous',
    'Attention',
    'BinaryRandomChoice',
    'ConditionalRandomField',
    'Diag',
    'Dropout',
    'EfficientAttention',
    'EfficientGlobalPointer',
    'Embedding',
    'Entmax',
    'FactorizedEmbedding',
    'FeedForward',
    'FirstToken',
    'Fixed',
    'FourierMixing',
    'GRUCellV2',
    'GatedAttentionUnit',
    'GlobalPointer',
    'Gumbel',
    'HiPPOMemory',
    'Kerple',
    'KeyNorm',
    'LRU',
    'Layer',
    'LayerNormalization',
    'LeakyReRoPE',
    'LinearAttention',
    'Linformer',
    'Local',
    'Loss',
    'MECHANISMS',
    'MIXERS',
    'Mask',
    'MaximumEntropyMarkovModel',
    'Mechanism',
    'MitchellDense',
    'MitchellSoftmax',
    'Mixer',
    'MultiHeadAttention',
    'NormAttention',
    'Normalizer',
    'POSITIONS',
    'Performer',
    'PerturbMax',
    'Position',
    'PositionEmbedding',
    'ReRoPE',
    'Relative',
    'RelativePositionEmbedding',
    'RelativePositionEmbeddingT5',
    'Rotary',
    'Rotation',
    'S4',
    'S4D',
    'Sandwich',
    'ScaleOffset',
    'ScoreMechanism',
    'SelfExtend',
    'SinusoidalPositionEmbedding',
    'Softmax',
    'SoftmaxPlus',
    'Sparse',
    'Sparsemax',
    'SquaredReLU',
    'Strided',
    'Synthesizer',
    'T5Relative',
    'Taylor',
    'TopK',
    'TopP',
    'TransformerVQ',
    'VectorQuantizer',
    'XPOS',
    'fit_codebook',
]
