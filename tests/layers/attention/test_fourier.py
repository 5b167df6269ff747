"""FNet's mixing against the matrices of the transform."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import gradients
from harness import to_numpy
from keras import ops

from keraseff.layers.attention.fourier import FourierMixing


def fourier_matrix(n):
    """exp(-2πi jk / n)."""
    steps = np.arange(n)
    return np.exp(-2j * np.pi * np.outer(steps, steps) / n)


@pytest.mark.every_backend
def test_equals_the_product_with_two_matrices(rng):
    x = rng.normal(size=(2, 7, 6)).astype('float32')
    expected = (fourier_matrix(7) @ x @ fourier_matrix(6)).real
    layer = FourierMixing()
    assert_close(layer(x), expected, atol=1e-4)
    assert not layer.weights
    # The matrix of Re ∘ F is symmetric: its gradient is the transform of the weights.
    w = rng.normal(size=x.shape).astype('float32')
    (found,) = gradients(lambda t: ops.sum(ops.multiply(layer(t), w)), x)
    assert_close(found, (fourier_matrix(7) @ w @ fourier_matrix(6)).real, atol=1e-4)


@pytest.mark.every_backend
def test_padding_counts_as_zeros_and_still_changes_the_result(rng):
    x = rng.normal(size=(2, 7, 6)).astype('float32')
    mask = np.arange(7)[None] < np.array([[7], [4]])
    layer = FourierMixing()
    padded = to_numpy(layer(x, mask=ops.convert_to_tensor(mask)))
    assert_close(padded, layer(x * mask[..., None]))
    alone = to_numpy(layer(x[1:, :4]))
    assert np.abs(padded[1, :4] - alone[0]).max() > 0.1


@pytest.mark.every_backend
def test_contract(rng):
    x = rng.normal(size=(2, 5, 8)).astype('float32')
    check_layer(FourierMixing, x, padded=False)
    assert not FourierMixing.can_be_causal
