"""The cell of a GRU whose output gate comes last."""

import keras
import numpy as np
import pytest
from harness import to_numpy
from keras import ops

from keraseff.layers import GRUCellV2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow(cell, x):
    """The formula, one sequence after the other: all h and all c."""
    wz, wr, w = np.split(to_numpy(cell.kernel.value), 3, axis=1)
    uz, ur, u = np.split(to_numpy(cell.recurrent_kernel.value), 3, axis=1)
    bz, br, b = np.split(to_numpy(cell.bias.value), 3)
    hs, cs = [], []
    for sequence in x:
        h, c = np.zeros((2, cell.units))
        for step in sequence:
            z = sigmoid(step @ wz + h @ uz + bz)
            r = sigmoid(step @ wr + h @ ur + br)
            c = (1 - z) * c + z * np.tanh(step @ w + h @ u + b)
            h = r * c
            hs.append(h)
            cs.append(c)
    shape = (*x.shape[:2], cell.units)
    return np.reshape(hs, shape), np.reshape(cs, shape)


@pytest.mark.every_backend
def test_it_is_the_formula_and_padding_keeps_the_state(rng):
    x = rng.normal(size=(2, 6, 3)).astype('float32')
    cell = GRUCellV2(4)
    layer = keras.layers.RNN(cell, return_sequences=True, return_state=True)
    layer(x)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    hs, cs = slow(cell, x)
    found, h, c = to_numpy(layer(x))
    np.testing.assert_allclose(found, hs, atol=1e-5)
    np.testing.assert_allclose(c, cs[:, -1], atol=1e-5)
    mask = ops.convert_to_tensor([[True] * 6, [True] * 2 + [False] * 4])
    _, h, c = to_numpy(layer(x, mask=mask))
    np.testing.assert_allclose(h, [hs[0, 5], hs[1, 1]], atol=1e-5)
    np.testing.assert_allclose(c, [cs[0, 5], cs[1, 1]], atol=1e-5)


def test_states_stay_within_one(rng):
    x = rng.normal(0, 20, size=(8, 200, 3)).astype('float32')
    cell = GRUCellV2(5)
    layer = keras.layers.RNN(cell, return_sequences=True)
    layer(x)
    for weight in layer.weights:
        weight.assign(rng.normal(0, 3, size=weight.shape))
    found = to_numpy(layer(x))
    hs, cs = slow(cell, x.astype('float64'))
    assert np.abs(found).max() <= 1
    assert 0.99 < np.abs(cs).max() <= 1
    assert (np.abs(hs) <= np.abs(cs)).all()
    np.testing.assert_allclose(found[:, :20], hs[:, :20], atol=1e-3)


def test_options():
    cell = GRUCellV2(4, use_bias=False, recurrent_initializer='zeros')
    again = GRUCellV2.from_config(cell.get_config())
    assert again.get_config() == cell.get_config()
    x = np.ones((1, 2, 3), 'float32')
    keras.layers.RNN(again)(x)
    assert [tuple(w.shape) for w in again.weights] == [(3, 12), (4, 12)]
    assert not to_numpy(again.recurrent_kernel.value).any()
    with pytest.raises(ValueError, match='units=0'):
        GRUCellV2(0)
