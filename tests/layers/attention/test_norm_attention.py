"""NormAttention against its formula, and the bound on its gradient."""

import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import linear_attention as slow

from keraseff.layers import Rotary
from keraseff.layers.attention.linear import LinearAttention
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.mechanism import Rotation
from keraseff.layers.attention.norm_attention import NormAttention

ACTS = {
    'elu': slow.elu,
    'elu_plus_one': lambda x: slow.elu(x) + 1,
    'relu': lambda x: np.maximum(x, 0),
}
# Map, causal, rotated.
CASES = [('elu', True, True), ('elu_plus_one', False, False)]
MORE = [(act, causal, False) for act in ACTS for causal in (False, True)]
MORE += [('elu', False, True)]
PADDING = np.arange(11)[None] < np.array([[11], [8]])


def texts(rng, n=11):
    return [rng.normal(size=(2, n, 3, 4)).astype('float32') for _ in range(3)]


def turn(q, rotated, start=0):
    ids = ops.arange(ops.shape(q)[1], dtype='float32')[None] + start
    position = Rotary(head_size=4)
    return Rotation(position, position(q, position_ids=ids)) if rotated else None


def fast(cases, q, k, v):
    mixed, padding = [], ops.convert_to_tensor(PADDING)
    for act, causal, rotated in cases:
        layer = NormAttention(act, chunk=4)
        mixed.append(layer.call(q, k, v, Mask(padding, causal), turn(q, rotated)))
    return ops.concatenate(mixed, axis=0)


def slowly(cases, q, k, v):
    return np.concatenate(
        [slow.norm_attention(ACTS[a], q, k, v, PADDING, *rest) for a, *rest in cases]
    )


@pytest.mark.parametrize(
    'cases', [pytest.param(CASES, marks=pytest.mark.every_backend), MORE]
)
def test_it_equals_the_slow_version(cases, rng):
    q, k, v = texts(rng)
    found = compiled(lambda *a: fast(cases, *a), q, k, v)
    wide = [a.astype('float64') for a in (q, k, v)]
    assert_close(found, slowly(cases, *wide), atol=1e-4, rtol=1e-4)
    pull = rng.normal(size=found.shape).astype('float32')
    directions = [rng.normal(size=a.shape) for a in wide]
    pulled = ops.convert_to_tensor(pull)
    grads = gradients(lambda *a: ops.sum(fast(cases, *a) * pulled), q, k, v)
    seen = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
    steep = slow.slope(lambda *a: slowly(cases, *a) * pull, wide, directions)
    np.testing.assert_allclose(seen, steep, rtol=5e-3)


@pytest.mark.every_backend
def test_steps_equal_the_rows(rng):
    q, k, v = texts(rng, n=3)
    layer = NormAttention(chunk=2)

    def both(q, k, v):
        pairs = []
        for rotated in (False, True):
            rows = layer.call(q, k, v, Mask(causal=True), turn(q, rotated))
            state, mixed = layer.start(2, 3, 3, 4, 4), []
            for t in range(3):
                one = [a[:, t : t + 1] for a in (q, k, v)]
                row, state = layer.step(*one, t, state, turn(one[0], rotated, t))
                mixed.append(row)
            pairs.append((rows, ops.concatenate(mixed, axis=1)))
        return pairs

    for rows, mixed in compiled(both, q, k, v):
        assert_close(rows, mixed)


def test_a_denominator_would_be_undone(rng):
    """A positive factor for each query, or for all values, changes nothing."""
    q, k, v = texts(rng)
    layer = NormAttention('relu', epsilon=1e-12)
    mixed = layer(q, k, v, where=Mask(causal=True))
    factor = rng.uniform(0.1, 10, (2, 11, 1, 1)).astype('float32')
    assert_close(layer(q * factor, k, v, where=Mask(causal=True)), mixed, atol=1e-4)
    assert_close(layer(q, k, 7 * v, where=Mask(causal=True)), mixed, atol=1e-4)
    square = to_numpy(mixed)[:, 3:] ** 2
    np.testing.assert_allclose(square.mean((-2, -1)), 1, atol=1e-3)


def by_score(layer, scores, v, pull):
    """∂(pull · output)/∂s for scores s (b, n) of one query of one head of size 1."""
    ones, pull = ops.ones((len(scores), 1, 1, 1)), ops.convert_to_tensor(pull)
    (found,) = gradients(
        lambda k: ops.sum(layer(ones, k, v, where=Mask()) * pull),
        scores[:, :, None, None],
    )
    return found[:, :, 0, 0]


def test_the_gradient_by_a_score_is_bounded_here_and_not_with_a_denominator(rng):
    b, n, d, epsilon = 3000, 3, 2, 1e-2
    scores = 10 ** rng.uniform(-6, 2, (b, n))
    v = rng.uniform(-1, 1, (b, n, 1, d)).astype('float32')
    pull = rng.uniform(-1, 1, (b, 1, 1, d)).astype('float32')
    scores = scores.astype('float32')
    bound = 3 * np.abs(pull).max((1, 2, 3)) * np.abs(v).max((1, 2, 3)) * d
    bound = bound / (2 * epsilon**0.5)
    found = np.abs(by_score(NormAttention('relu', epsilon=epsilon), scores, v, pull))
    share = (found.max(1) / bound).max()
    assert 0.2 < share <= 1, 'a bound that is never neared would say little'
    plain = LinearAttention(ops.relu, epsilon=0)
    found = np.abs(by_score(plain, scores, v, pull))
    assert (found.max(1) / bound).max() > 1000


def test_p_equal_to_s_over_the_sum_rises_as_1_over_4_s():
    """∂p_i/∂s_i = (1 - p_i) / Σ, at most 1 / 4 s_i, with equality at p_i = 1/2."""
    v = np.array([1, 0], 'float32').reshape(1, 2, 1, 1)
    layer = LinearAttention(ops.relu, epsilon=0)
    for s in (1e-4, 0.1, 3.0):
        at = np.array([[s, s]], 'float32')
        found = by_score(layer, at, v, np.ones((1, 1, 1, 1), 'float32'))
        np.testing.assert_allclose(found[0, 0], 1 / (4 * s), rtol=1e-4)


def test_an_unknown_map_is_refused():
    with pytest.raises(ValueError, match="'gelu' is unknown; there are: elu, elu_plus"):
        NormAttention('gelu')
