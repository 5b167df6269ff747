"""FAVOR+ as an estimate: unbiased, of known variance, stable, redrawn and saved."""

import math

import keras
import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import save_and_reopen
from harness import to_numpy
from keras import ops
from reference import linear_attention as slow

from keraseff.layers import MultiHeadAttention
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.performer import KINDS
from keraseff.layers.attention.performer import Performer
from keraseff.layers.attention.performer import orthogonal_rows


def estimates(kind, w, q, k):
    """φ(q)·φ(k) with one row of W at a time, (rows,)."""
    (a, la), (b, lb) = (
        [to_numpy(t).astype('float64') for t in KINDS[kind](x[None], w)] for x in (q, k)
    )
    products = (a * b * np.exp(la + lb))[0]
    return products.reshape(-1, len(w)).mean(0)


def pair(rng, d=4):
    """Two vectors, their e^(q·k), and ‖q+k‖², small: the estimate has long tails."""
    q, k = (rng.normal(size=d).astype('float32') * 0.9 / d**0.5 for _ in range(2))
    return q, k, np.exp(q.astype('float64') @ k), np.sum((q.astype('float64') + k) ** 2)


@pytest.mark.parametrize('orthogonal', [False, True])
@pytest.mark.parametrize('kind', ['positive', 'hyperbolic'])
def test_the_estimate_is_unbiased(kind, orthogonal, rng):
    q, k, exact, _ = pair(rng)
    normal = rng.normal(size=(2, 40000, 4)).astype('float32')
    w = to_numpy(orthogonal_rows(normal)) if orthogonal else normal[0]
    one = estimates(kind, w, q, k)
    groups = one.reshape(-1, 4).mean(1)  # within a group rows are not independent
    error = groups.std() / len(groups) ** 0.5
    assert abs(one.mean() - exact) < 4.5 * error
    assert error < 0.02 * exact
    product = to_numpy(KINDS[kind](q[None], w)[0])
    assert product.min() >= 0


def test_its_variance_is_that_of_the_paper(rng):
    """Lemma 2: (1/m) e^‖q+k‖² e^2q·k (1 - e^-‖q+k‖²)."""
    q, k, exact, square = pair(rng)
    found = []
    for m in (8, 32, 128):
        w = rng.normal(size=(3000 * m, 4)).astype('float32')
        means = estimates('positive', w, q, k).reshape(-1, m).mean(1)
        found.append(np.mean((means - exact) ** 2))
        formula = np.exp(square) * exact**2 * (1 - np.exp(-square)) / m
        assert 0.75 < found[-1] / formula < 1.25
    assert 3 < found[0] / found[1] < 5.4
    assert 3 < found[1] / found[2] < 5.4


def test_orthogonal_rows_estimate_better(rng):
    q, k, exact, _ = pair(rng, 8)
    normal = rng.normal(size=(2, 8 * 6000, 8)).astype('float32')
    rows = to_numpy(orthogonal_rows(normal))
    mse = [
        np.mean((estimates('positive', w, q, k).reshape(-1, 8).mean(1) - exact) ** 2)
        for w in (normal[0], rows)
    ]
    assert mse[1] < 0.9 * mse[0]
    blocks = rows.reshape(-1, 8, 8).astype('float64')
    products = np.einsum('bid,bjd->bij', blocks, blocks)
    lengths = np.sqrt(np.einsum('bii->bi', products))
    cosines = products / lengths[:, :, None] / lengths[:, None]
    np.testing.assert_allclose(cosines, np.tile(np.eye(8), (6000, 1, 1)), atol=1e-4)
    mean = 2**0.5 * math.gamma(4.5) / math.gamma(4)  # of χ with 8 degrees of freedom
    np.testing.assert_allclose(lengths.mean(), mean, rtol=0.01)
    spread = 4.5 / 6000**0.5
    assert np.abs(blocks.mean(0)).max() < spread, 'no row prefers a half-space'
    plus_minus = [
        np.var(estimates(kind, normal[0], q, k)) for kind in ('positive', 'hyperbolic')
    ]
    assert plus_minus[1] < plus_minus[0]


def texts(rng, n=13, d=4, b=2):
    return [rng.normal(size=(b, n, 2, d)).astype('float32') for _ in range(3)]


def expected(w, kind, q, k, v, causal):
    """FAVOR+ in float64 with no stabiliser; q comes divided by √d."""
    d = q.shape[-1]
    q, k, w = q * d**0.25, k / d**0.25, w.astype('float64')

    def phi(x):
        if kind == 'relu':
            return np.maximum(x @ w.T, 0) + 1e-3
        half = (x**2).sum(-1, keepdims=True) / 2
        signs = (1, -1) if kind == 'hyperbolic' else (1,)
        return np.concatenate([np.exp(s * x @ w.T - half) for s in signs], axis=-1)

    weights = slow.dot(phi(q), phi(k)) * slow.seen(q.shape[1], k.shape[1], None, causal)
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum('bhmn,bnhd->bmhd', weights, v)


