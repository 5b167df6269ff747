"""KERPLE against its formulas; its weights stay where the kernels are defined."""

import keras
import numpy as np
import pytest
from harness import gradients
from harness import to_numpy
from keras import ops

from keraseff.layers import MultiHeadAttention
from keraseff.layers.position.kerple import Kerple

X = np.zeros((1, 6, 2), 'float32')
FAR = np.abs(np.arange(6)[:, None] - np.arange(6))


def made(kind, r1, r2):
    layer = Kerple(None, len(r1), kind)
    layer(X)
    layer.r1.assign(np.array(r1, 'float32'))
    layer.r2.assign(np.array(r2, 'float32'))
    return layer


@pytest.mark.every_backend
def test_both_kernels():
    r1, r2 = [0.3, 1.7], [0.5, 1.9]
    log, power = (to_numpy(made(kind, r1, r2)(X))[0] for kind in ('log', 'power'))
    for h, (a, b) in enumerate(zip(r1, r2, strict=True)):
        np.testing.assert_allclose(log[h], -a * np.log(1 + b * FAR), rtol=1e-5)
        np.testing.assert_allclose(power[h], -a * FAR**b, rtol=1e-5)


@pytest.mark.parametrize('kind', ['log', 'power'])
def test_kernels_are_conditionally_positive_definite(kind, rng):
    """Σ c_i c_j K(i - j) > 0 for every c whose sum is 0; not so for a power above 2."""
    c = rng.normal(size=(200, 6))
    c -= c.mean(1, keepdims=True)
    p = to_numpy(made(kind, [0.3, 1.7, 1], [0.5, 1.9, 2])(X))[0].astype('float64')
    assert np.einsum('ti,hij,tj->th', c, p, c).min() > -1e-4
    assert np.einsum('ti,ij,tj->t', c, -1.0 * FAR**3, c).min() < -1


@pytest.mark.every_backend
def test_weights_out_of_bounds_are_pulled_in():
    wild = to_numpy(made('power', [-3, 1], [5, -1])(X))[0]
    np.testing.assert_allclose(wild[0], -0.01 * FAR**2, rtol=1e-5)
    np.testing.assert_allclose(wild[1], -1.0 * np.where(FAR, FAR**0.01, 0), rtol=1e-5)
    wild = to_numpy(made('log', [2, 1], [5, -1])(X))[0]
    np.testing.assert_allclose(wild[0], -2 * np.log1p(5 * FAR), rtol=1e-5)
    np.testing.assert_allclose(wild[1], -np.log1p(0.01 * FAR), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('kind', ['log', 'power'])
def test_training_moves_the_weights_and_keeps_them_in_bounds(kind):
    layer = made(kind, [0.009, 0.5], [0.01, 1.0])
    x = keras.Input((None, 2))
    model = keras.Model(x, layer(x))
    model.compile(keras.optimizers.SGD(0.5), 'mse')
    # What lies beyond a bound comes back: scores of -3 ask for larger weights.
    model.fit(X, np.full((1, 2, 6, 6), -3.0), verbose=0)
    assert (to_numpy(layer.r1.value) > [0.01, 0.5]).all()
    # And 3 is beyond reach: the weights stop at the bound, and stay finite.
    for _ in range(4):
        model.fit(X, np.full((1, 2, 6, 6), 30.0), verbose=0)
    least = np.full(2, 0.01, 'float32')
    np.testing.assert_array_equal(to_numpy(layer.r1.value), least)
    assert (to_numpy(layer.r2.value) >= least).all()
    assert kind == 'log' or (to_numpy(layer.r2.value) <= 2).all()


@pytest.mark.every_backend
def test_slopes_are_finite_where_there_is_no_distance():
    layer = made('power', [0.7], [1.2])

    def f(x, ids):
        return ops.sum(layer(x, ids) ** 2)

    slope = gradients(f, X, np.arange(6, dtype='float32')[None])[1][0]
    total = (0.7 * FAR**1.2) ** 2
    ahead = np.sign(np.arange(6)[:, None] - np.arange(6))
    with np.errstate(divide='ignore', invalid='ignore'):
        each = np.where(FAR > 0, 2 * total * 1.2 / FAR * ahead, 0)
    np.testing.assert_allclose(slope, 2 * each.sum(1), rtol=1e-4)


def test_the_weights_at_first():
    for kind, ends in (('log', (2, 1)), ('power', (1, 2))):
        layer = Kerple(None, 500, kind)
        layer(X)
        for weight, end in zip((layer.r1, layer.r2), ends, strict=True):
            value = to_numpy(weight.value)
            assert value.min() >= 0.01
            assert 0.97 * end < value.max() <= end
    with pytest.raises(ValueError, match="kind='linear'"):
        Kerple(kind='linear')


def test_weights_that_were_not_made_are_told():
    layer = MultiHeadAttention(2, 4, position='kerple')
    x = np.ones((1, 3, 8), 'float32')
    layer(x, p=Kerple(None, 2)(x))
    with pytest.raises(ValueError, match='give p in each call'):
        layer(x)
