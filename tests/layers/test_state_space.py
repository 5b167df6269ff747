import keras
import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import check_layer
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import state_space as slow

from keraseff.layers.lru import LRU
from keraseff.layers.state_space import S4
from keraseff.layers.state_space import S4D
from keraseff.ops import hippo

MIXERS = {'s4': S4, 's4d': S4D, 'lru': LRU}
every_mixer = pytest.mark.parametrize('name', MIXERS)


def make(name, state_size=4, **kwargs):
    return MIXERS[name](state_size, **kwargs)


def steps(layer, x):
    """The outputs of all steps, one after the other, and the last state."""
    state, found = layer.start(x.shape[0], x.shape[1]), []
    for t in range(x.shape[1]):
        y, state = layer.step(x[:, t : t + 1], t, state)
        found.append(y)
    return ops.concatenate(found, axis=1), state


@every_mixer
def test_contract(name, rng):
    x = rng.normal(size=(2, 5, 6)).astype('float32')
    check_layer(lambda **kw: make(name, **kw), x)


@pytest.mark.every_backend
def test_they_train_on_lengths_unknown_to_the_graph(rng):
    """On TensorFlow a length that is a tensor takes other ways to the same result."""
    x = rng.normal(size=(2, 19, 3)).astype('float32')
    inputs = keras.Input((None, 3))
    outputs = [make(name)(inputs) for name in ('s4', 'lru')]
    model = keras.Model(inputs, outputs)
    short, long = (model.predict(x[:, :n], verbose=0) for n in (5, 19))
    assert_close([y[:, :5] for y in long], short, atol=1e-5)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), ['mse'] * 2)
    model.train_on_batch(x, [x] * 2)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.isfinite(new).all()
        assert abs(new - old).max() > 0


@pytest.mark.every_backend
@every_mixer
def test_steps_equal_the_whole(name, rng):
    x = rng.normal(size=(1, 6, 4)).astype('float32')
    layer = make(name)
    layer.build(x.shape)
    once, state, whole = compiled(lambda x: (*steps(layer, x), layer(x)), x)
    assert_close(once, whole, atol=2e-5)
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    assert shapes == {k: tuple(v.shape) for k, v in layer.start(1, 6).items()}
    longer = layer.start(1, 9)
    assert {k: np.prod(s) for k, s in shapes.items()} == {
        k: np.prod(v.shape) for k, v in longer.items()
    }


@every_mixer
def test_gradients_of_steps_equal_those_of_the_whole(name, rng):
    """For the sequence and for every weight."""
    x = rng.normal(size=(2, 5, 4)).astype('float32')
    weigh = ops.convert_to_tensor(rng.normal(size=x.shape).astype('float32'))
    layer = make(name)
    layer.build(x.shape)
    weights = [to_numpy(w.value) for w in layer.trainable_variables]

    def of(run):
        def f(x, *values):
            state = zip(layer.trainable_variables, values, strict=True)
            with keras.StatelessScope(state_mapping=list(state)):
                return ops.sum(run(x) * weigh)

        return gradients(f, x, *weights)

    found, expected = of(layer), of(lambda x: steps(layer, x)[0])
    for f, e in zip(found, expected, strict=True):
        scale = abs(e).max()
        assert scale > 1e-5
        np.testing.assert_allclose(f / scale, e / scale, atol=1e-3)


@every_mixer
def test_the_future_has_no_influence(name, rng):
    x = rng.normal(size=(1, 70, 3)).astype('float32')
    layer = make(name)
    before = to_numpy(layer(x))
    x[:, 50:] += 1
    after = to_numpy(layer(x))
    assert_close(before[:, :50], after[:, :50], atol=1e-5)
    assert abs(before - after)[:, 50:].max() > 1e-3


@pytest.mark.every_backend
@pytest.mark.parametrize('name', ['s4', 'lru'])
def test_both_directions_know_no_padding(name, rng):
    x = rng.normal(size=(2, 9, 3)).astype('float32')
    layer = make(name, causal=False)
    layer.build(x.shape)
    mask = np.arange(9) < np.array([[9], [6]])

    def run(x, noisy, later):
        masked = [layer(s, mask=mask) for s in (x, noisy, later)]
        return *masked, layer(x[1:, :6])

    noisy, later = x.copy(), x.copy()
    noisy[1, 6:] = 1e3
    later[0, 8] += 1
    found, noisy, later, alone = to_numpy(compiled(run, x, noisy, later))
    assert_close(found[1, :6], alone[0], atol=1e-5)
    assert_close(noisy[1, :6], found[1, :6], atol=1e-6)
    assert abs(later[0, 0] - found[0, 0]).max() > 1e-4


