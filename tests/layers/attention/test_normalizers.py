"""What stands in the softmax's place, against closed forms and definitions."""

import math

import numpy as np
import pytest
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import normalizers as slow
from reference.gated_unit import NORMALIZERS

from keraseff.layers import MECHANISMS
from keraseff.layers import Mask
from keraseff.layers import MultiHeadAttention
from keraseff.layers import Softmax
from keraseff.layers import SoftmaxPlus
from keraseff.layers import SquaredReLU
from keraseff.layers.attention.normalizers import Entmax
from keraseff.layers.attention.normalizers import Gumbel
from keraseff.layers.attention.normalizers import PerturbMax
from keraseff.layers.attention.normalizers import Sparsemax
from keraseff.layers.attention.normalizers import Taylor
from keraseff.layers.attention.normalizers import TopK
from keraseff.layers.attention.normalizers import TopP

MAKE = {'softmax_plus': SoftmaxPlus, 'squared_relu': SquaredReLU}

# The name, the class, options that are not its defaults, and its definition.
MAPS = {
    'sparsemax': (Sparsemax, {}, lambda x: slow.entmax(x, 2)),
    'entmax': (Entmax, {'alpha': 1.3}, lambda x: slow.entmax(x, 1.3)),
    'taylor': (Taylor, {'order': 4}, lambda x: slow.taylor(x, 4)),
    'top_k': (TopK, {'k': 3}, lambda x: slow.top_k(x, 3)),
    'top_p': (TopP, {'p': 0.7}, lambda x: slow.top_p(x, 0.7)),
    'perturb_max': (PerturbMax, {'points': 41}, slow.perturb_max),
    'gumbel': (Gumbel, {'temperature': 0.5}, lambda x: slow.softmax(x / 0.5)),
}


@pytest.mark.every_backend
@pytest.mark.parametrize('name', MAKE)
def test_they_are_known_by_name(name):
    layer = MultiHeadAttention(2, 4, mechanism=name, attention_dropout=0.1)
    assert type(layer.mechanism) is MAKE[name]
    assert layer.mechanism.dropout == 0.1
    assert name in MECHANISMS, 'which puts it through the contract of mechanisms'


