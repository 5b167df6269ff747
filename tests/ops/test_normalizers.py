"""Maps from scores to weights: definitions, known vectors, Jacobians, a peer."""

import keras
import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import normalizers as slow

from keraseff.ops import entmax
from keraseff.ops import entmax15
from keraseff.ops import gumbel_softmax
from keraseff.ops import masked_value
from keraseff.ops import perturb_max
from keraseff.ops import sparsemax
from keraseff.ops import taylor_softmax
from keraseff.ops import topk_softmax
from keraseff.ops import topp_softmax

# Each map beside its definition; scores are shifted up for Taylor's.
MAPS = {
    'sparsemax': (sparsemax, lambda x: slow.entmax(x, 2)),
    'entmax15': (entmax15, lambda x: slow.entmax(x, 1.5)),
    'entmax1': (lambda x, **kw: entmax(x, 1, **kw), slow.softmax),
    'entmax1.2': (lambda x, **kw: entmax(x, 1.2, **kw), lambda x: slow.entmax(x, 1.2)),
    'entmax2.5': (lambda x, **kw: entmax(x, 2.5, **kw), lambda x: slow.entmax(x, 2.5)),
    'taylor2': (taylor_softmax, slow.taylor),
    'taylor4': (
        lambda x, **kw: taylor_softmax(x, 4, **kw),
        lambda x: slow.taylor(x, 4),
    ),
    'top3': (lambda x, **kw: topk_softmax(x, 3, **kw), lambda x: slow.top_k(x, 3)),
    'top0.8': (
        lambda x, **kw: topp_softmax(x, 0.8, **kw),
        lambda x: slow.top_p(x, 0.8),
    ),
    'perturb_max': (perturb_max, slow.perturb_max),
}
SHIFTED = {name: pair for name, pair in MAPS.items() if not name.startswith('taylor')}


def rows(f, x):
    return np.apply_along_axis(f, -1, x.astype('float64'))


@pytest.mark.parametrize('name', MAPS)
def test_each_map_equals_its_definition(name, rng):
    fast, definition = MAPS[name]
    x = rng.normal(0, 1.5, size=(3, 2, 7)).astype('float32')
    found = to_numpy(fast(x))
    np.testing.assert_allclose(found, rows(definition, x), atol=2e-6)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    assert_close(
        np.moveaxis(to_numpy(fast(x, axis=1)), 1, -1),
        rows(definition, x.swapaxes(1, 2)),
        atol=2e-6,
    )
    order = rng.permutation(7)
    assert_close(fast(x[..., order]), found[..., order], atol=1e-6)
    if name in SHIFTED:
        assert_close(fast(x + 7), found, atol=3e-6)


@pytest.mark.every_backend
def test_all_maps_in_one_graph(rng):
    """In half precision, with a hidden score, along another axis; a Gumbel choice."""
    x = rng.normal(0, 1.5, size=(7, 2)).astype('float16')
    more = np.insert(x, 3, masked_value('float16'), axis=0)
    names = [name for name in MAPS if name not in ('entmax1', 'entmax2.5', 'taylor4')]

    def graph(x):
        many = ops.broadcast_to(ops.transpose(x)[:1], (20_000, 8))
        chosen = gumbel_softmax(many, 0.7, hard=True, seed=2)
        return [MAPS[name][0](x, axis=0) for name in names], chosen

    found, chosen = compiled(graph, more)
    for name, shares in zip(names, found, strict=True):
        expected = rows(MAPS[name][1], x.T).T
        assert shares.dtype == np.float16
        assert not shares[3].any()
        seen = np.delete(shares, 3, axis=0)
        np.testing.assert_allclose(seen, expected, atol=1e-3, err_msg=name)
    p = slow.softmax(more[:, 0].astype('float64'))
    error = np.sqrt(p * (1 - p) / 20_000)
    assert (np.abs(chosen.astype('float32').mean(0) - p) <= 4 * error).all()
    np.testing.assert_array_equal(chosen.sum(-1), 1)


@pytest.mark.parametrize('name', MAPS)
def test_what_is_hidden_gets_nothing(name, rng):
    fast, _ = MAPS[name]
    x = rng.normal(size=(2, 5)).astype('float32')
    expected = to_numpy(fast(x))
    for dtype, low in (('float32', -np.inf), ('float32', None), ('float16', None)):
        low = masked_value(dtype) if low is None else low
        more = np.insert(x.astype(dtype), [0, 3, 5], low, axis=1)
        found = to_numpy(fast(more))
        assert found.dtype == dtype
        assert not found[:, [0, 4, 7]].any()
        seen = np.delete(found, [0, 4, 7], axis=1)
        assert_close(seen, expected, atol=3e-6 if dtype == 'float32' else 4e-3)
    nothing = np.full((1, 4), masked_value('float32'), 'float32')
    assert_close(fast(nothing), np.full((1, 4), 0 if 'taylor' in name else 0.25))
    assert_close(fast(x[:, :1]), np.ones((2, 1)))


