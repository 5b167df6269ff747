"""Gradient clipping: its algebra, and the published reason for it."""

import keras
import numpy as np
import pytest
from harness import to_numpy
from numpy.testing import assert_allclose

from keraseff.optimizers import extend_with_gradient_accumulation
from keraseff.optimizers import extend_with_gradient_clipping

Clipped = extend_with_gradient_clipping(keras.optimizers.SGD)


def clip(gradients, **options):
    """The gradients as SGD receives them."""
    weights = [keras.Variable(np.zeros_like(g)) for g in gradients]
    tensors = [keras.ops.convert_to_tensor(g) for g in gradients]
    Clipped(1.0, **options).apply(tensors, weights)
    return [-to_numpy(w.value) for w in weights]


@pytest.mark.every_backend
def test_three_four_five():
    g = [np.array([3, 4], 'float32')]
    assert_allclose(clip(g)[0], [0.6, 0.8], atol=1e-6)
    assert_allclose(clip(g, mode='smooth')[0], [0.5, 2 / 3], atol=1e-6)
    apart = [np.array([3], 'float32'), np.array([0, 0.4], 'float32')]
    whole = clip([np.array([3], 'float32'), np.array([4, 0], 'float32')])
    assert_allclose(np.concatenate(whole), [0.6, 0.8, 0], atol=1e-6)
    found = clip(apart, per='variable')
    assert_allclose(np.concatenate(found), [1, 0, 0.4], atol=1e-6)
    for mode in ('hard', 'smooth'):
        for per in ('global', 'variable'):
            still = clip([np.zeros(2, 'float32')], mode=mode, per=per)
            assert_allclose(still[0], [0, 0], atol=0)


def test_smooth_lies_between_half_of_hard_and_hard(rng):
    direction = rng.normal(size=5)
    for length in 10.0 ** np.arange(-6, 7):
        g = [(length * direction / np.linalg.norm(direction)).astype('float32')]
        hard, smooth = clip(g)[0], clip(g, mode='smooth')[0]
        for found in (hard, smooth):
            cosine = found @ g[0] / np.linalg.norm(found) / np.linalg.norm(g[0])
            assert cosine == pytest.approx(1, abs=1e-5)
        hard, smooth = np.linalg.norm(hard), np.linalg.norm(smooth)
        assert 0.5 * hard * (1 - 1e-6) <= smooth <= hard * (1 + 1e-6)
        assert hard == pytest.approx(min(length, 1), rel=1e-5)
        assert smooth < 1 + 1e-6


def test_hard_and_global_is_that_of_keras(rng):
    g = [rng.normal(size=s).astype('float32') for s in ((3, 2), (4,))]
    weights = [keras.Variable(np.zeros_like(x)) for x in g]
    keras.optimizers.SGD(1.0, global_clipnorm=0.7).apply(
        [keras.ops.convert_to_tensor(x) for x in g], weights
    )
    for mine, theirs in zip(clip(g, gamma=0.7), weights, strict=True):
        assert_allclose(mine, -to_numpy(theirs.value), atol=1e-6)


def test_half_precision_lengths_do_not_overflow():
    g = [np.full(4, 30000, 'float16')]
    assert_allclose(clip(g, mode='hard')[0], np.full(4, 0.5), atol=1e-3)


def test_the_mean_is_clipped_not_its_parts():
    cls = extend_with_gradient_accumulation(Clipped)
    weight = keras.Variable(np.zeros(2, 'float32'))
    optimizer = cls(1.0, grad_accum_steps=2, gamma=1.0)
    for g in ([300.0, 4.0], [-294.0, 4.0]):
        optimizer.apply([keras.ops.convert_to_tensor(g)], [weight])
    assert_allclose(to_numpy(weight.value), [-0.6, -0.8], atol=1e-5)


def test_smooth_clipping_descends_where_plain_descent_diverges():
    """x ** 4: |f''| <= L0 + L1 |f'| for L0 = 16, L1 = 1, as 12 x² - 4 |x|³ <= 16."""
    x = np.linspace(-9, 9, 1801)
    assert (12 * x**2 - 4 * np.abs(x) ** 3).max() == pytest.approx(16)

    def course(optimizer, steps):
        weight = keras.Variable(8.0)
        values = [8.0]
        for _ in range(steps):
            optimizer.apply([4 * weight.value**3], [weight])
            values.append(float(to_numpy(weight.value)))
        return np.array(values)

    found = course(Clipped(1 / 16, mode='smooth', gamma=16.0), 400)
    assert (np.diff(found) < 0).all()
    assert 0 < found[-1] < 0.2
    expected = [8.0]
    for _ in range(400):
        slope = 4 * expected[-1] ** 3
        expected.append(expected[-1] - slope / (16 + slope))
    assert_allclose(found, expected, atol=1e-4)
    plain = course(keras.optimizers.SGD(1 / 16), 3)
    assert (np.diff(np.abs(plain)) > 0).all()
    assert abs(plain[-1]) > 1e12


def test_what_clips_nothing():
    for options in ({'mode': 'soft'}, {'gamma': 0.0}, {'per': 'layer'}):
        with pytest.raises(ValueError, match="mode is 'hard' or 'smooth'"):
            Clipped(0.1, **options)
