"""Softmax cross-entropy for several labels at once, and its use on spans.

L = log(1 + Σ_neg e^s) + log(1 + Σ_pos e^-s): every positive score is pushed above 0,
every negative one below.  Su et al., ZLPR, 2022, https://arxiv.org/abs/2208.02955
and https://kexue.fm/archives/7359.
"""

import keras
from keras import ops

from keraseff.ops import masked_value


@keras.saving.register_keras_serializable(package='keraseff')
def multilabel_categorical_crossentropy(y_true, y_pred):
    """The loss of several independent labels, with threshold 0 and no class weights.

    Args:
        y_true: (…, c) in [0, 1]; fractions are soft labels.
        y_pred: (…, c) raw scores, no sigmoid or softmax; label k is predicted where its
            score exceeds 0.  Scores of minus infinity, or as low as a masked one, are
            no labels at all.

    (…, c), (…, c) -> (…), computed in float32.
    https://kexue.fm/archives/7359, soft labels https://kexue.fm/archives/9064
    """
    y_pred = ops.cast(y_pred, 'float32')
    y_true = ops.cast(y_true, 'float32')
    hidden = masked_value('float32')
    y_pred = ops.maximum(y_pred, hidden)
    tiny = keras.backend.epsilon() ** 4
    negative = ops.where(
        y_true < 1, y_pred + ops.log(ops.maximum(1 - y_true, tiny)), hidden
    )
    positive = ops.where(
        y_true > 0, ops.log(ops.maximum(y_true, tiny)) - y_pred, hidden
    )
    return _one_plus(negative) + _one_plus(positive)


@keras.saving.register_keras_serializable(package='keraseff')
def sparse_multilabel_categorical_crossentropy(y_true, y_pred, mask_zero=False):
    """`multilabel_categorical_crossentropy` from the ids of the positive labels.

    Args:
        y_true: (…, k) integer ids of the positive labels; repeats count once.
        y_pred: (…, c) raw scores.
        mask_zero: id 0 is padding, and class 0 is no class.

    (…, k), (…, c) -> (…), computed in float32.  The negatives are summed themselves,
    not as a difference of two sums, so nothing cancels when positives are large.
    https://kexue.fm/archives/7359
    """
    y_pred, y_true = ops.cast(y_pred, 'float32'), ops.cast(y_true, 'int32')
    hidden = masked_value('float32')
    chosen = ops.take_along_axis(y_pred, y_true, axis=-1)  # (…, k)
    repeated = _repeated(y_true)
    if mask_zero:
        repeated = ops.logical_or(repeated, y_true == 0)
        no_class = [(0, 0)] * (len(y_true.shape) - 1) + [(0, 1)]
        y_true = ops.pad(y_true, no_class)
    positive = ops.where(repeated, hidden, -ops.maximum(chosen, hidden))
    return _one_plus(_hide(y_pred, y_true)) + _one_plus(positive)


@keras.saving.register_keras_serializable(package='keraseff')
def global_pointer_crossentropy(y_true, y_pred):
    """The multi-label loss over all spans of each type, averaged over the types.

    Args:
        y_true: (b, h, n, n), 1 where the span from row i to column j, both included, is
            an entity of type h.
        y_pred: (b, h, n, n), the scores of a GlobalPointer.

    (b, h, n, n), (b, h, n, n) -> (b,).  https://kexue.fm/archives/8373
    """
    flat = ops.shape(y_pred)[:2] + (-1,)
    y_true, y_pred = ops.reshape(y_true, flat), ops.reshape(y_pred, flat)
    return ops.mean(multilabel_categorical_crossentropy(y_true, y_pred), axis=-1)


@keras.saving.register_keras_serializable(package='keraseff')
def sparse_global_pointer_crossentropy(y_true, y_pred):
    """`global_pointer_crossentropy` from the ends of the entities.

    Args:
        y_true: (b, h, k, 2), the first and last token of each entity of type h, both
            included; the pair (0, 0) is padding, for token 0 is [CLS].
        y_pred: (b, h, n, n), the scores of a GlobalPointer.

    (b, h, k, 2), (b, h, n, n) -> (b,).  https://kexue.fm/archives/8888
    """
    shape = ops.shape(y_pred)
    y_true = ops.cast(y_true, 'int32')
    ids = y_true[..., 0] * shape[-1] + y_true[..., 1]
    flat = ops.reshape(y_pred, shape[:2] + (-1,))
    return ops.mean(
        sparse_multilabel_categorical_crossentropy(ids, flat, mask_zero=True), axis=-1
    )


def _one_plus(x):
    """log(1 + Σ e^x) over the last axis."""
    top = ops.stop_gradient(ops.maximum(ops.max(x, axis=-1, keepdims=True), 0))
    total = ops.sum(ops.exp(x - top), axis=-1) + ops.exp(-top[..., 0])
    return ops.log(total) + top[..., 0]


def _repeated(ids):
    """Where an id already stood further left.  (…, k) -> (…, k)."""
    k = ids.shape[-1]
    if k is None:
        k = ops.shape(ids)[-1]
    same = ids[..., :, None] == ids[..., None, :]
    earlier = ops.arange(k)[:, None] > ops.arange(k)[None, :]
    return ops.any(ops.logical_and(same, earlier), axis=-1)


def _hide(scores, ids):
    """The scores, (…, c), with those of the ids, (…, k), hidden.

    One update in place of a mask as large as the scores: that takes three passes more,
    and `ops.scatter` on Torch is a loop over the ids.
    """
    shape = ops.shape(scores)
    rows = ops.reshape(ids, (-1, ops.shape(ids)[-1]))
    places = rows + shape[-1] * ops.arange(ops.shape(rows)[0])[:, None]
    places = ops.reshape(places, (-1, 1))
    values = ops.full_like(places[:, 0], masked_value('float32'), dtype='float32')
    flat = ops.scatter_update(ops.reshape(scores, (-1,)), places, values)
    return ops.reshape(flat, shape)
