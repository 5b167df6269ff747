"""Self-training: what the model says of rows without labels becomes their label.

trainer = SelfTrainer(rounds=4, weights=(0.1, 0.2, 1.0))
model = trainer.fit(make_model, x, y, unlabelled, epochs=5, batch_size=64)
trainer.history                     # rows kept in each round, and its losses
"""

from numbers import Real

import keras
import numpy as np

from keraseff.optimizers.arguments import check_count
from keraseff.optimizers.arguments import check_number

WEIGHTS = 0.1, 0.2, 1.0


class SelfTrainer:
    """Trains, labels the unlabelled rows, trains on both, and so on.

    Args:
        rounds: how many trainings; the first is on the labelled rows alone.
        weights: of a row that the model labelled, in the second round and those after
            it; a labelled row has 1.  The last stands for all that follow, a number
            for all.
        agreement: from the third round on, keep only the rows of which all rounds said
            the same.
        threshold: keep only rows whose confidence is at least this, from 0 to 1 for a
            probability.
        predict: (model, unlabelled) -> labels, in the form in which `fit` takes them,
            or (labels, confidences (rows,)).  By default, for a model of one output,
            the class of the highest score, as a number or one-hot as the given labels
            are, and its probability (of tags: that of the least certain step).
        agree: (labels, labels) -> bool (rows,); by default all of a row's are equal.
        mask: unlabelled -> bool, true where a step counts, for tags of texts that are
            padded; labels elsewhere are 0.

    Attributes after `fit`:

        history: a dict for each round: `kept`, the number of rows that it was trained
            on besides the labelled, and the last epoch's losses and metrics.
        labels, kept: what the last round was given: the unlabelled rows' labels, and
            which of them it saw, bool (rows,).

    https://kexue.fm/archives/3942
    """

    def __init__(
        self,
        rounds=4,
        weights=WEIGHTS,
        agreement=True,
        threshold=0.0,
        predict=None,
        agree=None,
        mask=None,
    ):
        check_count(rounds=rounds)
        weights = (weights,) if isinstance(weights, Real) else tuple(weights)
        if not weights:
            raise ValueError(f'weights={weights!r}: expected at least one number.')
        for weight in weights:
            check_number(least=0, weights=weight)
        check_number(least=0, threshold=threshold, **({} if predict else {'most': 1.0}))
        self.rounds = int(rounds)
        self.weights = weights
        self.agreement = agreement
        self.threshold = threshold
        self.predict = predict or self._predict
        self.agree = agree or _all_equal
        self.mask = mask
        self.history, self.labels, self.kept = [], None, None

    def fit(self, model, x, y, unlabelled, sample_weight=None, **options):
        """Train.

        Args:
            model: a function that makes a compiled model, of which each round begins
                anew; or a compiled model, which goes on learning.
            x, y: labelled rows, as for `model.fit`: arrays or nests of them.  y are
                classes (rows,) or (rows, 1), one-hot classes (rows, c), or of tags
                (rows, n); of others, and of several outputs, `predict` has to be given.
            unlabelled: more rows like x; sequences are padded with 0 to the longer.
            sample_weight: of the labelled rows, 1 by default.
            options: of `model.fit`.  Of `validation_split` it is that part of the
                labelled rows, their last, in each round; nobody trains on them.

        Returns the model of the last round.

        Raises ValueError for labels that the default `predict` cannot give.
        """
        self.history, self.labels, self.kept = [], None, None
        said = []
        x, y, unlabelled = (_as_arrays(nest) for nest in (x, y, unlabelled))
        x, y, sample_weight = _held_out(x, y, sample_weight, options)
        self._check_labels(y)
        for number in range(self.rounds):
            one = model() if _makes(model) else model
            weight = 1.0 if sample_weight is None else sample_weight
            data = x, y, _weights(y, weight, _is_one_hot(one, y))
            if number:
                self.labels, self.kept = self._choose(said)
                weight = self.weights[min(number, len(self.weights)) - 1]
                data = _joined(data, self._rows(unlabelled), weight)
            result = one.fit(data[0], data[1], sample_weight=data[2], **options)
            last = {name: values[-1] for name, values in result.history.items()}
            kept = 0 if self.kept is None else int(self.kept.sum())
            self.history.append({'kept': kept, **last})
            if number + 1 < self.rounds:
                said.append(self._label(one, unlabelled, y))
        return one

    def _check_labels(self, y):
        arrays = len(keras.tree.flatten(y))
        if arrays > 1 and self.predict == self._predict:
            raise ValueError(
                f'y has {arrays} arrays: of several outputs say how labels are made, '
                'SelfTrainer(predict=(model, unlabelled) -> labels).'
            )

    def _label(self, model, unlabelled, y):
        """(labels, confidences) of all unlabelled rows."""
        said = self.predict(model, unlabelled)
        labels, sure = said if isinstance(said, tuple) else (said, None)
        if self.predict == self._predict:
            labels = _formed(labels, np.asarray(_first(y)))
        return labels, np.ones(len(_first(labels))) if sure is None else sure

    def _choose(self, said):
        """The last round's labels, and the rows to keep."""
        labels, sure = said[-1]
        kept = np.asarray(sure) >= self.threshold
        if self.agreement:
            for before, _ in said[:-1]:
                kept &= np.asarray(self.agree(before, labels), bool)
        return labels, kept

    def _rows(self, unlabelled):
        def pick(a):
            return np.asarray(a)[self.kept]

        chosen = keras.tree.map_structure(pick, unlabelled)
        return chosen, keras.tree.map_structure(pick, self.labels)

    def _predict(self, model, unlabelled):
        scores = model.predict(unlabelled, verbose=0)
        p = _probabilities(np.asarray(scores, 'float64'))
        if p.shape[-1] == 1:
            labels, sure = (p > 0.5).astype('int32'), np.maximum(p, 1 - p)[..., 0]
        else:
            labels, sure = p.argmax(-1).astype('int32'), p.max(-1)
        if self.mask is not None:
            counts = np.asarray(self.mask(unlabelled), bool)
            labels = np.where(counts.reshape(counts.shape[: labels.ndim]), labels, 0)
            sure = np.where(counts, sure, 1.0)
        return labels, sure.reshape(len(sure), -1).min(-1)


