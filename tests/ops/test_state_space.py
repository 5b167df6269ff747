import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import state_space as slow

from keraseff.ops import hippo
from keraseff.ops import state_space

KERNELS = state_space.dplr_kernel, state_space.generated_kernel
STEPS = np.array([[0.003], [0.3]], 'float32')  # of two channels


def pair(z):
    return z.real.astype('float32'), z.imag.astype('float32')


def tensors(z):
    return tuple(ops.convert_to_tensor(part) for part in pair(z))


def split(flat):
    return [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]


def system(rng, half, channels=2):
    """Λ, P, B, C of both channels (e, N/2), not only as they begin."""
    rates, p, b, _ = (v[..., :half] for v in hippo.dplr(2 * half))
    shape = channels, half
    rates = rates * np.exp(rng.normal(0, 0.3, shape)) + 0.2j
    noise = [rng.normal(size=shape) + 1j * rng.normal(size=shape) for _ in range(3)]
    return rates, p + 0.1 * noise[0], b + 0.1 * noise[1], noise[2]


def whole(*vectors):
    """One channel's vectors (N/2,) with the conjugates they stand for (N,)."""
    return [np.concatenate([v, v.conj()]) for v in vectors]


def dense(rates, p, b, step):
    rates, p, b = whole(rates, p, b)
    return hippo.discretize(np.diag(rates) - np.outer(p, p.conj()), b, step)


@pytest.mark.parametrize('n', [1, 2, 5, 16])
def test_the_generating_function_is_that_of_the_powers(n, rng):
    """S4's own formula, with its limit at z = -1 for even n, against C A^k B."""
    rates, p, b, c = (v[0] for v in system(rng, 4))
    a, held = dense(rates, p, b, 0.3)
    (both,) = whole(c)
    expected = slow.impulse(a, held, both, n)
    found = slow.cauchy_kernel(*whole(rates, p, b, c), 0.3, n)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.every_backend
@pytest.mark.parametrize('n', [7, 150])
@pytest.mark.parametrize('kernel', KERNELS)
def test_the_kernel_of_s4_is_c_a_k_b(kernel, n, rng):
    rates, p, b, c = system(rng, 8)
    flat = [part for v in (rates, p, b, c) for part in pair(v)]
    found = compiled(lambda *v: kernel(*split(v[:8]), v[8], n), *flat, STEPS)
    for i in range(2):
        a, held = dense(rates[i], p[i], b[i], STEPS[i, 0])
        expected = slow.impulse(a, held, whole(c[i])[0], n)
        scale = abs(expected).max()
        np.testing.assert_allclose(found[i] / scale, expected / scale, atol=1e-5)


@pytest.mark.every_backend
def test_the_kernel_of_a_diagonal_is_its_powers(rng):
    """Longer than one giant step of 128, and three kernels of the same rates."""
    logarithm = -rng.uniform(0.001, 0.1, (2, 3)) + 1j * rng.uniform(-3, 3, (2, 3))
    weights = rng.normal(size=(3, 2, 3)) + 1j * rng.normal(size=(3, 2, 3))
    powers = np.exp(logarithm[..., None] * np.arange(300))
    expected = 2 * np.einsum('sen,enk->sek', weights, powers).real
    found = compiled(
        lambda *v: state_space.power_sums(v[:2], v[2:], 300),
        *pair(logarithm),
        *pair(weights),
    )
    assert_close(found, expected, atol=2e-4)


def test_rates_of_both_discretisations(rng):
    rates = -rng.uniform(0.1, 2, (1, 5)) + 1j * rng.uniform(-90, 90, (1, 5))
    step = ops.convert_to_tensor(np.array([[0.05]], 'float32'))
    for method, function in (
        ('bilinear', state_space.bilinear_rates),
        ('zoh', state_space.zoh_rates),
    ):
        logarithm, scale = function(tensors(rates), step)
        power = to_numpy(state_space.exponential(logarithm))
        a, b = hippo.discretize(np.diag(rates[0]), np.ones(5), 0.05, method)
        np.testing.assert_allclose(power[0] + 1j * power[1], np.diag(a)[None], 1e-5)
        scale = to_numpy(scale)
        np.testing.assert_allclose(scale[0] + 1j * scale[1], b[None], 1e-5)


@pytest.mark.every_backend
@pytest.mark.parametrize('n', [1, 33])
def test_convolution_both_ways(n, rng):
    x = rng.normal(size=(2, n, 3)).astype('float32')
    kernels = rng.normal(size=(2, 3, n)).astype('float32')

    def convolve(x, one, two):
        both = state_space.fft_convolve(x, one, two)
        return state_space.fft_convolve(x, one), both

    causal, both = compiled(convolve, x, *kernels)
    for i in range(2):
        for e in range(3):
            one, two = kernels[:, e]
            assert_close(causal[i, :, e], slow.convolve(x[i, :, e], one), atol=2e-5)
            assert_close(both[i, :, e], slow.convolve(x[i, :, e], one, two), atol=2e-5)


# On JAX a length is always known, and the other kernel never needed.
@pytest.mark.parametrize(
    'kernel', [pytest.param(KERNELS[0], marks=pytest.mark.every_backend), KERNELS[1]]
)
def test_gradients_of_the_kernel_are_those_of_the_loop(kernel, rng):
    n = 5
    parts = [part for v in system(rng, 2) for part in pair(v)]
    weigh = rng.normal(size=(2, n)).astype('float32')

    def quick(*flat):
        found = kernel(*split(flat[:8]), flat[8], n)
        return ops.sum(found * ops.convert_to_tensor(weigh))

    def loop(*flat):
        rates, p, b, c = split(flat[:8])
        state, total = [ops.zeros((1, 2, 2))] * 2, 0.0
        for k in range(n):
            u = ops.ones((1, 2)) * float(k == 0)
            state = state_space.dplr_step(rates, p, b, flat[8], state, u)
            out = 2 * ops.sum(state_space.multiply(c, state)[0], axis=-1)
            total = total + ops.sum(out[0] * ops.convert_to_tensor(weigh[:, k]))
        return total

    found = gradients(quick, *parts, STEPS)
    expected = gradients(loop, *parts, STEPS)
    for g, e in zip(found, expected, strict=True):
        assert np.isfinite(g).all()
        scale = abs(e).max()
        np.testing.assert_allclose(g / scale, e / scale, atol=2e-4)