@pytest.mark.every_backend
@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('name', MAKE)
def test_each_query_counts_the_keys_it_sees(name, causal, rng):
    scores = rng.normal(0, 3, size=(2, 3, 20, 24)).astype('float32')
    padding = np.arange(24)[None] < np.array([[24], [22]])
    dense = rng.random((2, 20, 24)) < 0.9
    dense[:, :, 0] = True
    found = to_numpy(MAKE[name]().weigh(scores, Mask(padding, causal, dense)))
    for b, h, m in np.ndindex(2, 3, 20):
        seen = padding[b] & dense[b, m]
        if causal:
            seen &= np.arange(24) <= m + 4
        expected = np.zeros(24)
        expected[seen] = NORMALIZERS[name](scores[b, h, m, seen].astype('float64'))
        np.testing.assert_allclose(found[b, h, m], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.every_backend
def test_softmax_plus_of_512_keys_is_the_softmax(rng):
    scores = rng.normal(0, 3, size=(1, 1, 2, 512)).astype('float32')
    plain = to_numpy(Softmax().weigh(scores, Mask()))
    assert_close(SoftmaxPlus().weigh(scores, Mask()), plain, atol=1e-6)
    padding = np.arange(512)[None] < 300
    plain = to_numpy(Softmax().weigh(scores, Mask(padding)))
    found = to_numpy(SoftmaxPlus().weigh(scores, Mask(padding)))
    assert np.abs(found - plain).max() > 1e-3, '300 keys are not 512'


def test_softmax_plus_keeps_the_entropy():
    """Over texts of many lengths, the entropy grows less than the softmax's."""
    scores = np.random.default_rng(4).normal(0, 4, (1, 1, 64, 2048)).astype('float32')

    def entropy(mechanism, n):
        w = to_numpy(mechanism.weigh(scores[..., :n], Mask()))
        return -(w * np.log(w + 1e-30)).sum(-1).mean()

    growth = {
        mechanism: entropy(mechanism(), 2048) - entropy(mechanism(), 64)
        for mechanism in (Softmax, SoftmaxPlus)
    }
    assert growth[SoftmaxPlus] < 0.7 * growth[Softmax]


@pytest.mark.every_backend
def test_fewer_than_16_keys_count_as_16(rng):
    scores = rng.normal(size=(1, 1, 1, 5)).astype('float32')
    factor = math.log(16) / math.log(512)
    expected = Softmax().weigh(scores * np.float32(factor), Mask())
    assert_close(SoftmaxPlus().weigh(scores, Mask()), expected, atol=1e-6)


@pytest.mark.every_backend
def test_squared_relu_is_a_square_over_the_number_of_keys(rng):
    scores = rng.normal(size=(2, 1, 3, 4)).astype('float32')
    found = to_numpy(SquaredReLU().weigh(scores, Mask()))
    np.testing.assert_allclose(found, np.maximum(scores, 0) ** 2 / 4, rtol=1e-6)
    assert_close(SquaredReLU().weigh(3 * scores, Mask()), 9 * found, atol=1e-4)
    assert not to_numpy(SquaredReLU().weigh(-np.abs(scores), Mask())).any()


@pytest.mark.every_backend
@pytest.mark.parametrize('name', MAKE)
def test_a_query_that_sees_nothing_stays_finite(name, rng):
    scores = rng.normal(size=(1, 1, 2, 3)).astype('float32')
    nothing = Mask(dense=np.array([[[False] * 3, [True] * 3]]))
    found = to_numpy(MAKE[name]().weigh(scores, nothing))
    assert np.isfinite(found).all()
    if name == 'squared_relu':
        assert not found[0, 0, 0].any()
    (slope,) = gradients(
        lambda s: ops.sum(ops.square(MAKE[name]().weigh(s, nothing))), scores
    )
    assert np.isfinite(slope).all()
    assert slope[0, 0, 1].any()


@pytest.mark.every_backend
@pytest.mark.parametrize('name', MAKE)
def test_large_scores_in_half_precision(name):
    scores = np.array([[[[300.0, 250.0, -300.0]]]], 'float16')
    found = to_numpy(MAKE[name](dtype='mixed_float16').weigh(scores, Mask()))
    expected = NORMALIZERS[name](scores[0, 0, 0].astype('float64'))
    np.testing.assert_allclose(found[0, 0, 0], expected, rtol=2e-3, atol=1e-3)
    assert found.dtype == np.float16


@pytest.mark.parametrize('name', MAKE)
def test_dropout_thins_the_weights_while_training(name):
    scores = np.ones((1, 1, 40, 40), 'float32')
    layer = MAKE[name](dropout=0.5)
    full = to_numpy(MAKE[name]().weigh(scores, Mask()))
    assert_close(layer.weigh(scores, Mask()), full)
    layer.drop.seed_generator.state.assign([0, 1])
    thinned = to_numpy(layer.drop(full, training=True))
    assert 0.3 < (thinned == 0).mean() < 0.7
    assert layer.get_config()['dropout'] == 0.5


@pytest.mark.parametrize('name', MAPS)
def test_maps_weigh_the_keys_that_are_seen(name, rng):
    """Whatever is masked, rows equal the definition over the rest, and sum to 1."""
    make, options, definition = MAPS[name]
    scores = rng.normal(0, 1.5, size=(2, 2, 6, 9)).astype('float32')
    padding = np.arange(9)[None] < np.array([[9], [7]])
    dense = rng.random((2, 6, 9)) < 0.8
    dense[:, :, 0] = True
    found = to_numpy(make(**options).weigh(scores, Mask(padding, True, dense)))
    for b, h, m in np.ndindex(2, 2, 6):
        seen = padding[b] & dense[b, m] & (np.arange(9) <= m + 3)
        expected = np.zeros(9)
        expected[seen] = definition(scores[b, h, m, seen].astype('float64'))
        np.testing.assert_allclose(found[b, h, m], expected, atol=3e-6)
        assert not found[b, h, m, ~seen].any()
    np.testing.assert_allclose(found.sum(-1), 1, atol=2e-6)


@pytest.mark.parametrize('name', MAPS)
def test_maps_are_known_by_name_and_take_their_options(name):
    make, options, _ = MAPS[name]
    layer = MultiHeadAttention(
        2, 4, mechanism=name, mechanism_options=options, attention_dropout=0.1
    )
    assert type(layer.mechanism) is make
    config = layer.mechanism.get_config()
    assert config | options == config
    assert config['dropout'] == 0.1
    assert make.from_config(config).get_config() == config


def test_dropout_thins_the_weights_of_maps():
    scores = np.ones((1, 1, 40, 40), 'float32')
    layer = Sparsemax(dropout=0.5)
    assert_close(layer.weigh(scores, Mask()), np.full(scores.shape, 1 / 40))
    thinned = to_numpy(layer.drop(to_numpy(layer.weigh(scores, Mask())), training=True))
    assert 0.3 < (thinned == 0).mean() < 0.7


def test_gumbel_noise_is_of_training_alone(rng):
    x = rng.normal(size=(2, 5, 6)).astype('float32')
    layer = MultiHeadAttention(2, 4, mechanism=Gumbel(seed=1))
    rest = to_numpy(layer(x))
    assert_close(layer(x, training=False), rest)
    one, two = (to_numpy(layer(x, training=True)) for _ in range(2))
    assert np.abs(one - rest).max() > 1e-3
    assert np.abs(one - two).max() > 1e-3
    scores = rng.normal(size=(1, 1, 3, 4)).astype('float32')
    hard = to_numpy(Gumbel(hard=True).weigh(scores, Mask()))
    assert_close(hard, np.eye(4)[scores.argmax(-1)])


def test_top_k_forgets_all_but_k_keys(rng):
    """Values of keys that are not kept have no influence, not even a small one."""
    x = rng.normal(size=(1, 12, 6)).astype('float32')
    layer = MultiHeadAttention(1, 4, mechanism=TopK(k=2), return_attention_scores=True)
    _, scores = layer(x)
    weights = to_numpy(layer.mechanism.weigh(scores, Mask()))
    assert ((weights > 0).sum(-1) == 2).all()
    last = to_numpy(scores)[0, 0, -1].argsort()
    changed = x.copy()
    (slope,) = gradients(lambda t: ops.sum(layer(t)[0][:, -1]), changed)
    kept = {int(last[-1]), int(last[-2]), 11}
    assert not slope[0, [i for i in range(12) if i not in kept]].any()
    assert slope[0, sorted(kept)].all()
