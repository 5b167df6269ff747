"""Efficient attention against its two softmaxes; masking the plain form leaks."""

import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import linear_attention as slow

from keraseff.layers import Rotary
from keraseff.layers.attention.efficient import EfficientAttention
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.mechanism import Rotation

PADDING = np.arange(13)[None] < np.array([[13], [9]])
# Causal, rotated.
CASES = [(False, False), (True, True)]
MORE = [(True, False), (False, True)]


def texts(rng, n=13, b=2):
    return [rng.normal(size=(b, n, 2, 4)).astype('float32') for _ in range(3)]


def turn(q, rotated, start=0):
    ids = ops.arange(ops.shape(q)[1], dtype='float32')[None] + start
    position = Rotary(head_size=4)
    return Rotation(position, position(q, position_ids=ids)) if rotated else None


def fast(cases, q, k, v):
    layer, padding = EfficientAttention(chunk=5), ops.convert_to_tensor(PADDING)
    return ops.concatenate(
        [
            layer.call(q, k, v, Mask(padding, causal), turn(q, rotated))
            for causal, rotated in cases
        ],
        axis=0,
    )


def slowly(cases, q, k, v):
    return np.concatenate(
        [slow.efficient(q, k, v, PADDING, *case) for case in cases], axis=0
    )


@pytest.mark.parametrize(
    'cases', [pytest.param(CASES, marks=pytest.mark.every_backend), MORE]
)
def test_it_equals_the_two_softmaxes(cases, rng):
    q, k, v = texts(rng)
    found = compiled(lambda *a: fast(cases, *a), q, k, v)
    wide = [a.astype('float64') for a in (q, k, v)]
    expected = slowly(cases, *wide)
    pull = rng.normal(size=found.shape).astype('float32')
    pull[1::2, 9:] = 0  # a rotated sum at padding is anything
    assert_close(found * (pull != 0), expected * (pull != 0), atol=1e-4, rtol=1e-4)
    directions = [rng.normal(size=a.shape) for a in wide]
    pulled = ops.convert_to_tensor(pull)
    grads = gradients(lambda *a: ops.sum(fast(cases, *a) * pulled), q, k, v)
    seen = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
    steep = slow.slope(lambda *a: slowly(cases, *a) * pull, wide, directions)
    np.testing.assert_allclose(seen, steep, rtol=5e-3)
    for g in grads[1:]:
        assert not g[1, 9:].any(), 'a masked key has no influence'


@pytest.mark.every_backend
def test_steps_equal_the_rows(rng):
    q, k, v = texts(rng, n=3)
    layer = EfficientAttention(chunk=2)

    def both(q, k, v):
        pairs = []
        for rotated in (False, True):
            rows = layer.call(q, k, v, Mask(causal=True), turn(q, rotated))
            state, mixed = layer.start(2, 3, 2, 4, 4), []
            for t in range(3):
                one = [a[:, t : t + 1] for a in (q, k, v)]
                row, state = layer.step(*one, t, state, turn(one[0], rotated, t))
                mixed.append(row)
            pairs.append((rows, ops.concatenate(mixed, axis=1)))
        return pairs

    for rows, mixed in compiled(both, q, k, v):
        assert_close(rows, mixed)


@pytest.mark.parametrize('causal', [False, True])
def test_weights_are_shares(causal, rng):
    q, k, _ = texts(rng, b=1)
    v = np.tile(np.eye(13, dtype='float32')[None, :, None], (1, 1, 2, 1))
    weights = to_numpy(EfficientAttention(5)(q, k, v, where=Mask(causal=causal)))
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)


def test_the_last_row_is_that_of_the_plain_form(rng):
    q, k, v = texts(rng)
    layer = EfficientAttention(5)
    causal, plain = (layer(q, k, v, where=Mask(causal=c)) for c in (True, False))
    assert_close(causal[:, -1], plain[:, -1])


def test_the_plain_form_masked_leaks_and_ours_does_not(rng):
    q, k, v = texts(rng)

    def naive(q, k, v):
        scores = ops.einsum(
            'bmhd,bnhd->bhmn', ops.softmax(q, axis=-1), ops.softmax(k, axis=1)
        )
        scores = scores * ops.convert_to_tensor(np.tri(13, dtype='float32'))
        return ops.einsum('bhmn,bnhd->bmhd', scores, v)

    layer = EfficientAttention(5)
    for i in (0, 4, 7):
        (ours,) = gradients(
            lambda t, i=i: ops.sum(layer(q, t, v, where=Mask(causal=True))[:, i]), k
        )
        assert not ours[:, i + 1 :].any()
        assert ours[:, : i + 1].any() == (i > 0)
        (leaks,) = gradients(lambda t, i=i: ops.sum(naive(q, t, v)[:, i]), k)
        assert np.abs(leaks[:, i + 1 :]).max() > 1e-4


def test_keys_of_any_size(rng):
    """Channels grow by 500 from step to step: each row sees its own key alone."""
    q, k, v = texts(rng)
    k += 500 * np.arange(13, dtype='float32')[None, :, None, None]
    found = EfficientAttention(5)(q, k, v, where=Mask(causal=True))
    assert_close(found, v)


def test_the_order_of_keys_is_unseen(rng):
    q, k, v = texts(rng)
    order = rng.permutation(13)
    layer = EfficientAttention()
    mixed = layer(q, k, v, where=Mask())
    assert_close(layer(q, k[:, order], v[:, order], where=Mask()), mixed)
