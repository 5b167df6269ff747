"""NEZHA's positions against loops, under shifts, inside attention."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import check_mechanism
from harness import gradients
from harness import save_and_reopen
from harness import to_numpy
from keras import Input
from keras import Model
from keras import ops
from reference import positions as slow

from keraseff.initializers import Sinusoidal
from keraseff.layers import MultiHeadAttention
from keraseff.layers import Relative
from keraseff.layers import RelativePositionEmbedding


def test_the_vectors_are_those_of_the_formula():
    p = to_numpy(Relative(6, reach=4)(np.zeros((1, 9, 2))))
    assert p.shape == (1, 9, 9, 6)
    for i, j in np.ndindex(9, 9):
        expected = slow.nezha_vector(j - i, 4, 6)
        np.testing.assert_allclose(p[0, i, j], expected, atol=1e-6)


def test_the_default_reach_is_that_of_the_published_models():
    p = to_numpy(Relative(64)(np.zeros((1, 70, 1))))[0]
    # Row 64 of the table is distance 0, so its first sine is sin 64, not 0.
    assert_close(p[3, 3, :2], np.array([np.sin(64), np.cos(64)]))
    assert_close(p[0, 64:], np.broadcast_to(p[0, 64], (6, 64)))
    assert np.abs(p[0, 63] - p[0, 64]).max() > 0.1


@pytest.mark.every_backend
@pytest.mark.parametrize('causal', [False, True])
def test_attention_equals_loops(causal, rng):
    x = rng.normal(size=(2, 6, 5)).astype('float32')
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
    layer = MultiHeadAttention(2, 4, position=Relative(4, reach=3), causal=causal)
    found = to_numpy(layer(x, mask=ops.convert_to_tensor(mask)))
    q, k, v, o = (
        getattr(layer, f'{name}_dense').get_weights() for name in ('q', 'k', 'v', 'o')
    )
    q, k, v = ((x.astype('float64') @ w + b).reshape(2, 6, 2, 4) for w, b in (q, k, v))
    mixed = slow.relative_attention(
        q,
        k,
        v,
        lambda distance: slow.nezha_vector(distance, 3, 4),
        lambda s, i, j: not mask[s, j] or (causal and j > i),
    )
    expected = mixed.reshape(2, 6, 8) @ o[0] + o[1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.every_backend
def test_contracts():
    check_mechanism('softmax', position=Relative(4, reach=3))
    x = np.zeros((1, 5, 3), 'float32')
    check_layer(lambda **kwargs: Relative(4, reach=2, **kwargs), x)

    def learned(**kwargs):
        return RelativePositionEmbedding(
            5, 4, embeddings_initializer='glorot_uniform', **kwargs
        )

    check_layer(learned, x)


@pytest.mark.every_backend
def test_given_positions_and_keys(rng):
    x, y = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 3, 8))
    layer = Relative(8, reach=10)
    own = to_numpy(layer(x))
    assert_close(layer(x, np.arange(5)[None] + 100), own)
    assert np.abs(to_numpy(layer(x, 2 * np.arange(5)[None])) - own).max() > 0.1
    assert_close(layer(y, keys=x), own[:, :3])
    ids = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
    both = layer(x, ids)
    assert_close(both[:1], own)
    assert_close(both[1], own[0, ::-1, ::-1])
    q, k = rng.normal(size=(2, 2, 5, 1, 8)).astype('float32')
    q, k = ops.convert_to_tensor(q), ops.convert_to_tensor(k)
    scores = ops.einsum('bmhd,bnhd->bhmn', q, k)
    wide = np.broadcast_to(own, (2, 5, 5, 8))
    assert_close(
        layer.bias(scores, q, layer(x)),
        layer.bias(scores, q, ops.convert_to_tensor(wide)),
    )
    assert_close(
        layer.mix(k, scores, layer(x)),
        layer.mix(k, scores, ops.convert_to_tensor(wide)),
    )


@pytest.mark.every_backend
def test_one_table_serves_all_layers_of_a_graph(rng):
    x = Input((None, 8))
    p = Relative(4, reach=2, name='Embedding-Relative-Position')(x)
    y = MultiHeadAttention(2, 4, position=Relative())(x, p=p)
    model = Model(x, MultiHeadAttention(2, 4, position=Relative())(y, p=p))
    assert len(model.weights) == 16
    data = rng.normal(size=(2, 7, 8)).astype('float32')
    first, second = (s for s in model.layers if isinstance(s, MultiHeadAttention))
    p = Relative(4, reach=2)(data)
    expected = second(first(data, p=p), p=p)
    assert_close(model.predict(data, verbose=0), expected)
    assert_close(save_and_reopen(model).predict(data, verbose=0), expected)


@pytest.mark.every_backend
def test_the_learned_table_of_bert4keras():
    x, y = np.zeros((1, 6, 4), 'float32'), np.zeros((1, 4, 4), 'float32')
    learned = RelativePositionEmbedding(5, 4, Sinusoidal(), trainable=False)
    assert_close(learned([x, y]), Relative(4, reach=2)(x, keys=y))
    assert [w.name for w in learned.weights] == ['embeddings']
    assert not learned.trainable_weights
    weights = np.full((1, 1, 6, 4), 0.25, 'float32')
    p = learned([x, y])
    mixed = to_numpy(learned.mix(ops.zeros((1, 6, 1, 4)), weights, p))[0, :, 0]
    assert_close(mixed, to_numpy(p)[0].mean(1))
    (slope,) = gradients(
        lambda q: ops.sum(learned.bias(ops.zeros((1, 1, 6, 4)), q, p)),
        np.ones((1, 6, 1, 4), 'float32'),
    )
    assert_close(slope[0, :, 0], to_numpy(p)[0].sum(1), atol=1e-4)


@pytest.mark.every_backend
def test_half_precision_is_finite(rng):
    x = (rng.normal(size=(1, 6, 8)) * 30).astype('float32')
    layer = MultiHeadAttention(
        2, 4, position=Relative(4, dtype='mixed_float16'), dtype='mixed_float16'
    )
    assert np.isfinite(to_numpy(layer(x))).all()
    (slope,) = gradients(lambda t: ops.mean(ops.cast(layer(t), 'float32')), x)
    assert np.isfinite(slope).all()
    assert slope.any()


def test_unequal_sizes_are_refused():
    x = np.zeros((1, 3, 8), 'float32')
    with pytest.raises(ValueError, match='6 channels .* queries have 4'):
        MultiHeadAttention(2, 4, position=Relative(6))(x)
    with pytest.raises(ValueError, match='6 channels .* values have 4'):
        MultiHeadAttention(2, 4, key_size=6, position='relative')(x)
    with pytest.raises(ValueError, match='head_size=None'):
        Relative()(x)
    with pytest.raises(ValueError, match='even'):
        Relative(5)(x)