@pytest.mark.every_backend
def test_the_stabiliser_changes_nothing(rng):
    q, k, v = texts(rng)
    layers = [Performer(6, kind=kind, epsilon=0, chunk=5) for kind in sorted(KINDS)]
    for layer in layers:
        layer.build(q.shape, k.shape, v.shape)
    cases = [(layer, True) for layer in layers] + [(layers[1], False)]

    def fast(q, k, v):
        found = [layer.call(q, k, v, Mask(causal=causal)) for layer, causal in cases]
        return ops.concatenate(found, axis=0)

    def slowly(q, k, v):
        weights = [to_numpy(layer.w.value) for layer, _ in cases]
        found = [
            expected(w, layer.kind, q, k, v, causal)
            for w, (layer, causal) in zip(weights, cases, strict=True)
        ]
        return np.concatenate(found)

    assert_close(compiled(fast, q, k, v), slowly(q, k, v), atol=1e-4, rtol=1e-4)
    wide = [a.astype('float64') for a in (q, k, v)]
    pull = rng.normal(size=(8, 13, 2, 4)).astype('float32')
    directions = [rng.normal(size=a.shape) for a in wide]
    weighted = ops.convert_to_tensor(pull)
    grads = gradients(lambda *a: ops.sum(fast(*a) * weighted), q, k, v)
    seen = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
    steep = slow.slope(lambda *a: slowly(*a) * pull, wide, directions)
    np.testing.assert_allclose(seen, steep, rtol=1e-2)


@pytest.mark.every_backend
def test_steps_equal_the_rows(rng):
    q, k, v = texts(rng, n=3)
    layers = [Performer(6, kind=kind, chunk=2) for kind in ('hyperbolic', 'relu')]
    for layer in layers:
        layer.build(q.shape, k.shape, v.shape)

    def both(q, k, v):
        pairs = []
        for layer in layers:
            rows = layer.call(q, k, v, Mask(causal=True))
            state, mixed = layer.start(2, 3, 2, 4, 4), []
            for t in range(3):
                one = [a[:, t : t + 1] for a in (q, k, v)]
                row, state = layer.step(*one, t, state)
                mixed.append(row)
            pairs.append((rows, ops.concatenate(mixed, axis=1)))
        return pairs

    for rows, mixed in compiled(both, q, k, v):
        assert_close(rows, mixed)


def test_it_tends_to_softmax_attention(rng):
    q, k, v = texts(rng, b=8)
    q, k = q / 2, k / 2  # the variance grows as e^‖q+k‖²
    exact = slow.softmax(q / 2, k, v)
    errors = []
    for m in (16, 256, 4096):
        found = [
            to_numpy(Performer(m, seed=seed)(q / 2, k, v, where=Mask()))
            for seed in range(6)
        ]
        error = np.mean((np.array(found) - exact) ** 2) / np.mean(exact**2)
        errors.append(error**0.5)
    assert errors[0] / errors[1] > 2
    assert errors[1] / errors[2] > 2
    assert errors[2] < 0.03


def test_masked_keys_have_no_influence(rng):
    q, k, v = texts(rng)
    padding = ops.convert_to_tensor(np.arange(13)[None] < np.array([[9], [13]]))
    layer = Performer(16)
    for causal in (False, True):
        whole = to_numpy(layer(q, k, v, where=Mask(padding, causal)))
        part = [a[:1, :9] for a in (q, k, v)]
        assert_close(whole[:1, :9], layer(*part, where=Mask(causal=causal)))


@pytest.mark.parametrize('kind', sorted(KINDS))
@pytest.mark.parametrize('causal', [False, True])
def test_gradients_are_finite_for_large_queries_and_keys(kind, causal, rng):
    q, k, v = texts(rng, d=16)
    q, k = (50 * x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    layer = Performer(kind=kind, chunk=5)
    where = Mask(causal=causal)
    found = to_numpy(layer(q, k, v, where=where))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= np.abs(v).max() * 1.001, 'shares of the values'
    for g in gradients(lambda *a: ops.sum(layer(*a, where=where) ** 2), q, k, v):
        assert np.isfinite(g).all()
        assert g.any()


@pytest.mark.every_backend
def test_features_are_redrawn_in_training_and_saved():
    x = np.random.default_rng(3).normal(size=(2, 6, 8)).astype('float32')
    i = keras.Input((6, 8))
    performer = Performer(7, redraw_every=2, seed=5)
    layer = MultiHeadAttention(2, 4, mechanism=performer, causal=True)
    model = keras.Model(i, layer(i))
    model.compile('sgd', 'mse')
    drawn = [to_numpy(performer.w.value)]
    for _ in range(4):
        model.train_on_batch(x, x)
        drawn.append(to_numpy(performer.w.value))
    model.predict_on_batch(x)
    drawn.append(to_numpy(performer.w.value))
    changed = [
        np.abs(a - b).max() > 0.1 for a, b in zip(drawn, drawn[1:], strict=False)
    ]
    assert changed == [False, True, False, True, False]
    cosines = [w[:4] @ w[:4].T for w in drawn]
    for c in cosines:
        assert np.abs(c - np.diag(np.diag(c))).max() < 1e-4
    assert not any('features' in w.path for w in model.trainable_weights)
    assert any('features' in w.path for w in model.weights)
    again = save_and_reopen(model)
    assert_close(again.predict_on_batch(x), model.predict_on_batch(x))


def test_how_many_features_and_which():
    shape = (None, None, 1, 64)
    for m, rows in ((None, 267), (5, 5), (130, 130)):
        layer = Performer(m, seed=1)
        layer.build(shape, shape, shape)
        assert tuple(layer.w.shape) == (rows, 64)
        same, other = Performer(m, seed=1), Performer(m)
        for drawn in (same, other):
            drawn.build(shape, shape, shape)
        assert_close(same.w.value, layer.w.value)
        assert np.abs(to_numpy(other.w.value) - to_numpy(layer.w.value)).max() > 0.1
    small = Performer()
    small.build(*[(None, None, 1, 2)] * 3)
    assert tuple(small.w.shape) == (2, 2)
    with pytest.raises(ValueError, match="kind='cosh' is unknown; there are: hyper"):
        Performer(kind='cosh')