def test_known_vectors():
    x = np.array([-2, 0, 0.5], 'float32')
    assert_close(entmax(x, 1), np.array([0.0486, 0.3592, 0.5922]), atol=1e-4)
    assert_close(sparsemax(x), np.array([0, 0.25, 0.75]), atol=1e-6)
    assert_close(entmax15(x), np.array([0, 0.3260, 0.6740]), atol=1e-4)
    assert_close(taylor_softmax(x), np.array([0.275862, 0.275862, 0.448276]), atol=1e-6)
    assert_close(perturb_max(x), np.array([0.0136455, 0.3560685, 0.6302860]), atol=2e-7)
    y = np.array([-1, 0, 0.5], 'float32')
    assert_close(entmax(y, 1.33), np.array([0.0460, 0.3276, 0.6264]), atol=1e-4)
    z = np.array([1, 2, 3.5], 'float32')
    assert_close(entmax(z, 1.33), np.array([0.0026, 0.1012, 0.8963]), atol=1e-4)
    up, down = (to_numpy(entmax(y, 1.33 + h))[0] for h in (0.01, -0.01))
    assert (up - down) / 0.02 == pytest.approx(-0.2562, abs=1e-3)


def jacobian_case(rng):
    """Scores for all maps and directions, far from where any map has a kink."""
    x = rng.normal(0, 1, size=(len(MAPS), 2, 6)).astype('float32')
    return x, rng.normal(size=x.shape).astype('float32')


@pytest.mark.every_backend
def test_gradients_are_those_of_the_definitions(rng):
    x, towards = jacobian_case(rng)

    def loss(x):
        return sum(
            ops.sum(ops.multiply(fast(x[i]), towards[i]))
            for i, (fast, _) in enumerate(MAPS.values())
        )

    (found,) = gradients(loss, x)
    for i, (name, (_, definition)) in enumerate(MAPS.items()):
        wide, h = x[i].astype('float64'), 1e-5
        expected = np.empty_like(wide)
        for j in range(wide.shape[-1]):
            step = h * np.eye(wide.shape[-1])[j]
            slope = (rows(definition, wide + step) - rows(definition, wide - step)) / (
                2 * h
            )
            expected[:, j] = (slope * towards[i]).sum(-1)
        np.testing.assert_allclose(found[i], expected, atol=2e-5, err_msg=name)
        assert np.abs(found[i]).max() > 1e-2


def test_the_jacobians_of_entmax_are_the_formula(rng):
    alphas = [1.2, 1.5, 2, 2.5]
    x = rng.normal(0, 1, size=(len(alphas), 5)).astype('float32')
    wide = np.broadcast_to(x[:, None], (len(alphas), 5, 5)).copy()  # one row per weight

    def diagonal(x):
        return sum(
            ops.sum(ops.multiply(entmax(x[i], alpha), np.eye(5, dtype='float32')))
            for i, alpha in enumerate(alphas)
        )

    (found,) = gradients(diagonal, wide)
    for i, alpha in enumerate(alphas):
        p = slow.entmax(x[i].astype('float64'), alpha)
        assert_close(found[i], slow.entmax_jacobian(p, alpha), atol=1e-5)


def test_bisection_meets_the_closed_forms(rng):
    x = rng.normal(0, 2, size=(3, 40)).astype('float32')
    assert_close(entmax(x, 2 + 1e-7), sparsemax(x), atol=2e-6)
    assert_close(entmax(x, 1.5 + 1e-7), entmax15(x), atol=2e-6)
    softmax = rows(slow.softmax, x)
    far, near = (np.abs(to_numpy(entmax(x, a)) - softmax).max() for a in (1.02, 1.002))
    assert near < far / 5
    assert near < 2e-3


def test_limits(rng):
    x = rng.normal(0, 2, size=(3, 9)).astype('float32')
    softmax = rows(slow.softmax, x)
    assert_close(topk_softmax(x, 9), softmax, atol=1e-6)
    assert_close(topk_softmax(x, 100), softmax, atol=1e-6)
    assert_close(topp_softmax(x, 1.0), softmax, atol=1e-6)
    assert_close(taylor_softmax(x / 4, 12), rows(slow.softmax, x / 4), atol=1e-6)
    best = np.eye(9)[x.argmax(-1)]
    assert_close(topk_softmax(x, 1), best)
    assert_close(topp_softmax(x, 1e-9), best)
    apart = np.where(best == 1, 5, x.clip(-9, 3.9)).astype('float32')
    assert_close(sparsemax(apart), best)
    assert (to_numpy(entmax15(x)) == 0).any()


def test_equal_scores_share():
    x = np.array([[3.0, 1.0, 3.0, 3.0, -1.0]], 'float32')
    third = np.array([[1, 0, 1, 1, 0]]) / 3
    assert_close(topk_softmax(x, 2), third, atol=1e-6)
    assert_close(topp_softmax(x, 0.5), third, atol=1e-6)
    assert_close(sparsemax(x), third, atol=1e-6)
    assert_close(perturb_max(np.zeros((1, 700), 'float32')), np.full((1, 700), 1 / 700))


