"""How good predictions are, as Keras counts it during training."""

import keras
from keras import ops

from keraseff.ops import batch_gather


@keras.saving.register_keras_serializable(package='keraseff')
def global_pointer_f1_score(y_true, y_pred):
    """F1 of one batch's spans, 2 |hits| / (|gold| + |predicted|), a scalar.

    Arguments as for `SpanF1`, with threshold 0.  Averaged over batches it is no F1 of
    the whole; for that there is `SpanF1`.
    """
    hits, predicted, gold = (ops.sum(count) for count in _span_counts(y_true, y_pred))
    return _ratio(2 * hits, predicted + gold)


@keras.saving.register_keras_serializable(package='keraseff')
class SpanF1(keras.metrics.Metric):
    """Micro F1 of a GlobalPointer's spans over all batches so far.

    Args:
        threshold: a span is predicted where its score exceeds this.

    `update_state` takes the labels of either loss: dense (b, h, n, n), or the ends of
    the entities (b, h, k, 2) with (0, 0) as padding, repeats counting once; and scores
    (b, h, n, n).  Sample weights, one for each row of the batch, weigh its spans.
    Without any span, gold or predicted, every result is 0.
    """

    def __init__(self, threshold=0.0, name='span_f1', **kwargs):
        super().__init__(name=name, **kwargs)
        self.threshold = threshold
        self.hits = self.add_weight(name='hits', initializer='zeros')
        self.predicted = self.add_weight(name='predicted', initializer='zeros')
        self.gold = self.add_weight(name='gold', initializer='zeros')

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch to the counts."""
        counts = _span_counts(y_true, y_pred, self.threshold)
        if sample_weight is not None:
            weight = ops.reshape(ops.cast(sample_weight, 'float32'), (-1,))
            counts = [count * weight for count in counts]
        totals = self.hits, self.predicted, self.gold
        for total, count in zip(totals, counts, strict=True):
            total.assign_add(ops.cast(ops.sum(count), total.dtype))

    def result(self):
        """2 |hits| / (|gold| + |predicted|)."""
        return _ratio(2 * self.hits, self.gold + self.predicted)

    def precision(self):
        """The share of the predicted spans that are right."""
        return _ratio(self.hits, self.predicted)

    def recall(self):
        """The share of the gold spans that are found."""
        return _ratio(self.hits, self.gold)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), 'threshold': self.threshold}


def _ratio(part, whole):
    return ops.divide_no_nan(ops.cast(part, 'float32'), ops.cast(whole, 'float32'))


def _span_counts(y_true, y_pred, threshold=0.0):
    """Hits, predicted and gold spans of each row of the batch, each (b,)."""
    predicted = ops.convert_to_tensor(y_pred) > threshold
    if y_true.shape[-1] == 2 and y_pred.shape[-1] != 2:
        return _sparse_counts(ops.cast(y_true, 'int32'), predicted)
    gold = ops.convert_to_tensor(y_true) > 0
    return [_count(ops.logical_and(gold, predicted)), _count(predicted), _count(gold)]


def _sparse_counts(ends, predicted):
    b, h, n = ops.shape(predicted)[:3]
    ids = ops.reshape(ends[..., 0] * n + ends[..., 1], (b, h, -1))
    ids = ops.sort(ids, axis=-1)
    repeated = ops.pad(ids[..., 1:] == ids[..., :-1], [(0, 0), (0, 0), (1, 0)])
    gold = ops.logical_and(ids > 0, ops.logical_not(repeated))  # (b, h, k)
    predicted = ops.reshape(predicted, (b, h, -1))
    found = batch_gather(predicted, ids)
    # The sparse loss leaves the pair (0, 0) untrained, so it is no prediction either.
    hits = ops.logical_and(gold, found)
    return [_count(hits), _count(predicted[..., 1:]), _count(gold)]


def _count(flags):
    flags = ops.cast(ops.reshape(flags, (ops.shape(flags)[0], -1)), 'float32')
    return ops.sum(flags, axis=1)
