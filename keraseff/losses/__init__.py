"""Functions of (y_true, y_pred), and Keras losses where they have options."""

from keraseff.losses.consistency import sigmoid_divergence
from keraseff.losses.consistency import softmax_divergence
from keraseff.losses.margin import MarginSoftmaxLoss
from keraseff.losses.margin import margin_softmax_crossentropy
from keraseff.losses.multilabel import global_pointer_crossentropy
from keraseff.losses.multilabel import multilabel_categorical_crossentropy
from keraseff.losses.multilabel import sparse_global_pointer_crossentropy
from keraseff.losses.multilabel import sparse_multilabel_categorical_crossentropy
from keraseff.losses.smoothing import SmoothedCrossentropy
from keraseff.losses.smoothing import smoothed_crossentropy
from keraseff.losses.sparse import EntmaxLoss
from keraseff.losses.sparse import SparsemaxLoss
from keraseff.losses.sparse import SparseSoftmaxLoss
from keraseff.losses.sparse import entmax_loss
from keraseff.losses.sparse import sparse_softmax_crossentropy
from keraseff.losses.sparse import sparsemax_loss

__all__ = [
    'EntmaxLoss',
    'MarginSoftmaxLoss',
    'SmoothedCrossentropy',
    'SparseSoftmaxLoss',
    'SparsemaxLoss',
    'entmax_loss',
    'global_pointer_crossentropy',
    'margin_softmax_crossentropy',
    'multilabel_categorical_crossentropy',
    'sigmoid_divergence',
    'smoothed_crossentropy',
    'softmax_divergence',
    'sparse_global_pointer_crossentropy',
    'sparse_multilabel_categorical_crossentropy',
    'sparse_softmax_crossentropy',
    'sparsemax_loss',
]
