"""Layers: tensors in, tensors out, weights kept."""

from keraseff.layers.attention import MECHANISMS
from keraseff.layers.attention import GatedAttentionUnit
from keraseff.layers.attention import Mask
from keraseff.layers.attention import Mechanism
from keraseff.layers.attention import MultiHeadAttention
from keraseff.layers.attention import ScoreMechanism
from keraseff.layers.attention import Softmax
from keraseff.layers.attention import SoftmaxPlus
from keraseff.layers.attention import SquaredReLU
from keraseff.layers.base import Layer
from keraseff.layers.base import Loss
from keraseff.layers.crf import ConditionalRandomField
from keraseff.layers.crf import MaximumEntropyMarkovModel
from keraseff.layers.embeddings import Embedding
from keraseff.layers.embeddings import FactorizedEmbedding
from keraseff.layers.feed_forward import FeedForward
from keraseff.layers.global_pointer import EfficientGlobalPointer
from keraseff.layers.global_pointer import GlobalPointer
from keraseff.layers.normalization import LayerNormalization
from keraseff.layers.normalization import ScaleOffset
from keraseff.layers.pooling import FirstToken
from keraseff.layers.position import POSITIONS
from keraseff.layers.position import Position
from keraseff.layers.position import PositionEmbedding
from keraseff.layers.position import Relative
from keraseff.layers.position import RelativePositionEmbedding
from keraseff.layers.position import RelativePositionEmbeddingT5
from keraseff.layers.position import Rotary
from keraseff.layers.position import T5Relative
from keraseff.layers.residual import Add

__all__ = [
    'Add',
    'ConditionalRandomField',
    'EfficientGlobalPointer',
    'Embedding',
    'FactorizedEmbedding',
    'FeedForward',
    'FirstToken',
    'GatedAttentionUnit',
    'GlobalPointer',
    'Layer',
    'LayerNormalization',
    'Loss',
    'MECHANISMS',
    'Mask',
    'MaximumEntropyMarkovModel',
    'Mechanism',
    'MultiHeadAttention',
    'POSITIONS',
    'Position',
    'PositionEmbedding',
    'Relative',
    'RelativePositionEmbedding',
    'RelativePositionEmbeddingT5',
    'Rotary',
    'ScaleOffset',
    'ScoreMechanism',
    'Softmax',
    'SoftmaxPlus',
    'SquaredReLU',
    'T5Relative',
]
