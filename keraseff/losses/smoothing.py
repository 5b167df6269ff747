"""Cross-entropy with smoothed labels, for class ids."""

import keras
from keras import ops

from keraseff.losses.base import OptionLoss
from keraseff.losses.base import as_distribution


@keras.saving.register_keras_serializable(package='keraseff')
def smoothed_crossentropy(
    y_true, y_pred, smoothing=0.1, from_logits=True, ignore_class=None
):
    """(1 - e) CE of the right class + e × the mean of the CE of all c classes.

    Args:
        y_true: (…) or (…, 1) integer ids, or (…, c) shares.
        y_pred: (…, c) scores, or probabilities.
        smoothing: e, from 0 to 1.
        from_logits: whether y_pred are scores.
        ignore_class: an id that has no loss, and that a mean does not count.

    -> (…), computed in float32.  Scores that are masked with a value near the lowest
    float have a share of e/c in the loss too: leave such classes out before.

    Raises:
        ValueError: smoothing is not from 0 to 1.

    Szegedy et al., 2016, https://arxiv.org/abs/1512.00567
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(f'smoothing={smoothing}: give a share from 0 to 1.')
    counted = None
    if ignore_class is not None:
        y_true, counted = _without(y_true, y_pred, ignore_class)
    target = as_distribution(y_true, y_pred)
    scores = ops.cast(y_pred, 'float32')
    if not from_logits:
        scores = ops.log(ops.clip(scores, 1e-7, 1.0))
    scores = ops.log_softmax(scores, axis=-1)
    right = -ops.sum(target * scores, axis=-1)
    loss = (1 - smoothing) * right - smoothing * ops.mean(scores, axis=-1)
    if counted is None:
        return loss
    loss = ops.where(counted, loss, 0.0)
    loss._keras_mask = counted  # so that Keras divides by the number of the others
    return loss


def _without(y_true, y_pred, ignored):
    if len(y_true.shape) == len(y_pred.shape):
        if y_true.shape[-1] != 1:
            raise ValueError(
                f'ignore_class={ignored} goes with ids, but y_true has shape '
                f'{tuple(y_true.shape)} for scores {tuple(y_pred.shape)}.'
            )
        y_true = y_true[..., 0]
    ids = ops.cast(y_true, 'int32')
    counted = ids != ignored
    return ops.where(counted, ids, 0), counted


@keras.saving.register_keras_serializable(package='keraseff')
class SmoothedCrossentropy(OptionLoss):
    """`smoothed_crossentropy` as a Keras loss, for ids where Keras has it for one-hot.

    Args:
        smoothing: e.
        from_logits: whether the model gives scores.
        ignore_class: an id that has no loss.
        kwargs: reduction, name and dtype of every `keras.losses.Loss`.
    """

    function = staticmethod(smoothed_crossentropy)

    def __init__(self, smoothing=0.1, from_logits=True, ignore_class=None, **kwargs):
        super().__init__(
            {
                'smoothing': smoothing,
                'from_logits': from_logits,
                'ignore_class': ignore_class,
            },
            **kwargs,
        )
