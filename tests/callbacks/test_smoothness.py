"""Smoothness along training, on functions whose constants are known."""

import keras
import numpy as np
import pytest
from harness import gradients
from keras import ops
from tricks import array

from keraseff.callbacks.smoothness import SmoothnessMonitor
from keraseff.callbacks.smoothness import fit_smoothness

ZEROS = np.zeros((4, 1), 'float32')


class Function(keras.layers.Layer):
    """The same number for every row: a function of the layer's weights."""

    def __init__(self, function, start):
        super().__init__()
        self.function = function
        start = np.array(start, 'float32')
        self.w = self.add_weight(shape=start.shape, name='w')
        self.w.assign(start)

    def call(self, x):
        return x * 0 + self.function(ops.convert_to_tensor(self.w))


def descend(function, start, rate, steps, **options):
    """Train on a function for some steps; the monitor, and where the weights were."""
    x = keras.Input((1,))
    model = keras.Model(x, Function(function, start)(x))
    model.compile(keras.optimizers.SGD(rate), lambda y_true, y_pred: ops.mean(y_pred))
    monitor = SmoothnessMonitor(ZEROS, ZEROS, every=1, **options)
    many = np.zeros((4 * steps, 1), 'float32')
    model.fit(many, many, batch_size=4, verbose=0, callbacks=[monitor])
    return monitor


@pytest.mark.every_backend
def test_a_quadratic_has_no_l1():
    monitor = descend(lambda w: 1.5 * ops.sum(w * w), [2.0, -1.0], 0.1, 12)
    assert len(monitor.records) == 12
    first = monitor.records[0]
    np.testing.assert_allclose(first['gradient'], 3 * np.sqrt(5), rtol=1e-5)
    np.testing.assert_allclose(first['move'], 0.3 * np.sqrt(5), rtol=1e-5)
    zero, one = monitor.constants()
    np.testing.assert_allclose(zero, 3, rtol=1e-3)
    assert one < 1e-2


def test_an_exponential_has_no_l0(tmp_path):
    pytest.importorskip('matplotlib')
    picture = tmp_path / 'smoothness.png'
    monitor = descend(ops.exp, 3.0, 2e-3, 40, picture=picture)
    zero, one = monitor.constants()
    assert zero < 0.2
    np.testing.assert_allclose(one, 1, rtol=0.05)
    assert monitor.correlation() > 0.999
    assert picture.read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('points', [1, 4])
def test_the_fourth_power_is_16_1_smooth(points):
    monitor = descend(lambda w: w**4, 3.0, 2e-3, 30, points=points)
    at = 3.0
    for record in monitor.records:
        there = at - 2e-3 * 4 * at**3
        ends = [at + (there - at) * i / points for i in range(1, points + 1)]
        quotients = [4 * (at**3 - e**3) / (at - e) for e in ends]
        np.testing.assert_allclose(record['smoothness'], max(quotients), rtol=1e-3)
        np.testing.assert_allclose(record['gradient'], 4 * at**3, rtol=1e-4)
        assert record['smoothness'] <= 16 + record['gradient']
        at = there


@pytest.mark.every_backend
def test_the_probe_sees_the_present_numbers_and_no_dropout(rng):
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Dense(4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.5)(x)))
    model.compile(keras.optimizers.SGD(0.05), 'mse')
    x, y = (rng.normal(size=(24, n)).astype('float32') for n in (3, 1))
    before, after = [], []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            before[:] = [array(v).copy() for v in self.model.trainable_variables]

        def on_train_batch_end(self, batch, logs=None):
            after[:] = [array(v).copy() for v in self.model.trainable_variables]

    monitor = SmoothnessMonitor(x[:8], y[:8], every=2)
    callbacks = [Keep(), monitor]
    model.fit(x[:20], y[:20], batch_size=4, verbose=0, callbacks=callbacks)
    assert [r['step'] for r in monitor.records] == [1, 3, 5]
    variables = model.trainable_variables

    def loss(*values):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            predicted = model(x[:8], training=False)
            return ops.mean(ops.square(predicted - ops.convert_to_tensor(y[:8])))

    start, end = gradients(loss, *before), gradients(loss, *after)

    def length(parts):
        return np.sqrt(sum(np.sum(p**2) for p in parts))

    pairs = zip(start, end, strict=True)
    change = length([a - b for a, b in pairs])
    change /= length([a - b for a, b in zip(before, after, strict=True)])
    last = monitor.records[-1]
    np.testing.assert_allclose(last['gradient'], length(start), rtol=1e-4)
    np.testing.assert_allclose(last['smoothness'], change, rtol=1e-3)


def test_constants_are_fitted_over_decades_and_never_negative(rng):
    g = 10 ** rng.uniform(-3, 3, 200)
    np.testing.assert_allclose(fit_smoothness(g, 0.5 + 2 * g), [0.5, 2], rtol=1e-6)
    noisy = (0.5 + 2 * g) * np.exp(rng.normal(0, 0.1, 200))
    np.testing.assert_allclose(fit_smoothness(g, noisy), [0.5, 2], rtol=0.1)
    falling = fit_smoothness([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    assert falling[0] > 0
    assert falling[1] == 0
    assert fit_smoothness([1.0, 2.0], [0.0, 0.0]) == (0.0, 0.0)
    with pytest.raises(ValueError, match='No update was seen'):
        fit_smoothness([], [])
    monitor = SmoothnessMonitor(ZEROS)
    with pytest.raises(ValueError, match='0 updates were seen'):
        monitor.correlation()
    monitor.records = [{'gradient': 2.0, 'smoothness': 3.0}] * 4
    assert np.isnan(monitor.correlation())
    with pytest.raises(ValueError, match=r'\[4, 3\] rows'):
        SmoothnessMonitor(ZEROS, ZEROS[:3])
    with pytest.raises(ValueError, match='every=1.5'):
        SmoothnessMonitor(ZEROS, every=1.5)
    with pytest.raises(ValueError, match='points=0'):
        SmoothnessMonitor(ZEROS, points=0)
