"""XPOS: RoPE's scores, fading with distance, at any length."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import gradients
from harness import to_numpy
from keras import ops

from keraseff.layers import MultiHeadAttention
from keraseff.layers import Rotary
from keraseff.layers.position.xpos import XPOS
from keraseff.ops import plain_frequencies


def scores(layer, q, k, ids=None, keys=None):
    p = layer(q, ids, keys)
    q, k = layer.rotate(ops.convert_to_tensor(q), ops.convert_to_tensor(k), p)
    return to_numpy(ops.einsum('bmhd,bnhd->bhmn', q, k))


def faded(q, k, distance, scale_base=512, gamma=0.4):
    """The score of one query and one key, pair by pair, in complex numbers."""
    q, k = (x[::2].astype('float64') + 1j * x[1::2] for x in (q, k))
    d = 2 * len(q)
    fade = ((2 * np.arange(len(q)) / d + gamma) / (1 + gamma)) ** (
        distance / scale_base
    )
    turns = np.exp(1j * distance * plain_frequencies(d))
    return (q * turns * k.conj() * fade).real.sum()


@pytest.mark.every_backend
def test_scores_are_those_of_the_formula(rng):
    q, k = rng.normal(size=(2, 1, 5, 2, 8)).astype('float32')
    found = scores(XPOS(8, scale_base=3, gamma=0.2), q, k)
    for h, i, j in np.ndindex(2, 5, 5):
        expected = faded(q[0, i, h], k[0, j, h], i - j, 3, 0.2)
        assert found[0, h, i, j] == pytest.approx(expected, abs=1e-4)
    split = np.concatenate([np.arange(0, 8, 2), np.arange(1, 8, 2)])
    halves = XPOS(8, interleaved=False, scale_base=3, gamma=0.2)
    assert_close(scores(halves, q[..., split], k[..., split]), found, atol=1e-4)
    slow = XPOS(8, scale_base=1e9)
    assert_close(scores(slow, q, k), scores(Rotary(8), q, k), atol=1e-4)


def test_only_distance_counts(rng):
    q, k = rng.normal(size=(2, 1, 6, 2, 8)).astype('float32')
    layer = XPOS(8)
    near = scores(layer, q, k)
    assert_close(scores(layer, q, k, np.arange(6)[None] + 1000), near, atol=2e-3)
    one = scores(layer, q[:, 4:5], k, np.array([[4]]), k)
    assert_close(one, near[:, :, 4:5], atol=1e-4)


@pytest.mark.every_backend
@pytest.mark.parametrize('dtype', ['float32', 'mixed_float16', 'mixed_bfloat16'])
def test_8192_steps_fade_and_stay_finite(dtype, rng):
    q, k = (rng.normal(size=(2, 1, 5, 1, 64)) * 8).astype('float32')
    ids = np.array([[0, 1, 4096, 8190, 8191]])
    layer = XPOS(64, dtype=dtype)
    kind = {'float32': 'float32', 'mixed_float16': 'float16'}.get(dtype, 'bfloat16')
    q, k = (ops.cast(x, kind) for x in (q, k))

    def score(q, k):
        assert kind == 'bfloat16' or 'float32' in str(q.dtype)
        for x in (q, k):
            assert np.isfinite(to_numpy(ops.cast(x, 'float32'))).all()
        return ops.einsum('bmhd,bnhd->bhmn', q, k)

    p = layer(q, ids)
    # Counted from the middle, no power is larger than that of 4096 steps.
    assert np.abs(to_numpy(p)).max() < 1.01 * (1.4 / 0.4) ** 8
    found = layer.compare(q, k, p, score)
    assert kind in str(found.dtype)
    found = to_numpy(ops.cast(found, 'float32'))[0, 0]
    q, k = (to_numpy(ops.cast(x, 'float32'))[0, :, 0] for x in (q, k))
    tolerance = 30 if dtype == 'mixed_bfloat16' else 1
    for i, j in zip(*np.tril_indices(5), strict=True):
        expected = faded(q[i], k[j], ids[0, i] - ids[0, j])
        assert found[i, j] == pytest.approx(expected, abs=tolerance, rel=1e-2)
    envelope = (np.arange(32) / 32 + 0.4) / 1.4
    most = ((q**2).reshape(5, 32, 2).sum(-1) ** 0.5).max(0)
    bound = (most**2 * 3 * envelope ** (8191 / 512)).sum()
    assert abs(found[4, 0]) < bound + tolerance
    assert bound < 0.3 * (most**2).sum()


def test_contracts():
    check_layer(lambda **kwargs: XPOS(8, **kwargs), np.zeros((2, 9, 8)), padded=False)

    def attention(**kwargs):
        position = XPOS(4, 100, False, partial=0.5)
        return MultiHeadAttention(2, 4, position=position, causal=True, **kwargs)

    check_layer(attention, np.random.default_rng(1).normal(size=(2, 7, 6)))
    with pytest.raises(ValueError, match='causal=True'):
        MultiHeadAttention(2, 4, position=XPOS(4))


@pytest.mark.every_backend
def test_half_precision_inside_attention(rng):
    x = (rng.normal(size=(1, 6, 8)) * 30).astype('float32')
    layer = MultiHeadAttention(
        2, 4, position=XPOS(4), causal=True, dtype='mixed_float16'
    )
    found = layer(x)
    assert 'float16' in str(found.dtype)
    assert np.isfinite(to_numpy(found)).all()
    (slope,) = gradients(lambda t: ops.mean(ops.cast(layer(t), 'float32')), x)
    assert np.isfinite(slope).all()
    assert slope.any()


def test_flags_and_errors():
    assert XPOS.causal_only
    assert not XPOS(4).rotates_once
    again = XPOS.from_config(XPOS(4, scale_base=7).get_config())
    assert again.scale_base == 7
    with pytest.raises(ValueError, match='along a line'):
        XPOS(4, axes=2)
    with pytest.raises(ValueError, match='give it head_size=6'):
        scores(XPOS(4), *np.zeros((2, 1, 3, 1, 6), 'float32'))
