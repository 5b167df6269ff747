"""Jacobians of recurrent cells: scalar formulas, differences, and their products."""

import keras
import numpy as np
import pytest
from harness import to_numpy

from keraseff.interpret import recurrent_jacobian_norms
from keraseff.interpret import recurrent_jacobians
from keraseff.layers import GRUCellV2
from keraseff.optimizers import extend_with_gradient_clipping


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def made(cell, rng, scale=1.0, e=2):
    """The cell with random weights, and what they are."""
    cell.build((None, e))
    for weight in cell.weights:
        weight.assign(rng.normal(0, scale, size=weight.shape))
    return [to_numpy(w.value).astype('float64') for w in cell.weights]


def simple(kernel, recurrent, bias, x, h):
    new = np.tanh(x @ kernel + h * recurrent + bias)[..., 0]
    return new, (1 - new**2) * recurrent[0, 0]


def gru(kernel, recurrent, bias, x, h):
    """h' and dh'/dh, after the formula; its z is 1 minus Keras'."""
    uz, ur, uh = recurrent[0] * [-1, 1, 1]
    (wz, wr, wh), (bz, br, bh) = kernel.T * [[-1], [1], [1]], bias * [-1, 1, 1]
    z, r = sigmoid(x @ wz + uz * h + bz), sigmoid(x @ wr + ur * h + br)
    hat = np.tanh(x @ wh + uh * r * h + bh)
    slope = 1 - z - z * (1 - z) * h * uz + z * (1 - z) * hat * uz
    slope += (1 - hat**2) * r * (1 + (1 - r) * h * ur) * z * uh
    return (1 - z) * h + z * hat, slope


def lstm(kernel, recurrent, bias, x, o, c):
    """o', c' and dc'/dc where h = o tanh(c)."""
    w = kernel.T @ x + bias + recurrent[0] * (o * np.tanh(c))
    i, f, new_o = sigmoid(w[[0, 1, 3]])
    hat = np.tanh(w[2])
    ui, uf, uc, _ = recurrent[0]
    inner = o * (1 - np.tanh(c) ** 2)
    slope = f + f * (1 - f) * inner * c * uf + i * (1 - i) * inner * hat * ui
    slope += (1 - hat**2) * inner * i * uc
    return new_o, f * c + i * hat, slope


@pytest.mark.every_backend
def test_scalar_cells_follow_the_published_formulas(rng):
    x = rng.normal(size=(5, 2))
    for cell, formula in (
        (keras.layers.SimpleRNNCell(1), simple),
        (keras.layers.GRUCell(1, reset_after=False), gru),
    ):
        numbers = made(cell, rng)
        h, slopes = 0.3, []
        found, states = recurrent_jacobians(cell, x, [np.array([h])])
        for step in x:
            h, slope = formula(*numbers, step, h)
            slopes.append(float(np.squeeze(slope)))
        np.testing.assert_allclose(found[:, 0, 0], slopes, rtol=1e-4)
        assert abs(float(np.squeeze(states[-1])) - float(np.squeeze(h))) < 1e-5
        norms = recurrent_jacobian_norms(cell, x, [np.array([0.3])])
        np.testing.assert_allclose(norms, np.abs(np.cumprod(slopes)), rtol=1e-4)


@pytest.mark.every_backend
def test_a_scalar_lstm_follows_the_published_formula(rng):
    cell = keras.layers.LSTMCell(1)
    numbers = made(cell, rng)
    x, o, c = rng.normal(size=(4, 2)), 0.7, 0.4
    found, states = recurrent_jacobians(
        cell, x, [np.array([o * np.tanh(c)]), np.array([c])]
    )
    for step, jacobian, (h, after) in zip(x, found, states[1:], strict=True):
        along = jacobian[1] @ [o * (1 - np.tanh(c) ** 2), 1.0]
        o, c, slope = lstm(*numbers, step, o, c)
        np.testing.assert_allclose(along, slope, rtol=1e-4)
        np.testing.assert_allclose([h[0], after[0]], [o * np.tanh(c), c], rtol=1e-4)


def test_the_factor_of_an_lstm_is_bounded():
    c = np.linspace(-20, 20, 400_001)
    assert abs(np.abs((1 - np.tanh(c) ** 2) * c).max() - 0.447743) < 1e-6


