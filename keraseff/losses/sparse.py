"""Losses of maps that give most classes a weight of exactly 0.

Each is 0 where the map's weights equal the labels, and its gradient is their
difference.  A survey: https://kexue.fm/archives/10145
"""

import keras
from keras import ops

from keraseff.losses.base import OptionLoss
from keraseff.losses.base import as_distribution
from keraseff.ops import masked_value
from keraseff.ops.normalizers import entmax
from keraseff.ops.normalizers import keep_largest


@keras.saving.register_keras_serializable(package='keraseff')
def sparse_softmax_crossentropy(y_true, y_pred, k=10):
    """log Σ e^{x_i} - x_t, the sum over the k largest scores and the right class's.

    Args:
        y_true: (…) or (…, 1) integer ids, or (…, c) shares.
        y_pred: (…, c) scores, c the number of classes.
        k: how many scores are kept; with k = c this is the softmax's cross-entropy.

    -> (…), computed in float32.  It learns to tell the right class from its strongest
    rivals only: for fine-tuning, less so from scratch.  Without the right class in the
    sum the loss would be negative where that class is not among the k.

    Raises:
        ValueError: k is below 1.

    Sun et al., 2021, https://arxiv.org/abs/2112.12433
    """
    if k < 1:
        raise ValueError(f'k={k}: at least 1 score has to be kept.')
    target, scores = _prepared(y_true, y_pred)
    scores = ops.where(target > 0, scores, keep_largest(scores, k))
    return ops.logsumexp(scores, axis=-1) - ops.sum(target * scores, axis=-1)


@keras.saving.register_keras_serializable(package='keraseff')
def sparsemax_loss(y_true, y_pred):
    """½ - x_t + ½ Σ_S (x_i² - λ²), S the classes of which sparsemax is not 0.

    Args:
        y_true: (…) or (…, 1) integer ids, or (…, c) shares.
        y_pred: (…, c) scores.

    -> (…), computed in float32; 0 once the right score is 1 above all others.
    Martins & Astudillo, 2016, https://arxiv.org/abs/1602.02068
    """
    return entmax_loss(y_true, y_pred, alpha=2.0)


@keras.saving.register_keras_serializable(package='keraseff')
def entmax_loss(y_true, y_pred, alpha=1.5):
    """The Fenchel-Young loss of entmax, (p - y) · x + Ω(y) - Ω(p).

    Args:
        y_true: (…) or (…, 1) integer ids, or (…, c) shares.
        y_pred: (…, c) scores.
        alpha: of entmax, whose weights p are; 1 is the softmax's cross-entropy, 2
            `sparsemax_loss`.

    With Ω(p) = (Σ p^alpha - 1) / (alpha (alpha - 1)), minus Tsallis' entropy.
    -> (…), computed in float32; its gradient is p - y.

    Raises:
        ValueError: alpha is below 1.

    Peters et al., 2019, https://arxiv.org/abs/1905.05702
    """
    target, scores = _prepared(y_true, y_pred)
    # Ω's own slope at p is λ for all classes, so p may count as a constant.
    weights = ops.stop_gradient(entmax(scores, alpha))
    scores = scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True))
    gap = ops.sum((weights - target) * scores, axis=-1)
    return gap + _negentropy(target, alpha) - _negentropy(weights, alpha)


def _prepared(y_true, y_pred):
    target = as_distribution(y_true, y_pred)
    scores = ops.cast(y_pred, 'float32')
    return target, ops.maximum(scores, masked_value('float32'))


def _negentropy(p, alpha):
    if alpha == 1:
        return ops.sum(p * ops.log(ops.where(p > 0, p, 1.0)), axis=-1)
    return (ops.sum(p**alpha, axis=-1) - 1) / (alpha * (alpha - 1))


@keras.saving.register_keras_serializable(package='keraseff')
class SparseSoftmaxLoss(OptionLoss):
    """`sparse_softmax_crossentropy` as a Keras loss.

    Args:
        k: how many scores are kept.
        kwargs: reduction, name and dtype of every `keras.losses.Loss`.
    """

    function = staticmethod(sparse_softmax_crossentropy)

    def __init__(self, k=10, **kwargs):
        super().__init__({'k': k}, **kwargs)


@keras.saving.register_keras_serializable(package='keraseff')
class SparsemaxLoss(OptionLoss):
    """`sparsemax_loss` as a Keras loss.

    Args:
        kwargs: reduction, name and dtype of every `keras.losses.Loss`.
    """

    function = staticmethod(sparsemax_loss)

    def __init__(self, **kwargs):
        super().__init__({}, **kwargs)


@keras.saving.register_keras_serializable(package='keraseff')
class EntmaxLoss(OptionLoss):
    """`entmax_loss` as a Keras loss.

    Args:
        alpha: of entmax.
        kwargs: reduction, name and dtype of every `keras.losses.Loss`.
    """

    function = staticmethod(entmax_loss)

    def __init__(self, alpha=1.5, **kwargs):
        super().__init__({'alpha': alpha}, **kwargs)