def _probabilities(scores):
    """Softmax of what are no probabilities yet; of a single score the logistic."""
    single = scores.shape[-1] == 1
    low = scores.min(initial=0.0) >= 0
    if low and (scores.max(initial=0.0) <= 1 if single else _sums_to_one(scores)):
        return scores
    if single:
        return 1 / (1 + np.exp(-scores))
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _sums_to_one(scores):
    return np.allclose(scores.sum(-1), 1, atol=1e-2)


def _makes(model):
    return not isinstance(model, keras.Model)


def _all_equal(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return (one == other).reshape(len(one), -1).all(-1)


def _first(nest):
    return keras.tree.flatten(nest)[0]


def _as_arrays(nest):
    """A list of plain numbers (of lists of them) as an array; nests of arrays stay."""
    plain = isinstance(nest, (list, tuple)) and not any(
        np.ndim(x) for x in keras.tree.flatten(nest)
    )
    return np.asarray(nest) if plain else nest


def _held_out(x, y, weight, options):
    """The rows to train on; the others go into the options as validation data."""
    share = options.pop('validation_split', None)
    if not share or options.get('validation_data') is not None:
        return x, y, weight
    check_number(least=0, validation_split=share, most=0.99)
    rows = len(_first(y))
    count = int(rows * (1 - share))
    if not 0 < count < rows:
        raise ValueError(
            f'validation_split={share!r} of {rows} labelled rows leaves {count} to '
            'train on; give more rows, or validation_data.'
        )

    def cut(part):
        given = (x, y) if weight is None else (x, y, np.asarray(weight))
        return keras.tree.map_structure(lambda a: np.asarray(a)[part], given)

    options['validation_data'] = cut(slice(count, None))
    return (*cut(slice(count)), None)[:3]


def _is_one_hot(model, y):
    """Whether labels have an axis of classes, as the model's one output has."""
    outputs, y = getattr(model, 'outputs', None), np.asarray(_first(y))
    shape = outputs[0].shape if outputs and len(outputs) == 1 else ()
    return y.ndim > 1 and len(shape) == y.ndim and shape[-1] == y.shape[-1] > 1


def _formed(labels, like):
    """Classes in the form of the given labels; (rows, 1), (rows,) or one-hot."""
    if labels.ndim == like.ndim + 1 and labels.shape[-1] == 1:
        return labels[..., 0]
    if labels.ndim == like.ndim - 1 and like.shape[-1] == 1:
        return labels[..., None]
    if labels.ndim == like.ndim - 1 and (like.sum(-1) == 1).all():
        return np.eye(like.shape[-1], dtype=like.dtype)[labels]
    if labels.ndim == like.ndim:
        return labels
    raise ValueError(
        f'y has shape {like.shape} and the classes of the highest scores '
        f'{labels.shape}, and y is not one-hot; say how labels are made, '
        'SelfTrainer(predict=(model, unlabelled) -> labels).'
    )


def _weights(y, weight, one_hot=False):
    """Weights of the rows, or of their steps where each step has a label."""
    y, weight = np.asarray(_first(y)), np.asarray(weight, 'float32')
    if one_hot:
        return np.broadcast_to(weight, y.shape[:1])
    if y.ndim == 2 and y.shape[1] > 1 and np.issubdtype(y.dtype, np.integer):
        weight = weight[:, None] if weight.ndim == 1 else weight
        return np.broadcast_to(weight, y.shape)
    return np.broadcast_to(weight, y.shape[:1])


def _joined(labelled, pseudo, weight):
    x, y, weights = labelled
    more_x, more_y = pseudo
    steps = weights.ndim > 1
    more = _weights(more_y, weight, one_hot=not steps)
    return (
        keras.tree.map_structure(_stacked, x, more_x),
        keras.tree.map_structure(_stacked, y, more_y),
        _stacked(weights, more),
    )


def _stacked(above, below):
    above, below = np.asarray(above), np.asarray(below)
    if above.ndim == 2 == below.ndim or above.ndim > 2:
        longest = max(above.shape[1], below.shape[1])
        above, below = _padded(above, longest), _padded(below, longest)
    return np.concatenate([above, below.astype(above.dtype)])


def _padded(a, length):
    return np.pad(a, [(0, 0), (0, length - a.shape[1])] + [(0, 0)] * (a.ndim - 2))
