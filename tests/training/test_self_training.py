"""Self-training on topics that have their own words, few of them in labelled rows."""

import keras
import numpy as np
import pytest
from tricks import IDS
from tricks import LABELS

from keraseff.layers import Embedding
from keraseff.training import SelfTrainer


def texts(rows, seed, vocabulary, length):
    """Counts of words (rows, v), and which half of the words the text is about."""
    draw = np.random.default_rng(seed)
    half, shape = vocabulary // 2, (rows, length)
    y = draw.integers(0, 2, rows)
    own = draw.integers(0, half, shape) + y[:, None] * half
    words = np.where(draw.random(shape) < 0.3, draw.integers(0, 2 * half, shape), own)
    return np.stack([np.bincount(w, minlength=2 * half) for w in words]).astype('f4'), y


def make(seed, vocabulary):
    keras.utils.set_random_seed(seed)
    x = keras.Input((vocabulary,))
    begin = keras.initializers.RandomNormal(stddev=0.1)
    model = keras.Model(x, keras.layers.Dense(2, kernel_initializer=begin)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss)
    return model


def accuracy(model, x, y):
    return (model.predict(x, verbose=0).argmax(-1) == y).mean()


def test_a_weak_model_improves():
    # Nine of ten seeds gain 3 to 9 points, of texts whose words are mostly unlabelled.
    size = {'vocabulary': 300, 'length': 12}
    (x, y), (unlabelled, truth), test = (
        texts(rows, seed, **size) for rows, seed in ((30, 0), (600, 2), (600, 3))
    )
    options = {'epochs': 60, 'batch_size': 1000, 'verbose': 0}
    seeds = iter(range(100))
    weak = make(next(seeds), 300)
    weak.fit(x, y, **options)
    trainer = SelfTrainer(rounds=4, weights=(1.0,), threshold=0.9)
    model = trainer.fit(lambda: make(next(seeds), 300), x, y, unlabelled, **options)
    assert accuracy(model, *test) > accuracy(weak, *test) + 0.03
    right = trainer.labels == truth
    assert 300 < trainer.kept.sum() < 600
    assert right[trainer.kept].mean() > right.mean()
    assert 'loss' in trainer.history[-1]


def test_rows_on_which_the_rounds_agree_are_right_more_often():
    size = {'vocabulary': 60, 'length': 8}
    options = {'epochs': 25, 'batch_size': 1000, 'verbose': 0}
    right, kept = [], []
    for seed in (5, 10, 15):
        (x, y), (unlabelled, truth) = (
            texts(6, seed, **size),
            texts(600, seed + 2, **size),
        )
        seeds = iter(range(seed, 100, 20))
        trainer = SelfTrainer(rounds=4)
        trainer.fit(lambda s=seeds: make(next(s), 60), x, y, unlabelled, **options)
        rows = [entry['kept'] for entry in trainer.history]
        assert rows[:2] == [0, 600]
        assert rows[1] > rows[2] >= rows[3] > 400
        right.append(trainer.labels == truth)
        kept.append(trainer.kept)
    right, kept = np.concatenate(right), np.concatenate(kept)
    assert right[kept].mean() > right.mean()
    assert right[~kept].mean() < right.mean() - 0.05


class Watched:
    """Stands for the model: keeps what it is trained on, says what it is told to."""

    def __init__(self, said):
        self.said, self.seen = iter(said), []

    def __call__(self):
        return self

    def fit(self, x, y, sample_weight, **_):
        self.seen.append((x, y, sample_weight))
        return keras.callbacks.History()

    def predict(self, x, verbose=0):
        return next(self.said)


@pytest.fixture(autouse=True)
def _history(monkeypatch):
    monkeypatch.setattr(keras.callbacks.History, 'history', {}, raising=False)


def one_hot(labels):
    return np.eye(3)[labels]


def test_rounds_weights_and_agreement():
    rounds = [[0, 1, 2, 1], [0, 1, 1, 1], [0, 2, 1, 1]]
    model = Watched([one_hot(labels) for labels in rounds])
    x, more = np.zeros((2, 1)), np.arange(1.0, 5)[:, None]
    trainer = SelfTrainer(rounds=4, weights=(0.1, 0.5))
    trainer.fit(model, x, np.array([2, 2]), more)
    rows = [(a[:, 0].tolist(), b.tolist(), w.tolist()) for a, b, w in model.seen]
    assert rows[0] == ([0, 0], [2, 2], [1, 1])
    assert rows[1][:2] == ([0, 0, 1, 2, 3, 4], [2, 2, 0, 1, 2, 1])
    np.testing.assert_allclose(rows[1][2], [1, 1, 0.1, 0.1, 0.1, 0.1])
    assert rows[2] == ([0, 0, 1, 2, 4], [2, 2, 0, 1, 1], [1, 1, 0.5, 0.5, 0.5])
    assert rows[3] == ([0, 0, 1, 4], [2, 2, 0, 1], [1, 1, 0.5, 0.5])


