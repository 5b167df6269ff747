"""TransNormer's DiagAttention, with a softmax and with a rectifier and a norm."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_mechanism
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import sparse_attention as slow

from keraseff.layers.attention.diag import Diag
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.softmax import Softmax


def drawn(rng, n, *sizes):
    return [rng.normal(size=(2, n, 2, d)).astype('float32') for d in sizes]


def test_each_block_is_a_text_of_its_own(rng):
    q, k, v = drawn(rng, 22, 4, 4, 3)
    for causal in (False, True):
        found = to_numpy(Diag(8)(q, k, v, where=Mask(causal=causal)))
        for own in (slice(0, 8), slice(8, 16), slice(16, 22)):
            alone = Softmax().call(q[:, own], k[:, own], v[:, own], Mask(causal=causal))
            assert_close(found[:, own], alone)


def check_rectified(causal, rng):
    mechanism, n = Diag(4, normalizer='relu'), 11
    q, k, v, out = drawn(rng, n, 4, 4, 3, 3)
    padding = np.arange(n)[None] < np.array([[n], [n - 2]])
    mask = slow.diag(n, 4, causal), padding

    def f(q, k, v, out):
        return ops.sum(mechanism(q, k, v, where=Mask(padding, causal)) * out)

    *slopes, found = gradients(f, q, k, v, out)
    assert_close(found, slow.rectified(q, k, v, *mask))
    arrays = [x.astype('float64') for x in (q, k, v)]
    for i, slope in enumerate(slopes):
        way = rng.normal(size=arrays[i].shape)
        ends = (
            slow.rectified(
                *(x + s * way if j == i else x for j, x in enumerate(arrays)), *mask
            )
            for s in (1e-6, -1e-6)
        )
        expected = ((next(ends) - next(ends)) * out).sum() / 2e-6
        np.testing.assert_allclose((slope * way).sum(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.every_backend
def test_rectified_outputs_and_gradients(rng):
    check_rectified(True, rng)


def test_rectified_outputs_and_gradients_both_ways(rng):
    check_rectified(False, rng)


def test_rectified_steps_equal_the_causal_call(rng):
    mechanism, n = Diag(4, normalizer='relu'), 11
    q, k, v = drawn(rng, n, 4, 4, 3)
    state = mechanism.start(2, n, 2, 4, 3)
    expected = slow.rectified(q, k, v, slow.diag(n, 4, True))
    for t in range(n):
        row = (ops.convert_to_tensor(x[:, t : t + 1]) for x in (q, k, v))
        mixed, state = mechanism.step(*row, t, state)
        assert_close(to_numpy(mixed)[:, 0], expected[:, t])


def test_the_norm_takes_the_scale_away(rng):
    """So a denominator would change nothing: norm(c o) = norm(o)."""
    mechanism = Diag(4, normalizer='relu', epsilon=0.0)
    q, k, v = drawn(rng, 8, 4, 4, 3)
    found = to_numpy(mechanism(q, k, v, where=Mask()))
    assert_close(mechanism(100 * q, k, v, where=Mask()), found)
    np.testing.assert_allclose((found**2).mean(axis=(2, 3)), 1, rtol=1e-4)


def test_rectified_contract():
    check_mechanism(lambda: Diag(3, normalizer='relu'), 'rotary')


def test_rows_that_see_nothing_are_zero_and_have_gradients(rng):
    mechanism = Diag(4, normalizer='relu')
    q, k, v = drawn(rng, 6, 4, 4, 3)
    padding = np.zeros((2, 6), bool)
    padding[1] = True
    assert not to_numpy(mechanism(q, k, v, where=Mask(padding)))[0].any()
    for slope in gradients(
        lambda *x: ops.sum(mechanism(*x, where=Mask(padding)) ** 3), q, k, v
    ):
        assert np.isfinite(slope).all()
        assert slope[1].any()


def test_an_unknown_normalizer_is_refused():
    with pytest.raises(ValueError, match="normalizer='gelu' is unknown; there are: 's"):
        Diag(normalizer='gelu')
