"""Losses of sparse maps: their formulas, gradients p - y, zeros and a peer."""

import keras
import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import save_and_reopen
from harness import to_numpy
from keras import ops
from reference import normalizers as slow

from keraseff.losses import EntmaxLoss
from keraseff.losses import SparsemaxLoss
from keraseff.losses import SparseSoftmaxLoss
from keraseff.losses import entmax_loss
from keraseff.losses import sparse_softmax_crossentropy
from keraseff.losses import sparsemax_loss

ALPHAS = 1, 1.3, 1.5, 2, 2.5


def case(rng, rows=6, c=8, scale=1.5):
    scores = rng.normal(0, scale, (rows, c)).astype('float32')
    return scores, rng.integers(0, c, rows)


def sparse_softmax(t, x, k):
    """log Σ e^{x_i} - x_t over the k largest and the right one."""
    kept = set(np.argsort(x)[-k:].tolist()) | {int(t)}
    return np.log(sum(np.exp(x[i]) for i in kept)) - x[t]


def sparsemax_formula(t, x):
    """½ - x_t + ½ Σ_S (x_i² - λ²)."""
    p = slow.entmax(x, 2)
    support = p > 0
    edge = (x[support] - p[support])[0]
    return 0.5 - x[t] + (x[support] ** 2 - edge**2).sum() / 2


def each(formula, ids, scores, *options):
    pairs = zip(ids, scores.astype('float64'), strict=True)
    return np.array([formula(t, x, *options) for t, x in pairs])


@pytest.mark.parametrize('k', [1, 3, 8, 50])
def test_sparse_softmax_is_the_formula(k, rng):
    scores, ids = case(rng)
    found = to_numpy(sparse_softmax_crossentropy(ids, scores, k))
    np.testing.assert_allclose(found, each(sparse_softmax, ids, scores, k), atol=2e-6)
    assert found.min() >= 0
    if k >= 8:
        plain = keras.losses.sparse_categorical_crossentropy(
            ids, scores, from_logits=True
        )
        assert_close(found, plain, atol=1e-5)


def test_sparse_softmax_moves_only_what_it_keeps(rng):
    scores, _ = case(rng)
    ids = scores.argmin(-1)  # never among the 3 largest
    (found,) = gradients(
        lambda x: ops.sum(sparse_softmax_crossentropy(ids, x, 3)), scores
    )
    for row, slope, t in zip(scores, found, ids, strict=True):
        kept = np.append(np.argsort(row)[-3:], t)
        expected = np.zeros(8)
        expected[kept] = slow.softmax(row[kept].astype('float64'))
        expected[t] -= 1
        np.testing.assert_allclose(slope, expected, atol=1e-6)
        assert np.count_nonzero(slope) == 4


def test_sparsemax_loss_is_the_formula(rng):
    scores, ids = case(rng)
    expected = each(sparsemax_formula, ids, scores)
    assert_close(sparsemax_loss(ids, scores), expected, atol=2e-6)
    assert_close(sparsemax_loss(ids[:, None], scores + 100), expected, atol=5e-5)


def summed(labels, alphas):
    return lambda x: sum(
        ops.sum(entmax_loss(labels, x[i], alpha)) for i, alpha in enumerate(alphas)
    )


@pytest.mark.parametrize('kind', ['ids', 'shares'])
def test_gradients_are_weights_less_labels(kind, rng):
    scores, ids = case(rng)
    stacked = np.stack([scores] * len(ALPHAS))
    labels = {'ids': ids, 'shares': rng.dirichlet(np.ones(8), 6).astype('float32')}[
        kind
    ]
    (found,) = gradients(summed(labels, ALPHAS), stacked)
    expected = np.eye(8)[ids] if kind == 'ids' else labels
    for slope, alpha in zip(found, ALPHAS, strict=True):
        weights = [slow.entmax(x, alpha) for x in scores.astype('float64')]
        np.testing.assert_allclose(slope, weights - expected, atol=3e-6)


@pytest.mark.every_backend
def test_all_losses_in_one_graph(rng):
    scores, ids = case(rng)

    def values(ids, x):
        return sparse_softmax_crossentropy(ids, x, 3), sparsemax_loss(ids, x)

    sparse, nearest = compiled(values, ids, scores)
    assert_close(sparse, each(sparse_softmax, ids, scores, 3), atol=2e-6)
    assert_close(nearest, each(sparsemax_formula, ids, scores), atol=2e-6)
    (found,) = gradients(summed(ids, [1.5]), scores[None])
    weights = np.array([slow.entmax(x, 1.5) for x in scores.astype('float64')])
    np.testing.assert_allclose(found[0], weights - np.eye(8)[ids], atol=3e-6)


@pytest.mark.parametrize('alpha', ALPHAS)
def test_the_loss_itself_has_that_slope(alpha, rng):
    """Its values, not only its gradient, which is written down apart from them."""
    scores, ids = case(rng, rows=4)
    h = 0.02
    weights = np.array([slow.entmax(x, alpha) for x in scores.astype('float64')])
    for j in range(8):
        step = h * np.eye(8, dtype='float32')[j]
        up, down = (
            to_numpy(entmax_loss(ids, scores + s * step, alpha)) for s in (1, -1)
        )
        slope = (up - down) / (2 * h)
        np.testing.assert_allclose(slope, weights[:, j] - (ids == j), atol=4e-3)