def test_tags_agree_but_for_padding():
    texts = np.array([[5, 6, 0], [7, 8, 9]])
    first, second = [[1, 2, 1], [0, 1, 2]], [[1, 2, 2], [0, 1, 1]]
    model = Watched([one_hot(np.array(t)) for t in (first, second)])
    trainer = SelfTrainer(rounds=3, mask=lambda x: x > 0)
    trainer.fit(model, texts[:1, :2], np.array([[2, 2]]), texts)
    assert trainer.kept.tolist() == [True, False]
    x, y, weights = model.seen[2]
    assert x.tolist() == [[5, 6, 0], [5, 6, 0]]
    assert y.tolist() == [[2, 2, 0], [1, 2, 0]]
    np.testing.assert_allclose(weights, [[1, 1, 0], [0.2, 0.2, 0.2]])


def test_functions_of_the_caller():
    model = Watched([])
    said = iter([['a', 'b'], ['a', 'c']])
    trainer = SelfTrainer(
        rounds=3,
        predict=lambda model, rows: (np.array(next(said)), np.array([0.9, 0.4])),
        agree=lambda one, other: np.array([True, True]),
        threshold=0.5,
    )
    trainer.fit(model, np.zeros((1, 1)), np.array(['z']), np.ones((2, 1)))
    assert trainer.kept.tolist() == [True, False]
    assert model.seen[2][1].tolist() == ['z', 'a']
    with pytest.raises(ValueError, match='rounds=0'):
        SelfTrainer(rounds=0)


def test_validation_rows_are_labelled_ones_that_no_round_sees():
    class Validated(Watched):
        validation = []

        def fit(self, x, y, sample_weight, validation_data, **_):
            self.validation.append(validation_data)
            return super().fit(x, y, sample_weight)

    model = Validated([one_hot([0, 1, 2])])
    x, y = np.arange(5.0)[:, None], [2, 1, 0, 1, 2]
    trainer = SelfTrainer(rounds=2, weights=0.5)
    trainer.fit(model, x, y, x[:3] + 9, sample_weight=y, validation_split=0.4)
    for seen in model.validation:
        assert [np.ravel(a).tolist() for a in seen] == [[3, 4], [1, 2], [1, 2]]
    assert np.ravel(model.seen[1][0]).tolist() == [0, 1, 2, 9, 10, 11]
    assert model.seen[1][2].tolist() == [2, 1, 0, 0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match='of 1 labelled rows leaves 0'):
        trainer.fit(model, x[:1], y[:1], x, validation_split=0.5)


FORMS = {
    'one-hot': (one_hot([2, 0]), one_hot([0, 1]), one_hot([0, 1])),
    'binary': (np.array([1, 0]), np.array([[0.9], [0.2]]), np.array([1, 0])),
    'columns': (np.array([[1], [0]]), one_hot([0, 1]), np.array([[0], [1]])),
    'list': ([1, 0], one_hot([0, 1]), np.array([0, 1])),
}


@pytest.mark.parametrize('name', FORMS)
def test_labels_are_made_in_the_form_of_those_given(name):
    y, scores, labels = FORMS[name]
    model = Watched([scores])
    trainer = SelfTrainer(rounds=2)
    trainer.fit(model, np.zeros((2, 1)), y, np.ones((2, 1)))
    np.testing.assert_array_equal(trainer.labels, labels)
    np.testing.assert_array_equal(model.seen[1][1], np.concatenate([y, labels]))
    assert model.seen[1][2].shape == (4,)


def test_labels_that_cannot_be_made_are_refused():
    x = np.zeros((2, 1))
    with pytest.raises(ValueError, match='is not one-hot; say how'):
        SelfTrainer(2).fit(Watched([one_hot([0, 1])]), x, np.ones((2, 3)), x)
    with pytest.raises(ValueError, match='y has 2 arrays: .*predict='):
        SelfTrainer(2).fit(Watched([]), x, (np.zeros(2), np.zeros(2)), x)


def test_one_hot_labels_of_whole_numbers_train():
    model = make(0, 4)
    model.compile('sgd', keras.losses.CategoricalCrossentropy(from_logits=True))
    x = np.eye(4, dtype='float32')
    trainer = SelfTrainer(rounds=2)
    trainer.fit(model, x, np.eye(2, dtype='int32')[[0, 1, 0, 1]], x, verbose=0)
    assert trainer.labels.shape == (4, 2)
    assert trainer.history[1]['kept'] == 4


@pytest.mark.every_backend
def test_labels_of_masked_steps_change_no_loss():
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype='int32')
    x = Embedding(10, 6, mask_zero=True)(ids)
    model = keras.Model(ids, keras.layers.Dense(3)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)
    y = np.tile(LABELS[:, None], (1, 4))
    weights = np.ones(y.shape, 'float32')
    losses = [
        float(model.train_on_batch(IDS, np.where(IDS > 0, y, other), weights))
        for other in (0, 1, 2)
    ]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)
    seen = float(model.train_on_batch(IDS, (y + 1) % 3, weights))
    assert abs(seen - losses[0]) > 1e-4
