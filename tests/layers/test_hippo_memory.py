import keras
import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import save_and_reopen
from harness import to_numpy
from keras import ops
from reference.state_space import legendre_coefficients
from reference.state_space import orthonormal

from keraseff.layers.hippo_memory import HiPPOMemory


def signal(n):
    t = (np.arange(n) + 0.5) / n
    return np.sin(3 * t) + t / 2


def remember(layer, u):
    return to_numpy(layer(u[None, :, None].astype('float32')))[0, :, 0]


def test_legs_is_the_projection_on_legendre_polynomials():
    u = signal(400)
    found = remember(HiPPOMemory(12), u)
    # published for sin 3t + t/2 at 4,000 steps
    known = [0.913331, 0.192877, -0.284048, -0.005301]
    np.testing.assert_allclose(found[-1, :4], known, atol=1e-4)
    for k in (100, 250, 400):
        expected = legendre_coefficients(u[:k], 6)
        np.testing.assert_allclose(found[k - 1, :6], expected, atol=1e-3)
    s = (np.arange(400) + 0.5) / 400
    said = sum(x * orthonormal(n, s) for n, x in enumerate(found[-1]))
    assert abs(said - u).max() < 9e-4


def test_legs_knows_no_time_scale():
    """A signal at half the speed leaves the same memory."""
    slow, fast = (remember(HiPPOMemory(6), signal(n))[-1] for n in (400, 200))
    np.testing.assert_allclose(slow, fast, atol=1e-4)


@pytest.mark.parametrize('measure', ['legt', 'lmu'])
def test_a_window_is_remembered(measure):
    u = signal(300)
    found = remember(HiPPOMemory(12, measure, window=100), u)[-1]
    ago = (np.arange(100) + 0.5) / 100
    n = np.arange(12)
    scale = 1 if measure == 'legt' else (-1.0) ** n / np.sqrt(2 * n + 1)
    said = sum(x * orthonormal(k, 1 - ago) for k, x in enumerate(found * scale))
    assert abs(said - u[::-1][:100]).max() < 5e-3


OPTIONS = {'legs': {}, 'legt': {'measure': 'legt', 'window': 7, 'method': 'zoh'}}


@pytest.mark.every_backend
@pytest.mark.parametrize('name', OPTIONS)
def test_steps_and_padding(name, rng):
    x = rng.normal(size=(2, 6, 3)).astype('float32')
    layer = HiPPOMemory(4, **OPTIONS[name])
    layer.build(x.shape)

    def steps(x):
        state, found = layer.start(2, 6, 3), []
        for t in range(6):
            y, state = layer.step(x[:, t : t + 1], t, state)
            found.append(y)
        return ops.concatenate(found, axis=1), layer(x)

    found, whole = compiled(steps, x)
    assert_close(found, whole, atol=1e-5)
    # three padded steps, before and in between, change nothing
    mask = np.array([[0, 1, 1, 0, 1, 1, 1, 0, 1]] * 2, bool)
    longer = np.full((2, 9, 3), 7, 'float32')
    longer[:, mask[0]] = x
    found = compiled(lambda x: layer(x, mask=mask), longer)
    assert_close(found[:, mask[0]], whole, atol=1e-5)


@pytest.mark.every_backend
def test_it_learns_through_the_loop(rng):
    """The memory is linear: its gradient is its impulse response."""
    layer, x = HiPPOMemory(3), rng.normal(size=(1, 4, 1)).astype('float32')
    (found,) = gradients(lambda x: ops.sum(layer(x)[:, -1, :, 1]), x)
    eye = np.eye(4, dtype='float32')[..., None]
    assert_close(found[0, :, 0], to_numpy(layer(eye))[:, -1, 0, 1], atol=1e-5)


def test_it_is_saved():
    inputs = keras.Input((None, 2))
    layer = HiPPOMemory(3, 'legt', window=5)
    model = keras.Model(inputs, keras.layers.Reshape((-1, 6))(layer(inputs)))
    x = np.ones((1, 4, 2), 'float32')
    expected = model.predict(x, verbose=0)
    assert expected.shape == (1, 4, 6)
    assert_close(save_and_reopen(model).predict(x, verbose=0), expected)


def test_a_window_belongs_to_windowed_measures():
    for measure, window in (('legs', 5), ('legt', None)):
        with pytest.raises(ValueError, match='want a window'):
            HiPPOMemory(4, measure, window)
    with pytest.raises(ValueError, match="measure='legz'"):
        HiPPOMemory(4, 'legz', 3)
