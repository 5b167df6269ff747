"""Attention with Mitchell's products between queries and keys."""

import numpy as np
import pytest
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import mitchell as slow
from reference.normalizers import softmax

from keraseff.layers import Mask
from keraseff.layers import Softmax
from keraseff.layers.attention.mitchell import MitchellSoftmax


def test_scores_are_mitchell_products(rng):
    q = rng.normal(size=(2, 5, 3, 20)).astype('float32')
    k = rng.normal(size=(2, 7, 3, 20)).astype('float32')
    v = rng.normal(size=(2, 7, 3, 4)).astype('float32')
    expected = np.array(
        [
            [slow.matmul(q[b, :, h], k[b, :, h].T) for h in range(3)]
            for b in range(2)
        ]
    )  # fmt: skip
    layer = MitchellSoftmax()
    assert_close(layer.score(q, k), expected, atol=1e-5)
    weights = np.apply_along_axis(softmax, -1, expected)
    mixed = np.array(
        [
            [slow.matmul(weights[b, h], v[b, :, h]) for h in range(3)]
            for b in range(2)
        ]
    ).transpose(0, 2, 1, 3)  # fmt: skip
    assert_close(layer.call(q, k, v, Mask()), mixed, atol=1e-5)
    exact = to_numpy(Softmax().score(q, k))
    plain, better = (
        np.abs((to_numpy(MitchellSoftmax(correct=c).score(q, k)) * exact).sum()
               / (exact**2).sum() - 1)
        for c in (False, True)
    )  # fmt: skip
    assert plain > 0.02
    assert better < plain / 3


@pytest.mark.every_backend
def test_both_gradients(rng):
    q = rng.normal(size=(1, 2, 1, 5)).astype('float32')
    k = rng.normal(size=(1, 3, 1, 5)).astype('float32')
    g = rng.normal(size=(1, 1, 2, 3)).astype('float32')

    def loss(q, k):
        exact, other = (
            MitchellSoftmax(backward=b).score(*pair)
            for b, pair in (('exact', (q[:1], k[:1])), ('mitchell', (q[1:], k[1:])))
        )
        return ops.sum(ops.multiply(exact + other, g))

    dq, dk = gradients(loss, np.concatenate([q, q]), np.concatenate([k, k]))
    two_q, two_k, two_g = q[0, :, 0], k[0, :, 0], g[0, 0]
    assert_close(dq[0, :, 0], two_g @ two_k, atol=1e-5)
    assert_close(dk[0, :, 0], two_g.T @ two_q, atol=1e-5)
    assert_close(dq[1, :, 0], slow.matmul(two_g, two_k), atol=1e-5)
    assert_close(dk[1, :, 0], slow.matmul(two_g.T, two_q), atol=1e-5)
    with pytest.raises(ValueError, match="backward='none'"):
        MitchellSoftmax(backward='none')
