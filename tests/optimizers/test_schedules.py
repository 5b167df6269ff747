"""Learning rates over time."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy

from keraseff.optimizers import PiecewiseLinear
from keraseff.optimizers import extend_with_piecewise_linear_lr
from keraseff.optimizers import piecewise_linear
from keraseff.optimizers import warmup_cosine
from keraseff.optimizers import warmup_linear

STEPS = np.arange(40)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    'schedule', [{10: 1, 30: 0.1}, {0: 0.5, 7: 2}, {0: 1}, {5: 3}, {'3': 1, '9': 0}]
)
def test_piecewise_linear(schedule):
    points = sorted((int(t), v) for t, v in schedule.items())
    times, values = zip(*points, strict=True)
    held = np.interp(STEPS, times, values)
    risen = held if times[0] == 0 else np.interp(STEPS, (0, *times), (0, *values))
    assert_close(to_numpy(piecewise_linear(STEPS, schedule)), risen, atol=1e-6)
    assert_close(to_numpy(piecewise_linear(STEPS, schedule, False)), held, atol=1e-6)
    rate = PiecewiseLinear(schedule, 2e-5)
    assert_close(float(rate(13)), 2e-5 * risen[13], rtol=1e-6, atol=0)


def test_schedules_rise_and_fall():
    rise = np.minimum(STEPS / 10, 1)
    fall = np.clip((40 - STEPS) / 30, 0, 1)
    rate = warmup_linear(0.3, 40, 10, final=0.2)
    found = np.array([float(rate(t)) for t in STEPS])
    assert_close(found, 0.3 * np.where(STEPS < 10, rise, 0.2 + 0.8 * fall), atol=1e-7)
    assert_close(float(rate(10**6)), 0.06, atol=1e-7)
    rate = warmup_cosine(0.3, 40, 0.25, final=0.2)
    wave = 0.5 + 0.5 * np.cos(np.pi * (1 - fall))
    found = np.array([float(rate(t)) for t in STEPS])
    assert_close(found, 0.3 * np.where(STEPS < 10, rise, 0.2 + 0.8 * wave), atol=1e-6)
    assert float(warmup_cosine(0.3, 40, 0)(0)) == pytest.approx(0.3)
    assert float(warmup_linear(0.3, 40, 0)(0)) == pytest.approx(0.3)


def test_schedules_in_any_optimizer():
    for rate in (PiecewiseLinear({2: 1, 4: 0.5}, 0.1), warmup_cosine(0.1, 9, 3)):
        optimizer = keras.optimizers.SGD(rate)
        config = keras.saving.serialize_keras_object(optimizer)
        again = keras.saving.deserialize_keras_object(config)
        weight = keras.Variable(1.0)
        for step in range(5):
            before, expected = float(weight.numpy()), float(rate(step))
            again.apply([keras.ops.ones(())], [weight])
            assert before - float(weight.numpy()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.every_backend
@pytest.mark.filterwarnings('ignore:.*which can be costly')
def test_callbacks_change_the_first_factor():
    """That alone is what they read, in the middle of a schedule too."""
    cls = extend_with_piecewise_linear_lr(keras.optimizers.SGD)
    x = np.ones((4, 1), 'float32')
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    optimizer = cls(1.0, lr_schedule={2: 1, 6: 0.1})
    model.compile(optimizer, lambda y_true, y_pred: keras.ops.mean(y_pred))
    seen, moved = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.before = self.model.get_weights()[1][0]
            seen.append(float(optimizer.scheduled_learning_rate()))

        def on_train_batch_end(self, batch, logs=None):
            moved.append(self.before - self.model.get_weights()[1][0])

    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    model.fit(x, x, 1, epochs=2, callbacks=[halve, Watch()], verbose=0)
    rates = np.interp(range(8), [0, 2, 6], [0, 1, 0.1]) * np.repeat([0.5, 0.25], 4)
    assert_close(np.array([seen, moved]), np.array([rates, rates]), atol=1e-6)
    plateau = keras.callbacks.ReduceLROnPlateau('rate', 0.5, patience=1, mode='max')
    plateau.set_model(model)
    plateau.on_train_begin()
    for epoch in range(2):
        plateau.on_epoch_end(epoch, {'rate': 0.0})
    assert float(optimizer.learning_rate) == 0.125
    assert float(optimizer.scheduled_learning_rate()) == pytest.approx(0.0125)


def test_decay_of_keras_follows_the_schedule():
    """Its `weight_decay` is of the rate of the step."""
    cls = extend_with_piecewise_linear_lr(keras.optimizers.SGD)
    optimizer = cls(0.5, lr_schedule={2: 1}, weight_decay=0.1)
    weight = keras.Variable(1.0)
    for expected in (1, 1 - 0.025, (1 - 0.025) * 0.95):
        optimizer.apply([keras.ops.zeros(())], [weight])
        assert float(weight.numpy()) == pytest.approx(expected)


def test_what_is_no_schedule():
    for wrong in ({}, {'soon': 1}, {-1: 2}, {5: 1, 5.5: 2}, 5, None):
        with pytest.raises(ValueError, match='is no schedule'):
            PiecewiseLinear(wrong)
    with pytest.raises(ValueError, match='warmup=50 does not fit'):
        warmup_linear(0.1, 40, 50)
