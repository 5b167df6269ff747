"""Positions: what each says of distance, and what it does to long texts."""

import numpy as np
import pytest
from harness import SMALL
from harness import assert_close
from harness import called
from harness import check_layer
from harness import randomise
from harness import to_numpy
from keras import ops

from keraseff.layers import MultiHeadAttention
from keraseff.layers import PositionEmbedding
from keraseff.layers import Rotary
from keraseff.layers.position import get_position
from keraseff.models import build_transformer_model


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


@pytest.mark.every_backend
def test_a_table_of_512_reaches_262144(rng):
    n, d, a = 512, 4, 0.4
    table = rng.normal(size=(n, d)).astype('float32')
    plain, layer, even = (
        PositionEmbedding(n, d, 'zero', hierarchical=h) for h in (None, a, 0.5 - 1e-7)
    )
    for each in (plain, layer, even):
        each.build((None, None, d))
        each.embeddings.assign(table)
    every = np.arange(n * n)
    rows = to_numpy(layer(np.zeros((1, 1, d)), every[None]))[0]
    np.testing.assert_array_equal(rows[:n], table)
    x = np.zeros((1, n, d), 'float32')
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(plain(x)))
    assert len(np.unique(rows, axis=0)) == n * n
    u = (table.astype('float64') - a * table[0]) / (1 - a)
    # Between two coarse places every fine place is equally far.
    gaps = rows.reshape(n, n, d)[7] - rows.reshape(n, n, d)[300]
    expected = np.broadcast_to(a * (u[7] - u[300]), (n, d))
    np.testing.assert_allclose(gaps, expected, atol=1e-5)
    pair = np.array([[3 * n + 5, 5 * n + 3]])
    twins = to_numpy(even(np.zeros((1, 2, d)), pair))[0]
    np.testing.assert_allclose(twins[0], twins[1], atol=1e-5)
    assert np.abs(rows[pair[0, 0]] - rows[pair[0, 1]]).max() > 0.1


def test_a_bert_of_512_reads_2048(rng):
    config = dict(SMALL, max_position=512, num_hidden_layers=1)
    plain = build_transformer_model(config)
    long = build_transformer_model(config, hierarchical_position=True)
    assert long.count_params() == plain.count_params()
    randomise(plain)
    long.set_weights(plain.get_weights())
    ids = rng.integers(1, 20, (1, 2048))
    first = [ids[:, :512], np.zeros((1, 512), int)]
    np.testing.assert_array_equal(called(long, first), called(plain, first))
    whole = called(long, [ids, np.zeros_like(ids)])
    assert whole.shape == (1, 2048, 12)
    assert np.isfinite(whole).all()
    # The same token at two places of the second kind is not the same.
    ids[:, 1500] = ids[:, 700]
    whole = called(long, [ids, np.zeros_like(ids)])
    assert np.abs(whole[0, 1500] - whole[0, 700]).max() > 1e-3


def test_too_long_a_text_is_named():
    layer = PositionEmbedding(4, 3)
    with pytest.raises(ValueError, match='5 steps is longer than the 4 positions'):
        layer(np.zeros((1, 5, 3), 'float32'))
