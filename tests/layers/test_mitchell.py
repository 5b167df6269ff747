"""A dense layer of Mitchell's products: contract, bounds, and that it learns."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import mitchell as slow

from keraseff.layers.mitchell import MitchellDense


@pytest.mark.every_backend
def test_contract(rng):
    x = rng.normal(size=(2, 3, 8)).astype('float32')
    check_layer(lambda **kw: MitchellDense(3, 'tanh', backward='mitchell', **kw), x)


def test_it_is_a_dense_layer_to_a_ninth(rng):
    x = rng.normal(size=(2, 3, 20)).astype('float32')
    layer = MitchellDense(4, 'relu', use_bias=True)
    layer(x)
    kernel, bias = rng.normal(size=(20, 4)), rng.normal(size=4)
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    kernel, bias = (to_numpy(w.value) for w in (layer.kernel, layer.bias))
    products = np.array([slow.matmul(a, kernel) for a in x])
    found = to_numpy(layer(x))
    assert_close(found, np.maximum(products + bias, 0), atol=1e-5)
    exact = np.maximum(x @ kernel + bias, 0)
    assert (np.abs(found - exact) <= np.abs(x) @ np.abs(kernel) / 9 + 1e-5).all()
    assert np.abs(found - exact).max() > 1e-2
    assert_close(layer(x[0]), found[0], atol=1e-6)


def test_powers_of_two_make_it_exact(rng):
    x = rng.normal(size=(6, 40)).astype('float32')
    layer = MitchellDense(5, use_bias=False)
    layer(x)
    kernel = 2.0 ** rng.integers(-5, 5, (40, 5)) * rng.choice([-1, 1], (40, 5))
    layer.kernel.assign(kernel)
    assert_close(layer(x), x @ kernel, atol=1e-3)
    assert len(layer.weights) == 1


def test_both_gradients(rng):
    x = rng.normal(size=(3, 20)).astype('float32')
    for backward, matmul in (('exact', np.matmul), ('mitchell', slow.matmul)):
        layer = MitchellDense(2, backward=backward)
        layer(x)
        kernel = to_numpy(layer.kernel.value)
        (found,) = gradients(lambda t, layer=layer: ops.sum(layer(t)), x)
        ones = np.ones((3, 2), 'float32')
        assert_close(found, matmul(ones, kernel.T), atol=1e-5)


def test_it_learns_digits_as_a_dense_layer_does():
    """Within 2 points of the same model with true products, forward and back."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype('float32')
    scores = []
    for make in (
        keras.layers.Dense,
        lambda *a: MitchellDense(*a, backward='mitchell'),
    ):
        keras.utils.set_random_seed(1)
        layers = [keras.Input((64,)), make(16, 'relu'), make(10)]
        model = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
        model.fit(x[:900], y[:900], batch_size=60, epochs=5, verbose=0)
        best = model.predict(x[900:], verbose=0).argmax(-1)
        scores.append((best == y[900:]).mean())
    assert scores[0] > 0.85
    assert scores[1] > scores[0] - 0.02


def test_a_gradient_nobody_knows():
    with pytest.raises(ValueError, match="backward='fast'"):
        MitchellDense(3, backward='fast')