@pytest.mark.parametrize('name', MAPS)
def test_scores_of_any_size(name, rng):
    fast, definition = MAPS[name]
    x = rng.normal(0, 1, size=(2, 3000)).astype('float32')
    np.testing.assert_allclose(to_numpy(fast(x)).sum(-1), 1, atol=2e-5)
    large = np.array([[300.0, 299.5, -300.0]], 'float32')
    expected = rows(definition, large)
    assert_close(fast(large), expected, atol=2e-5)
    found = to_numpy(fast(large.astype('float16')))
    assert found.dtype == np.float16
    assert_close(found, expected, atol=1e-3)


def test_order_2_is_not_monotone():
    shares = to_numpy(taylor_softmax(np.array([-4.0, -1.0, 0.0], 'float32')))
    np.testing.assert_allclose(shares, np.array([5, 0.5, 1]) / 6.5, rtol=1e-6)


def test_two_perturbed_scores_compare_as_one_normal_does():
    from scipy.stats import norm

    gaps = np.array([0.0, 0.7, 3.0, 8.0], 'float32')
    found = to_numpy(perturb_max(np.stack([gaps, 0 * gaps], axis=-1)))
    np.testing.assert_allclose(found[:, 0], norm.cdf(gaps / np.sqrt(2)), atol=3e-7)
    assert 0 < found[3, 1] < 2e-8


def test_the_largest_perturbed_score_is_as_often_each(rng):
    """Normal noise itself, drawn, within 4 standard errors."""
    x, draws = np.array([-1.0, 0.2, 0.5, 1.0], 'float32'), 200_000
    best = (x + rng.normal(size=(draws, 4))).argmax(-1)
    share = np.bincount(best, minlength=4) / draws
    p = to_numpy(perturb_max(x))
    assert (np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / draws)).all()


def test_gumbel_noise_makes_the_softmax():
    """The largest noisy score is each as often as the softmax says, within 4 s.e."""
    x, draws = np.array([-1.0, 0.2, 0.5, 1.0], 'float32'), 40_000
    p = slow.softmax(x.astype('float64'))
    many = np.broadcast_to(x, (draws, 4)).copy()
    for seed, hard in ((1, True), (2, False)):
        found = to_numpy(gumbel_softmax(many, 0.7, hard, seed=seed))
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
        share = (found == found.max(-1, keepdims=True)).mean(0)
        assert (np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / draws)).all()
        assert hard == bool(np.isin(found, [0, 1]).all())


def test_a_hard_choice_has_the_soft_gradient(rng):
    x = rng.normal(size=(4, 6)).astype('float32')
    w = rng.normal(size=(4, 6)).astype('float32')

    def loss(hard):
        return lambda x: ops.sum(ops.multiply(gumbel_softmax(x, 0.5, hard, seed=3), w))

    (soft,), (hard,) = gradients(loss(False), x), gradients(loss(True), x)
    assert_close(hard, soft, atol=1e-6)
    assert np.abs(soft).max() > 1e-2
    once, again = (to_numpy(gumbel_softmax(x, seed=5)) for _ in range(2))
    assert_close(once, again)
    cold = to_numpy(gumbel_softmax(x, 1e-4, seed=5))
    assert_close(cold, gumbel_softmax(x, 1e-4, hard=True, seed=5), atol=1e-4)
    source = keras.random.SeedGenerator(7)
    one, two = (to_numpy(gumbel_softmax(x, seed=source)) for _ in range(2))
    assert np.abs(one - two).max() > 0.01, 'a generator moves on'


def test_a_hard_choice_among_hidden_scores_is_one():
    nothing = np.full((50, 4), masked_value('float32'), 'float32')
    found = to_numpy(gumbel_softmax(nothing, hard=True, seed=1))
    np.testing.assert_array_equal(found.sum(-1), 1)
    assert (found.sum(0) > 0).all()


@pytest.mark.parametrize('alpha', [1.5, 2, 1.3, 1.7])
def test_outputs_and_gradients_equal_entmax_package(alpha, rng):
    peer = pytest.importorskip('entmax')
    torch = pytest.importorskip('torch')
    x = rng.normal(0, 2, size=(5, 30)).astype('float32')
    w = rng.normal(size=(5, 30)).astype('float32')
    theirs = torch.tensor(x, requires_grad=True)
    known = {1.5: peer.entmax15, 2: peer.sparsemax}
    expected = known.get(alpha, lambda t: peer.entmax_bisect(t, alpha))(theirs)
    (expected * torch.tensor(w)).sum().backward()
    assert_close(entmax(x, alpha), expected.detach().numpy(), atol=2e-6)
    (found,) = gradients(lambda t: ops.sum(ops.multiply(entmax(t, alpha), w)), x)
    assert_close(found, theirs.grad.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ('call', 'word'),
    [
        (lambda x: entmax(x, 0.9), 'alpha=0.9'),
        (lambda x: entmax(x, float('nan')), 'alpha=nan'),
        (lambda x: taylor_softmax(x, 3), 'order=3'),
        (lambda x: topk_softmax(x, 0), 'k=0'),
        (lambda x: topp_softmax(x, 1.5), 'p=1.5'),
        (lambda x: gumbel_softmax(x, 0), 'temperature=0'),
    ],
)
def test_illegal_options_are_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call(np.zeros((2, 3), 'float32'))
