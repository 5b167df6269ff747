"""Linformer against softmax attention and a slow version."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import linear_attention as slow

from keraseff.layers.attention.linformer import Linformer
from keraseff.layers.attention.mask import Mask


def texts(rng, n=7):
    return [rng.normal(size=(2, n, 3, 4)).astype('float32') for _ in range(3)]


@pytest.mark.parametrize('per_head', [False, True])
@pytest.mark.parametrize('shared', [False, True])
def test_with_unit_matrices_it_is_softmax_attention(shared, per_head, rng):
    q, k, v = texts(rng)
    layer = Linformer(7, 7, shared=shared, per_head=per_head)
    layer(q, k, v, where=Mask())
    assert len(layer.weights) == (1 if shared else 2)
    for weight in layer.weights:
        assert tuple(weight.shape) == (3 if per_head else 1, 7, 7)
        weight.assign(np.broadcast_to(np.eye(7), weight.shape))
    assert_close(layer(q, k, v, where=Mask()), slow.softmax(q, k, v))


def expected(e, f, q, k, v):
    n = k.shape[1]
    k = np.einsum('hrn,bnhd->brhd', e[:, :, :n], k)
    return slow.softmax(q, k, np.einsum('hrn,bnhd->brhd', f[:, :, :n], v))


@pytest.mark.parametrize(
    'per_head', [False, pytest.param(True, marks=pytest.mark.every_backend)]
)
def test_it_attends_to_mixtures_of_the_keys(per_head, rng):
    q, k, v = texts(rng)
    layer = Linformer(11, 5, per_head=per_head)
    found = to_numpy(layer(q, k, v, where=Mask()))
    e, f = (
        np.broadcast_to(to_numpy(w.value), (3, 5, 11)).astype('float64')
        for w in layer.weights
    )
    assert not np.allclose(e, f)
    assert_close(found, expected(e, f, q, k, v))
    padded = [np.concatenate([a, a[:, :3] + 9], axis=1) for a in (q, k, v)]
    padding = ops.convert_to_tensor(np.arange(10)[None] < np.array([[7], [7]]))
    longer = to_numpy(layer(*padded, where=Mask(padding)))
    assert_close(longer[:, :7], found)
    arrays = [a.astype('float64') for a in (q, k, v)]
    directions = [rng.normal(size=a.shape) for a in arrays]
    grads = gradients(lambda *a: ops.sum(layer(*a, where=Mask())), q, k, v)
    seen = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
    steep = slow.slope(lambda *a: expected(e, f, *a), arrays, directions)
    np.testing.assert_allclose(seen, steep, rtol=1e-3)


def test_lengths(rng):
    """Any up to its own, also where a model is laid out with a free one."""
    q, k, v = texts(rng)
    with pytest.raises(ValueError, match=r'length=6\) got a text of 7 steps'):
        Linformer(6)(q, k, v, where=Mask())
    inputs = [keras.Input((None, 3, 4)) for _ in range(3)]
    layer = Linformer(9, 2)
    model = keras.Model(inputs, layer(*inputs, where=Mask()))
    assert tuple(model.output.shape) == (None, None, 3, 4)
    assert_close(model.predict_on_batch([q, k, v]), layer(q, k, v, where=Mask()))
    assert not Linformer.can_be_causal


def test_one_mixture_is_what_everybody_gets(rng):
    q, k, v = texts(rng)
    layer = Linformer(7, 1)
    found = to_numpy(layer(q, k, v, where=Mask()))
    matrix = to_numpy(layer.weights[1].value)[0, 0]
    one = np.einsum('n,bnhd->bhd', matrix, v)
    assert_close(found, np.broadcast_to(one[:, None], found.shape))


def test_dropout_rests_outside_training(rng):
    q, k, v = texts(rng)
    layer = Linformer(7, dropout=0.5)
    still = to_numpy(layer(q, k, v, where=Mask()))
    assert_close(still, layer(q, k, v, where=Mask(), training=False))
    moved = to_numpy(layer(q, k, v, where=Mask(), training=True))
    assert np.abs(moved - still).max() > 1e-3
