"""Functions of (y_true, y_pred)."""

from keraseff.losses.multilabel import global_pointer_crossentropy
from keraseff.losses.multilabel import multilabel_categorical_crossentropy
from keraseff.losses.multilabel import sparse_global_pointer_crossentropy
from keraseff.losses.multilabel import sparse_multilabel_categorical_crossentropy

__all__ = [
    'global_pointer_crossentropy',
    'multilabel_categorical_crossentropy',
    'sparse_global_pointer_crossentropy',
    'sparse_multilabel_categorical_crossentropy',
]
