"""Synthesizer: each kind row by row, ranks, mixtures, steps, and what it refuses."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_mechanism
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import synthesizer as slow

from keraseff.layers import Mask
from keraseff.layers import MultiHeadAttention
from keraseff.layers.attention.synthesizer import Synthesizer

KINDS = ['dense', 'random', 'factorized_dense', 'factorized_random']
ALL = [*KINDS, 'vanilla']


def made(kind, rng, length=13, **options):
    """A Synthesizer of three heads of 4 channels on steps of 6, random throughout."""
    layer = Synthesizer(kind, length, **options)
    heads = (None, None, 3, 4)
    layer.build(heads, heads, heads, (None, None, 6))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def named(layer):
    return {w.path.split('/')[-1]: to_numpy(w.value) for w in layer.weights}


@pytest.mark.every_backend
@pytest.mark.parametrize('kind', KINDS)
def test_each_kind_equals_the_slow_version(kind, rng):
    layer = made(kind, rng, hidden=5, rank=2)
    for n in (7, 13):
        x = rng.normal(size=(2, n, 6)).astype('float32')
        found = to_numpy(layer.score(None, None, x=ops.convert_to_tensor(x), n=n))
        assert_close(found, slow.scores(kind, named(layer), x, 13), atol=1e-4)


@pytest.mark.every_backend
def test_gradients_of_dense_kinds(rng):
    x = rng.normal(size=(1, 5, 6)).astype('float32')
    direction = rng.normal(size=x.shape)
    for kind in ('dense', 'factorized_dense'):
        layer = made(kind, rng)
        weights = named(layer)

        def total(x, kind=kind, weights=weights):
            return np.sin(slow.scores(kind, weights, x, 13)).sum()

        (slope,) = gradients(
            lambda t, layer=layer: ops.sum(ops.sin(layer.score(None, None, t, 5))), x
        )
        up, down = (total(x + s * 1e-5 * direction) for s in (1, -1))
        np.testing.assert_allclose(
            (slope * direction).sum(), (up - down) / 2e-5, rtol=1e-3
        )


def test_dense_is_attention_to_keys_that_never_change(rng):
    layer = made('dense', rng)
    w = named(layer)
    x = rng.normal(size=(2, 9, 6)).astype('float32')
    q = np.maximum(np.einsum('bme,ehf->bmhf', x, w['kernel1']) + w['bias1'], 0)
    k = np.transpose(w['kernel2'], (2, 0, 1))[None, :9]  # (1, n, h, f)
    compared = np.einsum('bmhf,nhf->bhmn', q, k[0]) + w['bias2'][:, :, :9]
    found = layer.score(None, None, ops.convert_to_tensor(x), 9)
    assert_close(found, compared, atol=1e-4)


def test_random_kinds_do_not_look_at_the_text(rng):
    x, y = rng.normal(size=(2, 1, 8, 6)).astype('float32')
    padding = ops.convert_to_tensor(np.arange(8)[None] < 6)
    for kind in KINDS:
        layer = made(kind, rng)
        a, b = (
            to_numpy(layer.weigh(layer.score(None, None, t, 8), Mask(padding, True)))
            for t in (ops.convert_to_tensor(x), ops.convert_to_tensor(y))
        )
        assert np.array_equal(a, b) == ('random' in kind)
        assert not a[..., 6:].any()
        assert not np.triu(a, 1).any()
        assert_close(a.sum(-1), np.ones((1, 3, 8)))


def test_ranks_and_outer_products(rng):
    x = ops.convert_to_tensor(rng.normal(size=(1, 12, 6)).astype('float32'))
    square = to_numpy(
        made('factorized_random', rng, 12, rank=3).score(None, None, x, 12)
    )
    assert (np.linalg.matrix_rank(square[0], tol=1e-4) == 3).all()
    full = to_numpy(made('random', rng, 12).score(None, None, x, 12))
    assert (np.linalg.matrix_rank(full[0], tol=1e-4) == 12).all()
    layer = made('factorized_dense', rng, 12, factors=(4, 3))
    rows = to_numpy(layer.score(None, None, x, 12)).reshape(1, 3, 12, 3, 4)
    assert (np.linalg.matrix_rank(rows, tol=1e-4) == 1).all()
    # Tiled and tiled again, scores 12 steps apart would agree; so they do not.
    assert np.abs(rows[..., 0, 0] - rows[..., 1, 1]).max() > 1e-2
    sizes = {
        w.path.split('/')[-1]: w.shape[-1]
        for w in made('factorized_dense', rng).weights
    }
    assert (sizes['tiled_kernel2'], sizes['repeated_kernel2']) == (4, 4)  # for 13


def test_a_mixture_is_a_mean_with_weights(rng):
    layer = made(ALL, rng)
    x = ops.convert_to_tensor(rng.normal(size=(2, 7, 6)).astype('float32'))
    q, k = (ops.convert_to_tensor(a) for a in rng.normal(size=(2, 2, 7, 3, 4)))
    q, k = ops.cast(q, 'float32'), ops.cast(k, 'float32')
    parts = [to_numpy(part.score(x, q, k, 7, 7, 0)) for part in layer.parts]
    assert_close(parts[-1], ops.einsum('bmhd,bnhd->bhmn', q, k))
    for logits in (np.zeros(5), rng.normal(size=5), np.array([0, 0, 60.0, 0, 0])):
        layer.mixture.assign(logits)
        shares = np.exp(logits) / np.exp(logits).sum()
        expected = sum(s * p for s, p in zip(shares, parts, strict=True))
        assert_close(layer.score(q, k, x, 7), expected, atol=1e-4)


STEPWISE = ['random', 'factorized_random', 'vanilla']


@pytest.mark.parametrize(
    'kind', ['dense', ALL, pytest.param(STEPWISE, marks=pytest.mark.every_backend)]
)
def test_one_step_is_one_row(kind, rng):
    layer = MultiHeadAttention(
        2, 4, mechanism=Synthesizer(kind, 9, rank=2), causal=True
    )
    x = rng.normal(size=(2, 4, 6)).astype('float32')
    full = to_numpy(layer(x))
    state = layer.start(2, 9)
    for t in range(4):
        step = t if t % 2 else ops.convert_to_tensor(t, 'int32')
        row, state = layer.step(ops.convert_to_tensor(x[:, t : t + 1]), step, state)
        assert_close(row, full[:, t : t + 1])


def test_attention_meets_its_contract():
    kinds = ['dense', 'factorized_random', 'vanilla']
    check_mechanism(lambda: Synthesizer(kinds, 16, rank=2), position='rotary')


@pytest.mark.parametrize('kind', KINDS)
def test_each_kind_meets_the_contract(kind):
    check_mechanism(lambda: Synthesizer(kind, 16))


def test_no_queries_and_keys_are_made_in_vain(rng):
    x = rng.normal(size=(1, 5, 6)).astype('float32')
    bare = MultiHeadAttention(2, 4, mechanism=Synthesizer(['random', 'dense'], 8))
    mixed = MultiHeadAttention(2, 4, mechanism=Synthesizer(['random', 'vanilla'], 8))
    bare(x), mixed(x)
    assert not hasattr(bare, 'q_dense')
    assert mixed.q_dense.kernel.shape == (6, 8)
    with pytest.raises(ValueError, match='compares no queries with keys'):
        MultiHeadAttention(2, 4, mechanism=Synthesizer(length=8), position='rotary')


def test_what_is_fixed_is_not_trained(rng):
    for kind, count in (('random', 1), ('factorized_random', 2)):
        assert len(made(kind, rng).trainable_weights) == count
        still = made([kind, 'dense'], rng, fixed=True)
        assert len(still.non_trainable_weights) == count
        assert len(still.trainable_weights) == 4 + 1  # the network, the mixture


def test_errors_and_config(rng):
    layer = Synthesizer(['dense', 'vanilla'], 20, 7, (4, 5), 3, True, 0.1)
    again = Synthesizer.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.factors == [4, 5]
    assert again.compares
    for wrong, word in (
        ({'kind': 'dance', 'length': 4}, 'must be one of dense'),
        ({'kind': [], 'length': 4}, 'must be one of'),
        ({'kind': ['random', 'random'], 'length': 4}, 'each once'),
        ({}, 'give length'),
        ({'length': 20, 'factors': (4, 4)}, 'fewer than length=20'),
    ):
        with pytest.raises(ValueError, match=word):
            Synthesizer(**wrong)
    x = np.zeros((1, 9, 6), 'float32')
    layer = MultiHeadAttention(2, 4, mechanism=Synthesizer(length=8), causal=True)
    with pytest.raises(ValueError, match='9 steps is longer than the 8'):
        layer(x)
    with pytest.raises(ValueError, match='9 steps is longer than the 8'):
        layer.step(x[:, :1], 0, layer.start(1, 9))
    layer = MultiHeadAttention(2, 4, mechanism=Synthesizer(length=8))
    with pytest.raises(ValueError, match='mixes one sequence'):
        layer(x[:, :5], np.ones((1, 5, 6), 'float32'))
    with pytest.raises(ValueError, match='x='):
        layer.mechanism.score(None, None)
    mixed = made(['random', 'vanilla'], rng)
    q = np.zeros((1, 2, 3, 4), 'float32')
    with pytest.raises(ValueError, match='cannot tell which'):
        mixed.score(q, q, x, 9)
