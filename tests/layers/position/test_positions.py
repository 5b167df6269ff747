"""Positions: what each says of distance, and what it does to long texts."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import to_numpy
from keras import ops

from keraseff.layers import MultiHeadAttention
from keraseff.layers import PositionEmbedding
from keraseff.layers import Rotary
from keraseff.layers.position import get_position


def scores(layer, q, k, ids):
    p = layer(q, position_ids=ids)
    q, k = layer.rotate(ops.convert_to_tensor(q), ops.convert_to_tensor(k), p)
    return to_numpy(ops.einsum('bmhd,bnhd->bhmn', q, k))


@pytest.mark.every_backend
def test_only_distance_matters_to_rotary(rng):
    q, k = rng.normal(size=(2, 1, 6, 2, 8)).astype('float32')
    layer = Rotary(head_size=8)
    near = scores(layer, q, k, np.arange(6)[None])
    far = scores(layer, q, k, np.arange(6)[None] + 100)
    assert_close(near, far, atol=1e-4)
    assert np.abs(near - scores(layer, q, k, np.arange(6)[None] * 2)).max() > 0.1


@pytest.mark.every_backend
def test_rotary_turns_nothing_at_zero_and_keeps_lengths(rng):
    q, k = rng.normal(size=(2, 1, 6, 2, 8)).astype('float32')
    layer = Rotary(head_size=8)
    still, _ = layer.rotate(
        ops.convert_to_tensor(q), ops.convert_to_tensor(k), layer(q, np.zeros((1, 6)))
    )
    assert_close(still, q)
    turned, _ = layer.rotate(
        ops.convert_to_tensor(q), ops.convert_to_tensor(k), layer(q)
    )
    assert_close(np.linalg.norm(to_numpy(turned), axis=-1), np.linalg.norm(q, axis=-1))


def test_rotary_is_made_by_name_with_the_right_size(rng):
    x = rng.normal(size=(1, 5, 6)).astype('float32')
    layer = MultiHeadAttention(2, 4, key_size=6, position='rotary')
    assert layer.position.head_size == 6
    order = np.array([4, 3, 2, 1, 0])
    moved = np.abs(to_numpy(layer(x))[:, order] - to_numpy(layer(x[:, order])))
    assert moved.max() > 1e-4
    with pytest.raises(ValueError, match='head_size=4'):
        MultiHeadAttention(2, 4, position=Rotary(head_size=6))(x)
    assert get_position(None, 4) is None


@pytest.mark.every_backend
@pytest.mark.parametrize('mode', ['add', 'mul', 'concat'])
def test_learned_positions_meet_the_contract(mode, rng):
    x = rng.normal(size=(2, 5, 4)).astype('float32')

    def make(**kwargs):
        return PositionEmbedding(9, 4, mode, embeddings_initializer='ones', **kwargs)

    check_layer(make, x)
    layer = make()
    layer(x)
    layer.embeddings.assign(np.arange(36.0).reshape(9, 4))
    table = np.arange(20.0).reshape(1, 5, 4)
    wide = np.broadcast_to(table, x.shape)
    expected = {
        'add': x + table,
        'mul': x * (table + 1),
        'concat': np.concatenate([x, wide], -1),
    }
    assert_close(layer(x), expected[mode])
    ids = np.array([[3, 1, 4, 1, 5]])
    chosen = np.broadcast_to(np.arange(36.0).reshape(9, 4)[ids], x.shape)
    joined = np.concatenate([x, chosen], -1)
    expected = {'add': x + chosen, 'mul': x * (chosen + 1), 'concat': joined}
    assert_close(layer(x, ids), expected[mode])


@pytest.mark.every_backend
def test_hierarchical_positions(rng):
    n, d, a = 5, 4, 0.4
    layer = PositionEmbedding(n, d, 'zero', hierarchical=True)
    x = np.zeros((1, n * n, d), 'float32')
    layer(x)
    table = rng.normal(size=(n, d)).astype('float32')
    layer.embeddings.assign(table)
    found = to_numpy(layer(x))[0]
    base = (table - a * table[0]) / (1 - a)
    expected = [a * base[k // n] + (1 - a) * base[k % n] for k in range(n * n)]
    assert_close(found, np.array(expected))
    assert_close(found[:n], table)
    gaps = np.abs(found[:, None] - found[None]).sum(-1) + np.eye(n * n)
    assert gaps.min() > 1e-3
    with pytest.raises(ValueError, match=r'same vector'):
        PositionEmbedding(n, d, hierarchical=0.5)


def test_too_long_a_text_is_named():
    layer = PositionEmbedding(4, 3)
    with pytest.raises(ValueError, match='5 steps is longer than the 4 positions'):
        layer(np.zeros((1, 5, 3), 'float32'))
