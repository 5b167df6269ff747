"""Moving averages of the weights: put on, taken off, left alone by `fit`."""

import keras
import numpy as np
import pytest
from harness import assert_close
from reference import optimizers as slow

from keraseff import optimizers as ours
from keraseff.callbacks import averaged_weights

X = np.random.default_rng(0).normal(size=(8, 3)).astype('float32')


def build(*extensions, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    cls = ours.extend_with_exponential_moving_average(keras.optimizers.SGD)
    for name in extensions:
        cls = getattr(ours, f'extend_with_{name}')(cls)
    model.compile(cls(0.1, **options), 'mse')
    return model


@pytest.mark.every_backend
def test_the_average_of_all_but_the_first_weights():
    model = build(ema_momentum=0.8)
    model.optimizer.apply_ema_weights()
    course = [model.get_weights()]  # nothing to put on yet
    for _ in range(5):
        model.fit(X, X[:, :2], 8, verbose=0)
        course.append(model.get_weights())
    expected = [slow.averaged(list(c), 0.8) for c in zip(*course[1:], strict=True)]
    raw = [(1 - 0.8**5) * e for e in expected]
    for bias_correction, weights in ((True, expected), (False, raw)):
        model.optimizer.apply_ema_weights(bias_correction)
        assert_close(model.get_weights(), weights, atol=1e-6)
    model.optimizer.apply_ema_weights()
    model.optimizer.reset_old_weights()
    assert_close(model.get_weights(), course[-1], atol=0)
    model.optimizer.reset_old_weights()
    assert_close(model.get_weights(), course[-1], atol=0)
    with averaged_weights(model):
        assert_close(model.get_weights(), expected, atol=1e-6)
    assert_close(model.get_weights(), course[-1], atol=0)
    model.fit(X, X[:, :2], 8, verbose=0)


def test_averages_are_of_updates_not_of_gradients():
    model = build('gradient_accumulation', ema_momentum=0.8, grad_accum_steps=2)
    course = []
    for _ in range(6):
        model.train_on_batch(X, X[:, :2])
        course.append(model.get_weights())
    with averaged_weights(model):
        found = model.get_weights()
    for i, values in enumerate(zip(*course, strict=True)):
        assert_close(found[i], slow.averaged(values[1::2], 0.8), atol=1e-6)


def test_averaged_weights_in_half_precision():
    """The optimizer's methods are those of the one within the loss scaling."""
    keras.config.set_dtype_policy('mixed_float16')
    model = build(ema_momentum=0.8)
    course = []
    for _ in range(3):
        model.train_on_batch(X / 9, X[:, :2] / 9)  # no gradient overflows
        course.append(model.get_weights())
    with averaged_weights(model):
        found = model.get_weights()
    expected = [slow.averaged(list(c), 0.8) for c in zip(*course, strict=True)]
    assert_close(found, expected, atol=1e-6)
    assert_close(model.get_weights(), course[-1], atol=0)