@every_mixer
def test_backwards_is_forwards_of_the_reversed(name, rng):
    """With the output matrices exchanged, a reversed sequence gives the reversed."""
    x = rng.normal(size=(1, 7, 3)).astype('float32')
    layer = make(name, causal=False)
    expected = to_numpy(layer(x))[:, ::-1]
    halves = np.split(layer.c.numpy(), 2)
    layer.c.assign(np.concatenate(halves[::-1]))
    assert_close(layer(x[:, ::-1].copy()), expected, atol=1e-5)
    with pytest.raises(ValueError, match='only a causal one'):
        layer.start(1, 7)


def test_s4_is_legs_as_it_begins(rng):
    """C in LegS' own basis, dense A, bilinear: the kernel is C̄ A^k B."""
    layer, n = S4(8), 40
    layer.build((None, None, 2))
    _, _, _, v = hippo.dplr(8)
    a, b = hippo.hippo_matrices('legs', 8)
    c = layer.c.numpy()[0]
    (kernel,) = to_numpy(layer._kernels(n))
    for i, step in enumerate(np.exp(layer.log_step.numpy()[:, 0])):
        turned = c[0, i] + 1j * c[1, i]
        turned = np.concatenate([turned, turned.conj()]) @ v.conj().T
        dense = slow.impulse(*hippo.discretize(a, b, step), turned, n)
        np.testing.assert_allclose(kernel[i], dense, atol=5e-5 * abs(dense).max())


def test_s4d_is_its_diagonal_as_it_begins():
    layer, n = S4D(8, init='lin'), 40
    layer.build((None, None, 2))
    (kernel,) = to_numpy(layer._kernels(n))
    c, rates = layer.c.numpy()[0], hippo.diagonal_rates('lin', 8)
    for i, step in enumerate(np.exp(layer.log_step.numpy()[:, 0])):
        a, b = hippo.discretize(np.diag(rates), np.ones(4), step, 'zoh')
        dense = slow.impulse(a, b, 2 * (c[0, i] + 1j * c[1, i]), n)
        np.testing.assert_allclose(kernel[i], dense, atol=1e-5 * abs(dense).max())


def test_steps_begin_within_their_bounds():
    layer = S4(2, step_min=1e-3, step_max=1e-1)
    layer.build((None, None, 2000))
    log = layer.log_step.numpy()
    assert np.log(1e-3) <= log.min() < np.log(1.05e-3)
    assert np.log(0.95e-1) < log.max() <= np.log(1e-1)
    assert abs(log.mean() - np.log(1e-2)) < 0.1


def test_lru_begins_on_its_ring(rng):
    layer = LRU(4000, r_min=0.5, r_max=0.9, max_phase=1.0)
    layer.build((None, None, 2))
    size, phase = np.exp(-np.exp(layer.nu.numpy())), np.exp(layer.theta.numpy())
    assert 0.5 <= size.min() < 0.51
    assert 0.89 < size.max() <= 0.9
    # uniform on the ring: so is the square of the radius
    assert abs(np.mean(size**2) - (0.5**2 + 0.9**2) / 2) < 0.01
    assert 0.99 < phase.max() <= 1
    gamma = np.exp(layer.log_gamma.numpy())
    np.testing.assert_allclose(gamma, np.sqrt(1 - size**2), rtol=1e-4)


@every_mixer
def test_bfloat16_is_near(name, rng):
    x = rng.normal(size=(1, 9, 4)).astype('float32')
    layer, half = make(name), make(name, dtype='mixed_bfloat16')
    expected, _ = to_numpy(layer(x)), half(x)
    half.set_weights(layer.get_weights())
    assert {w.dtype for w in half.weights} == {'float32'}
    found = half(x)
    assert keras.backend.standardize_dtype(found.dtype) == 'bfloat16'
    assert_close(ops.cast(found, 'float32'), expected, atol=3e-2, rtol=3e-2)


def test_options_are_refused():
    for call, message in [
        (lambda: S4(5), 'state_size=5: .* even'),
        (lambda: S4(4, step_min=0.2, step_max=0.1), 'step_min=0.2'),
        (lambda: S4D(4, init='exp'), "'exp' is unknown; use one of legs"),
        (lambda: LRU(4, r_max=1.0), 'r_max=1.0'),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


@every_mixer
def test_the_mixing_may_be_plain(name, rng):
    x = rng.normal(size=(1, 4, 3)).astype('float32')
    layer = make(name, gated=False, activation='linear', use_bias=False)
    y = to_numpy(layer(x))
    inner = to_numpy(layer._mix(ops.convert_to_tensor(x))) + x * layer.skip.numpy()
    assert_close(y, inner @ layer.mixing.kernel.numpy(), atol=1e-5)
    gated = make(name, activation='linear')
    gated(x)
    for weight in ('c', 'skip'):
        getattr(gated, weight).assign(getattr(layer, weight))
    for new, old in zip(gated.weights, layer.weights[:-1], strict=False):
        new.assign(old)
    z = inner @ gated.mixing.kernel.numpy()
    expected = z[..., :3] / (1 + np.exp(-z[..., 3:]))
    assert_close(gated(x), expected, atol=1e-5)
