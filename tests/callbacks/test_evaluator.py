"""The evaluator keeps the best weights and continues as if never stopped."""

import keras
import numpy as np
import pytest
from keras import ops

from keraseff.callbacks import BEST
from keraseff.callbacks import STATE
from keraseff.callbacks import Evaluator
from keraseff.callbacks import averaged_weights

pytestmark = pytest.mark.every_backend


def make_model(use_ema=False):
    keras.utils.set_random_seed(1)
    # dropout on Torch draws from Torch's own state, which is not the model's
    rate = 0.0 if keras.backend.backend() == 'torch' else 0.5
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dropout(rate), keras.layers.Dense(1)]
    )
    optimizer = keras.optimizers.Adam(0.05, use_ema=use_ema, ema_momentum=0.9)
    model.compile(optimizer, 'mse')
    return model


def fit(model, evaluator, epochs, start=0):
    x = np.arange(32, dtype='float32').reshape(8, 4) / 32
    return model.fit(
        x, x.sum(axis=1), batch_size=4, shuffle=False, verbose=0,
        initial_epoch=start, epochs=epochs, callbacks=[evaluator],
    )  # fmt: skip


def weights(model):
    return [np.array(ops.convert_to_numpy(w)) for w in model.weights]


def assert_equal(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_the_best_epoch_is_kept(tmp_path):
    scores, seen = iter([0.1, 0.9, 0.3]), []
    model = make_model()

    def score():
        seen.append(weights(model))
        return next(scores)

    evaluator = Evaluator(score, tmp_path)
    history = fit(model, evaluator, 3)
    assert history.history['score'] == [0.1, 0.9, 0.3]
    assert (evaluator.best, evaluator.best_epoch, evaluator.epochs) == (0.9, 2, 3)
    other = make_model()
    assert evaluator.load_best(other)
    assert_equal(weights(other), seen[1])


def test_what_is_no_score(tmp_path):
    with pytest.raises(ValueError, match=r'score=0\.5 must be a function'):
        Evaluator(0.5, tmp_path)
    with pytest.raises(ValueError, match='without a score can only load_best'):
        Evaluator(None, tmp_path).on_train_begin()
    scores = iter([None, 'a', {}, float('nan'), 0.5])
    evaluator = Evaluator(lambda: next(scores), tmp_path)
    evaluator.set_model(make_model())
    for value in (None, 'a', {}):
        with pytest.raises(ValueError, match=f'score returned {value!r}; it must'):
            evaluator.on_epoch_end(0)
    for epoch, best in ((0, None), (1, 2)):
        evaluator.on_epoch_end(epoch)
        assert evaluator.best_epoch == best


def test_the_first_of_several_numbers_decides(tmp_path):
    numbers = iter([{'f1': 0.5, 'recall': 0.1}, {'f1': 0.4, 'recall': 0.9}])
    evaluator = Evaluator(lambda: next(numbers), tmp_path)
    history = fit(make_model(), evaluator, 2)
    assert evaluator.best_epoch == 1
    assert history.history['recall'] == [0.1, 0.9]


@pytest.mark.parametrize('use_ema', [False, True])
def test_stopping_changes_nothing(tmp_path, use_ema):
    whole = make_model(use_ema)
    fit(whole, Evaluator(lambda: 0.0, tmp_path / 'whole'), 4)

    first = make_model(use_ema)
    fit(first, Evaluator(lambda: 0.0, tmp_path / 'parts'), 2)
    second = make_model(use_ema)
    second.set_weights([w + 1 for w in second.get_weights()])
    evaluator = Evaluator(lambda: 0.0, tmp_path / 'parts')
    assert evaluator.resume(second) == 2
    fit(second, evaluator, 4, start=2)
    # dropout's random numbers included
    assert_equal(weights(second), weights(whole))
    assert evaluator.epochs == len(evaluator.history) == 4


def test_averages_are_scored_and_left_behind(tmp_path):
    model = make_model(use_ema=True)
    states = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            before = weights(model)
            with averaged_weights(model):
                inside = weights(model)
            assert_equal(weights(model), before)
            states.append((before, inside))

    start = weights(model)
    fit(model, Watch(), 2)  # the second epoch, too: on JAX no buffer may be shared
    for before, inside in states:
        assert not np.allclose(inside[0], before[0])
        # behind, since Adam's first steps all go one way
        assert np.all((inside[0] - start[0]) * (before[0] - inside[0]) >= 0)


def test_a_fresh_directory_and_a_strange_state(tmp_path):
    model = make_model()
    evaluator = Evaluator(lambda: 0.0, tmp_path)
    assert evaluator.resume(model) == 0
    assert not evaluator.load_best(model)
    fit(model, evaluator, 1)
    assert {p.name for p in tmp_path.iterdir()} == {BEST, STATE}
    wider = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    wider.compile('adam', 'mse')
    before = weights(wider)
    with pytest.raises(ValueError, match='state of another model'):
        Evaluator(lambda: 0.0, tmp_path).resume(wider)
    assert_equal(weights(wider), before)


def test_damaged_files_are_named(tmp_path):
    model = make_model()
    fit(model, Evaluator(lambda: 0.0, tmp_path), 1)
    before = weights(model)
    for name in (STATE, BEST):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:200])
    evaluator = Evaluator(lambda: 0.0, tmp_path)
    with pytest.raises(ValueError, match=r'state\.npz is damaged'):
        evaluator.resume(model)
    with pytest.raises(ValueError, match=r'best\.weights\.h5 can not be read'):
        evaluator.load_best(model)
    assert_equal(weights(model), before)
