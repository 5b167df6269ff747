"""What the losses of one right class share."""

import keras
from keras import ops


def as_distribution(y_true, y_pred):
    """The right classes as shares (…, c) in float32.

    Args:
        y_true: (…) or (…, 1) integer ids, or (…, c) shares, which are passed through;
            an id outside of 0 … c - 1 gives NaN, for such a loss would mean nothing.
        y_pred: (…, c) scores.
    """
    c = y_pred.shape[-1]
    rank = len(y_pred.shape)
    if len(y_true.shape) == rank and y_true.shape[-1] == c:
        return ops.cast(y_true, 'float32')
    if len(y_true.shape) == rank:
        y_true = y_true[..., 0]
    ids = ops.cast(y_true, 'int32')
    known = ops.logical_and(ids >= 0, ids < c)[..., None]
    shares = ops.one_hot(ops.clip(ids, 0, c - 1), c, dtype='float32')
    return ops.where(known, shares, float('nan'))


class OptionLoss(keras.losses.Loss):
    """A loss with options, `function(y_true, y_pred, **options)`, as Keras knows them.

    Args:
        options: what `function` gets besides labels and scores, and the config besides
            what every loss has.
        reduction, name, dtype: as for every `keras.losses.Loss`.
    """

    function = None  # a staticmethod of the subclass

    def __init__(self, options, reduction='sum_over_batch_size', name=None, dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.options = options

    def call(self, y_true, y_pred):
        """The loss of each place, (…)."""
        return self.function(y_true, y_pred, **self.options)

    def get_config(self):
        """The constructor's arguments."""
        return super().get_config() | self.options
