import numpy as np
import pytest
from compiling import compiled
from harness import gradients
from harness import to_numpy
from keras import ops

from keraseff.ops.linear_recurrence import diagonal_recurrence


def loop(logarithm, inputs):
    rate = np.exp(logarithm[0].astype('float64') + 1j * logarithm[1])
    u = inputs[0] + 1j * inputs[1]
    x, found = np.zeros(u[:, 0].shape, complex), []
    for k in range(u.shape[1]):
        x = rate * x + u[:, k]
        found.append(x)
    return np.stack(found, axis=1)


def draw(rng, b, n, d):
    logarithm = -np.exp(rng.uniform(-6, -1, d)), rng.uniform(0, 3, d)
    inputs = rng.normal(size=(2, b, n, d))
    return [np.float32(v) for v in logarithm], list(np.float32(inputs))


def quick(logarithm, inputs):
    real, imag = to_numpy(
        compiled(lambda *v: diagonal_recurrence(v[:2], v[2:]), *logarithm, *inputs)
    )
    return real + 1j * imag


@pytest.mark.every_backend
@pytest.mark.parametrize('n', [1, 67])
def test_states_are_those_of_the_loop(n, rng):
    """On both sides of the length from which there are chunks."""
    logarithm, inputs = draw(rng, 2, n, 3)
    expected = loop(logarithm, inputs)
    np.testing.assert_allclose(quick(logarithm, inputs), expected, atol=1e-4)


def test_chunks_of_chunks_of_chunks(rng):
    """Longer than 64 chunks of 32, where a second level begins."""
    logarithm, inputs = draw(rng, 1, 2200, 2)
    expected = loop(logarithm, inputs)
    np.testing.assert_allclose(quick(logarithm, inputs), expected, atol=5e-3)


@pytest.mark.every_backend
def test_gradients_are_those_of_the_reversed_loop(rng):
    """With y = Σ w · Re x, ∂y/∂u is the recurrence of w from the end."""
    logarithm, (real, imag) = draw(rng, 1, 70, 2)
    weigh = rng.normal(size=(1, 70, 2)).astype('float32')

    def f(decay, angle, real, imag):
        found, _ = diagonal_recurrence((decay, angle), (real, imag))
        return ops.sum(found * ops.convert_to_tensor(weigh))

    g_decay, g_angle, g_real, g_imag = gradients(f, *logarithm, real, imag)
    back = loop(logarithm, [weigh[:, ::-1], np.zeros_like(weigh)])[:, ::-1]
    np.testing.assert_allclose(g_real, back.real, atol=1e-4)
    np.testing.assert_allclose(g_imag, -back.imag, atol=1e-4)
    # and for log λ it is Σ_k back_k λ x_k-1
    x = loop(logarithm, (real, imag))
    rate = np.exp(logarithm[0] + 1j * logarithm[1])
    whole = (back[:, 1:] * rate * x[:, :-1]).sum(axis=(0, 1))
    np.testing.assert_allclose(g_decay, whole.real, rtol=2e-4, atol=1e-3)
    np.testing.assert_allclose(g_angle, -whole.imag, rtol=2e-4, atol=1e-3)