def test_losses_are_zero_where_the_weights_are_the_labels(rng):
    scores, ids = case(rng)
    for alpha in ALPHAS:
        assert (to_numpy(entmax_loss(ids, scores, alpha)) > 1e-3).all()
        shares = np.array([slow.entmax(x, alpha) for x in scores.astype('float64')])
        assert_close(entmax_loss(shares, scores, alpha), np.zeros(6), atol=2e-6)
        away = np.roll(shares, 1, axis=-1)
        assert (to_numpy(entmax_loss(away, scores, alpha)) > 1e-4).all()
    sure = scores.copy()
    sure[np.arange(6), ids] = scores.max(-1) + 1.01
    assert_close(sparsemax_loss(ids, sure), np.zeros(6), atol=1e-6)
    assert (to_numpy(entmax_loss(ids, sure, 1.5)) > 1e-4).all(), 'it needs a gap of 2'
    sure[np.arange(6), ids] += 1
    assert_close(entmax_loss(ids, sure, 1.5), np.zeros(6), atol=1e-6)


def test_alpha_1_is_the_cross_entropy(rng):
    scores, ids = case(rng)
    plain = to_numpy(
        keras.losses.sparse_categorical_crossentropy(ids, scores, from_logits=True)
    )
    assert_close(entmax_loss(ids, scores, 1), plain, atol=1e-5)
    assert_close(entmax_loss(ids, scores, 1.0005), plain, atol=3e-3)


def test_hidden_classes_and_large_scores(rng):
    scores, ids = case(rng)
    more = np.pad(scores, ((0, 0), (0, 3)), constant_values=-np.inf)
    large = np.array([[900.0, -900.0], [-900.0, 900.0]], 'float32')
    for loss in (
        sparse_softmax_crossentropy,
        sparsemax_loss,
        entmax_loss,
        lambda y, x: entmax_loss(y, x, 1.3),
    ):
        expected = to_numpy(loss(ids, scores))
        assert_close(loss(ids, more), expected, atol=1e-5)
        half = to_numpy(loss(ids, scores.astype('float16')))
        assert half.dtype == np.float32
        assert_close(half, expected, atol=1e-2)
        cube = loss(ids.reshape(2, 3), scores.reshape(2, 3, 8))
        assert_close(cube, expected.reshape(2, 3), atol=1e-6)
        found = to_numpy(loss(np.array([0, 0]), large))
        assert found[0] == 0
        assert 1790 < found[1] <= 1800


@pytest.mark.parametrize(
    ('make', 'function', 'options'),
    [
        (SparseSoftmaxLoss, sparse_softmax_crossentropy, {'k': 3}),
        (SparsemaxLoss, sparsemax_loss, {}),
        (EntmaxLoss, entmax_loss, {'alpha': 1.3}),
    ],
)
def test_the_classes_are_means_of_the_functions_and_are_saved(
    make, function, options, rng
):
    scores, ids = case(rng)
    loss = make(**options)
    expected = to_numpy(function(ids, scores, **options)).mean()
    assert float(loss(ids, scores)) == pytest.approx(expected, rel=1e-5)
    again = make.from_config(loss.get_config())
    assert again.options == options
    assert float(again(ids, scores)) == pytest.approx(expected, rel=1e-5)
    if make is not EntmaxLoss:
        return
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)])
    model.compile(keras.optimizers.SGD(0.3), loss)
    before = model.evaluate(scores, ids, verbose=0)
    model.fit(scores, ids, epochs=3, verbose=0)
    assert model.evaluate(scores, ids, verbose=0) < before
    assert save_and_reopen(model).loss.options == options


def test_the_functions_are_saved_with_a_model(rng):
    scores, ids = case(rng)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)])
    model.compile('sgd', sparsemax_loss)
    reopened = save_and_reopen(model)
    assert reopened.loss is sparsemax_loss
    before = model.evaluate(scores, ids, verbose=0)
    assert reopened.evaluate(scores, ids, verbose=0) == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize('alpha', [1.5, 2, 1.3])
def test_losses_and_gradients_equal_entmax_package(alpha, rng):
    peer = pytest.importorskip('entmax')
    torch = pytest.importorskip('torch')
    scores, ids = case(rng, rows=9, c=20)
    theirs = torch.tensor(scores, requires_grad=True)
    known = {1.5: peer.entmax15_loss, 2: peer.sparsemax_loss}
    other = known.get(alpha, lambda x, y: peer.entmax_bisect_loss(x, y, alpha))
    expected = other(theirs, torch.tensor(ids))
    expected.sum().backward()
    assert_close(entmax_loss(ids, scores, alpha), expected.detach().numpy(), atol=1e-5)
    (found,) = gradients(lambda x: ops.sum(entmax_loss(ids, x, alpha)), scores)
    assert_close(found, theirs.grad.numpy(), atol=1e-5)


def test_illegal_options_are_refused(rng):
    scores, ids = case(rng)
    with pytest.raises(ValueError, match='k=0'):
        sparse_softmax_crossentropy(ids, scores, 0)
    with pytest.raises(ValueError, match=r'alpha=0\.5'):
        entmax_loss(ids, scores, 0.5)
