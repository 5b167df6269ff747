"""WEISSI and what it promises, on formulas and on a trained network."""

import keras
import numpy as np
import pytest
from keras import ops

from keraseff.regularizers import L2
from keraseff.regularizers import WEISSI
from keraseff.regularizers import apply_to_model


def array(x):
    return np.array(ops.convert_to_numpy(x))


def net(widths=(5, 8, 8, 2), bias=True, rate=0.05):
    x = keras.Input((widths[0],))
    y = x
    for i, width in enumerate(widths[1:]):
        last = i == len(widths) - 2
        y = keras.layers.Dense(
            width, activation=None if last else 'relu', use_bias=bias, name=f'dense_{i}'
        )(y)
    model = keras.Model(x, y)
    model.compile(keras.optimizers.SGD(rate), 'mse')
    return model


def rescaled(model, factors):
    """The weights, each kernel scaled, and its bias by the product so far."""
    values, running = [], 1.0
    for i, value in enumerate(model.get_weights()):
        if i % 2 == 0:
            running *= factors[i // 2]
            values.append(value * factors[i // 2])
        else:
            values.append(value * running)
    return values


def total(model):
    return float(array(sum(model.losses)))


@pytest.mark.every_backend
def test_value_and_gradient(rng):
    w = rng.normal(size=(4, 6)).astype('float32')
    norm = np.linalg.norm(w)
    found = array(WEISSI(0.3, 0.7)(w))
    np.testing.assert_allclose(
        found, 0.3 * np.log(norm) + 0.7 * np.abs(w).sum() / norm, rtol=1e-5
    )
    # One step of SGD with rate 1 and no loss is the gradient of λ₁ log ‖W‖.
    model = keras.Sequential([keras.layers.Dense(6, use_bias=False)])
    model.build((None, 4))
    model.layers[0].kernel.assign(w)
    model.compile(keras.optimizers.SGD(1.0), 'mse', loss_weights=0.0)
    apply_to_model(model, WEISSI(0.3, 0.0))
    model.train_on_batch(np.ones((2, 4)), np.zeros((2, 6)))
    step = w - array(model.layers[0].kernel)
    np.testing.assert_allclose(step, 0.3 * w / norm**2, rtol=1e-4, atol=1e-7)
    # Zero has no logarithm, and no gradient that is not finite.
    model.layers[0].kernel.assign(0 * w)
    assert np.isfinite(model.train_on_batch(np.ones((2, 4)), np.zeros((2, 6))))
    assert np.isfinite(array(model.layers[0].kernel)).all()
    twin = keras.regularizers.deserialize(
        keras.regularizers.serialize(WEISSI(0.3, 0.7))
    )
    np.testing.assert_allclose(array(twin(w)), found)


def test_scales_that_change_nothing_change_weissi_by_nothing_but_l2(rng):
    x, y = rng.normal(size=(32, 5)), rng.normal(size=(32, 2))
    model = net()
    apply_to_model(model, WEISSI(1e-3, 1e-4))
    losses = [model.train_on_batch(x, y) for _ in range(30)]
    assert losses[-1] < losses[0]
    outputs, weissi = array(model(x)), total(model)
    apply_to_model(model, L2(1e-3))
    l2 = total(model)
    model.set_weights(rescaled(model, (8.0, 0.5, 0.25)))
    np.testing.assert_allclose(array(model(x)), outputs, rtol=1e-4, atol=1e-5)
    assert abs(total(model) / l2 - 1) > 1
    apply_to_model(model, WEISSI(1e-3, 1e-4))
    np.testing.assert_allclose(total(model), weissi, rtol=1e-5)
    # λ₁ pulls along the weights with the same force at either scale.
    forces = []
    for factors in ((1, 1, 1), (0.125, 2.0, 4.0)):
        model.set_weights(rescaled(model, factors))
        kernel = array(model.layers[1].kernel)
        gradient = 1e-3 * kernel / (kernel**2).sum()
        forces.append((gradient * kernel).sum())
    np.testing.assert_allclose(forces, 1e-3, rtol=1e-5)


def test_the_least_l2_of_an_orbit_has_equal_norms(rng):
    model = net(bias=False)
    norms = np.array([np.linalg.norm(w) for w in model.get_weights()])
    equal = np.prod(norms) ** (1 / 3)
    best = ((equal / norms * norms) ** 2).sum()
    for _ in range(200):
        factors = np.exp(rng.normal(size=3))
        factors /= np.prod(factors) ** (1 / 3)
        assert ((factors * norms) ** 2).sum() >= best - 1e-6
    # Gradient descent on L2 along the orbit, where nothing else changes, arrives there.
    logs = np.log(norms)
    for _ in range(400):
        slope = 2 * np.exp(2 * logs)
        logs -= 0.02 * (slope - slope.mean())
    np.testing.assert_allclose(np.exp(logs), equal, rtol=1e-4)


def test_a_network_trained_from_either_scale(rng):
    """A small net fits as well, and WEISSI cannot tell where on the orbit it is."""
    x = rng.normal(size=(64, 5)).astype('float32')
    y = np.stack([np.maximum(x[:, 0], 0), x[:, 1] * 0.5], 1)
    fits = {}
    for name, regularizer in {
        'none': None, 'weissi': WEISSI(3e-3, 3e-4), 'l2': L2(3e-3)
    }.items():  # fmt: skip
        keras.utils.set_random_seed(0)
        model = net(rate=0.1)
        if regularizer:
            apply_to_model(model, regularizer)
        for _ in range(100):
            model.train_on_batch(x, y)
        fits[name] = model
    errors = {n: float(((array(m(x)) - y) ** 2).mean()) for n, m in fits.items()}
    assert max(errors.values()) < 0.15 * (y**2).mean()
    share = {
        name: np.mean([np.abs(w).sum() / np.linalg.norm(w) for w in kernels(model)])
        for name, model in fits.items()
    }
    # λ₂ asks for few large weights at a given norm.
    assert share['weissi'] < share['none']
    norm = {n: np.prod([np.linalg.norm(w) for w in kernels(m)])
            for n, m in fits.items()}  # fmt: skip
    assert norm['weissi'] < norm['none']
    assert norm['l2'] < norm['none']


def kernels(model):
    return [w for w in model.get_weights() if w.ndim == 2]


@pytest.mark.every_backend
def test_apply_to_model_by_patterns_and_what_a_file_keeps(tmp_path):
    model = net()
    assert apply_to_model(model, WEISSI(0.1, 0.0)) == [
        f'dense_{i}/kernel' for i in range(3)
    ]
    assert apply_to_model(model, None, include='kernel') == [
        f'dense_{i}/kernel' for i in range(3)
    ]
    assert model.losses == []
    paths = apply_to_model(
        model, L2(0.1), include=['kernel', 'bias'], exclude=['dense_1', '2/bias']
    )
    assert paths == ['dense_0/kernel', 'dense_0/bias', 'dense_2/kernel']
    expected = 0.1 * sum((model.get_weights()[i] ** 2).sum() for i in (0, 1, 4))
    np.testing.assert_allclose(total(model), expected, rtol=1e-5)
    model.save(tmp_path / 'model.keras')
    loaded = keras.models.load_model(tmp_path / 'model.keras')
    np.testing.assert_allclose(total(loaded), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="'dense_0/kernel'"):
        apply_to_model(model, L2(0.1), include='kernels')


def test_a_step_compiled_before_sees_it(rng):
    x, y = rng.normal(size=(8, 5)), rng.normal(size=(8, 2))
    model = net(rate=0.0)
    plain = model.train_on_batch(x, y)
    apply_to_model(model, L2(0.1))
    regularised = model.train_on_batch(x, y)
    np.testing.assert_allclose(regularised - plain, total(model), rtol=1e-4)