@pytest.mark.every_backend
def test_jacobians_are_differences(rng):
    cell = GRUCellV2(3)
    kernel, recurrent, bias = made(cell, rng)
    x = rng.normal(size=(6, 2))

    def run(states):
        h, c = states[:3], states[3:]
        for step in x:
            z, r, hat = np.split(step @ kernel + h @ recurrent + bias, 3)
            c = c + sigmoid(z) * (np.tanh(hat) - c)
            h = sigmoid(r) * c
        return np.concatenate([h, c])

    start = rng.normal(0, 0.3, size=6)
    steps = np.eye(6) * 1e-6
    slopes = np.array([(run(start + s) - run(start - s)) / 2e-6 for s in steps]).T
    states = [start[:3], start[3:]]
    found, seen = recurrent_jacobians(cell, x, states)
    assert found.shape == (6, 6, 6)
    assert len(seen) == 7
    np.testing.assert_allclose(np.concatenate(seen[-1]), run(start), atol=1e-5)
    product = np.linalg.multi_dot(found[::-1])
    np.testing.assert_allclose(product, slopes, atol=1e-5)
    norms = recurrent_jacobian_norms(cell, x, states, order='fro')
    np.testing.assert_allclose(norms[-1], np.linalg.norm(slopes), rtol=1e-4)


def test_products_go_as_the_spectral_radius(rng):
    x = rng.normal(size=(60, 2))
    orthogonal = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for radius in (0.8, 1.0, 1.25):
        cell = keras.layers.SimpleRNNCell(4, activation='linear')
        made(cell, rng)
        cell.recurrent_kernel.assign(radius * orthogonal)
        norms = recurrent_jacobian_norms(cell, x)
        np.testing.assert_allclose(norms, radius ** np.arange(1.0, 61), rtol=1e-3)
    saturated = keras.layers.SimpleRNNCell(4)
    made(saturated, rng)
    saturated.recurrent_kernel.assign(orthogonal)
    assert recurrent_jacobian_norms(saturated, x)[-1] < 1e-3, 'tanh shrinks'


def test_several_cells_and_half_precision(rng):
    x = rng.normal(size=(3, 2))
    stack = keras.layers.StackedRNNCells([keras.layers.GRUCell(2), GRUCellV2(3)])
    stack.build((None, 2))
    found, states = recurrent_jacobians(stack, x)
    assert found.shape == (3, 8, 8)
    assert not found[:, :2, 2:].any(), 'the lower cell does not see the upper one'
    assert found[:, 2:, :2].any()
    assert [tuple(s.shape) for s in keras.tree.flatten(states[1])] == [(2,), (3,), (3,)]
    exact, half = (
        keras.layers.LSTMCell(2, recurrent_initializer='zeros', dtype=d)
        for d in ('float32', 'float16')
    )
    half.build((None, 2))
    for a, b in zip(made(exact, rng), half.weights, strict=True):
        b.assign(a)
    norms = [recurrent_jacobian_norms(c, x) for c in (exact, half)]
    np.testing.assert_allclose(norms[0], norms[1], rtol=2e-2)


def test_what_is_no_cell_or_no_sequence_is_refused():
    with pytest.raises(ValueError, match=r'must be \(n, e\)'):
        recurrent_jacobians(keras.layers.LSTMCell(2), np.zeros((1, 3, 2)))
    with pytest.raises(ValueError, match='the .cell of an LSTM'):
        recurrent_jacobians(keras.layers.Dense(2), np.zeros((3, 2)))


def adding(rng, rows, n):
    """Numbers, two of them marked, and the sum of the two."""
    values, marks = rng.uniform(size=(rows, n)), np.zeros((rows, n))
    for row in marks:
        row[rng.choice(n, 2, replace=False)] = 1
    x = np.stack([values, marks], axis=-1).astype('float32')
    return x, np.sum(values * marks, axis=1, keepdims=True).astype('float32')


def test_clipping_keeps_the_adding_problem_from_nan(rng):
    x, y = adding(rng, 64, 40)
    clipped = extend_with_gradient_clipping(keras.optimizers.SGD)
    losses = {}
    for name, optimizer in (
        ('plain', keras.optimizers.SGD(0.02)),
        ('hard', clipped(0.02, mode='hard', gamma=1.0)),
        ('smooth', clipped(0.02, mode='smooth', gamma=1.0)),
    ):
        keras.utils.set_random_seed(1)
        recurrent = keras.initializers.Identity(1.2)
        inputs = keras.Input((40, 2))
        cell = keras.layers.SimpleRNN(
            8, activation='relu', recurrent_initializer=recurrent
        )
        model = keras.Model(inputs, keras.layers.Dense(1)(cell(inputs)))
        model.compile(optimizer, 'mse')
        history = model.fit(x, y, batch_size=32, epochs=5, verbose=0, shuffle=False)
        losses[name] = history.history['loss']
    print(losses)
    assert not np.isfinite(losses['plain'][-1])
    for name in ('hard', 'smooth'):
        assert np.isfinite(losses[name]).all()
        assert losses[name][-1] < losses[name][0]
