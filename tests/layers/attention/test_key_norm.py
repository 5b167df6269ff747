"""Keys of length 1: the formula in loops, and what follows from it."""

import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops

from keraseff.layers import Mask
from keraseff.layers import MultiHeadAttention
from keraseff.layers.attention.key_norm import KeyNorm


def case(rng, m=5, n=7):
    shapes = (2, m, 3, 4), (2, n, 3, 4), (2, n, 3, 6)
    return [rng.normal(size=shape).astype('float32') for shape in shapes]


def formula(q, k, v, seen, scale, cosine=False):
    """softmax(λ q k̂ᵀ) v, one query at a time; λ is 4 log(l) where scale is 'log'."""
    q, k, v = (a.astype('float64') for a in (q, k, v))
    out = np.zeros((*q.shape[:3], v.shape[-1]))
    for b, m, h in np.ndindex(q.shape[:3]):
        keys = np.flatnonzero(seen[b, m])
        factor = 4 * np.log(len(keys)) if scale == 'log' else scale[h]
        one = q[b, m, h] / (np.linalg.norm(q[b, m, h]) if cosine else 1)
        powers = np.array(
            [
                np.exp(factor * one @ k[b, n, h] / np.linalg.norm(k[b, n, h]))
                for n in keys
            ]
        )
        out[b, m, h] = powers / powers.sum() @ v[b, keys, h]
    return out


@pytest.mark.every_backend
def test_it_is_the_formula(rng):
    q, k, v = case(rng)
    padding = np.arange(7)[None] < np.array([[7], [5]])
    where = Mask(padding, causal=True)
    seen = padding[:, None] & (np.arange(7) <= np.arange(5)[:, None] + 2)
    options = [
        {}, {'scale': 2.5, 'cosine': True}, {'scale': 'learnt'},
        {'scale': 'log', 'cosine': True},
    ]  # fmt: skip
    layers = [KeyNorm(**each) for each in options]
    for layer in layers:
        layer.build(q.shape, k.shape, v.shape)
    assert [len(layer.weights) for layer in layers] == [0, 0, 1, 0]
    assert_close(layers[2].factor, np.ones((3, 1, 1)))
    learnt = [0.5, 1.5, 3.0]
    layers[2].factor.assign(np.reshape(learnt, (3, 1, 1)))
    found = compiled(lambda *a: [layer(*a, where=where) for layer in layers], q, k, v)
    for got, scale, cosine in zip(
        found, ([1] * 3, [2.5] * 3, learnt, 'log'), (0, 1, 0, 1), strict=True
    ):
        assert_close(got, formula(q, k, v, seen, scale, cosine), atol=3e-5)


def test_lengths_do_not_count(rng):
    q, k, v = case(rng)
    plain = to_numpy(KeyNorm()(q, k, v, where=Mask()))
    longer = k * rng.uniform(2, 9, (2, 7, 3, 1)).astype('float32')
    assert_close(KeyNorm()(q, longer, v, where=Mask()), plain, atol=1e-5)
    assert np.abs(to_numpy(KeyNorm()(2 * q, k, v, where=Mask())) - plain).max() > 1e-2
    cosine = KeyNorm(scale=3.0, cosine=True)
    plain = to_numpy(cosine(q, k, v, where=Mask()))
    assert_close(cosine(2 * q, longer, v, where=Mask()), plain, atol=1e-5)
    (slope,) = gradients(
        lambda t: ops.sum(ops.square(KeyNorm()(q, t, v, where=Mask()))), k
    )
    along = (slope * k).sum(-1)
    np.testing.assert_allclose(along, 0, atol=1e-5)
    assert np.abs(slope).max() > 1e-3
    nothing = KeyNorm()(q, 0 * k, v, where=Mask())
    mean = np.broadcast_to(v.mean(1, keepdims=True), nothing.shape)
    assert_close(nothing, mean, atol=1e-5)


def test_no_division_by_the_root_of_d(rng):
    """Of keys as long as √d it is the usual attention."""
    x = rng.normal(size=(2, 5, 8)).astype('float32')
    layer = MultiHeadAttention(2, 4, mechanism=KeyNorm(), return_attention_scores=True)
    _, scores = layer(x)
    q, k = (to_numpy(d(x)).reshape(2, 5, 2, 4) for d in (layer.q_dense, layer.k_dense))
    k = 2 * k / np.linalg.norm(k, axis=-1, keepdims=True)
    assert_close(scores, np.einsum('bmhd,bnhd->bhmn', q, k) / 2, atol=1e-4)


def test_a_scale_nobody_knows():
    with pytest.raises(ValueError, match="scale='learned'"):
        KeyNorm(scale='learned')
