"""Rotary positions: layouts, scaling rules, shares of channels, sequences of keys."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import check_mechanism
from harness import gradients
from harness import save_and_reopen
from harness import to_numpy
from keras import ops
from reference import positions as slow

from keraseff.layers import MultiHeadAttention
from keraseff.layers import Rotary
from keraseff.layers.base import make_named
from keraseff.layers.position.rotary import ROTARY_RULES
from keraseff.layers.position.rotary import rotary_2d
from keraseff.ops import plain_frequencies

SPREAD = [1.0, 1.5, 2.0, 4.0]
SCALINGS = [
    {'rope_type': 'default', 'rope_theta': 500.0},
    {'rope_type': 'linear', 'factor': 4.0},
    {'rope_type': 'dynamic', 'factor': 4.0},
    {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 16},
    {
        'rope_type': 'longrope',
        'short_factor': SPREAD,
        'long_factor': SPREAD[::-1],
        'original_max_position_embeddings': 16,
    },
    {
        'rope_type': 'llama3',
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 16,
    },
    {'rope_type': 'proportional', 'partial_rotary_factor': 0.5},
]


def turn(layer, q, k, p=None):
    q, k = ops.convert_to_tensor(q), ops.convert_to_tensor(k)
    return to_numpy(layer.rotate(q, k, layer(q) if p is None else p))


@pytest.mark.every_backend
@pytest.mark.parametrize('scaling', SCALINGS, ids=lambda s: s['rope_type'])
def test_rotation_is_that_of_llama(scaling, rng):
    torch = pytest.importorskip('torch')
    llama = pytest.importorskip('transformers.models.llama.modeling_llama')
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=16,
        num_attention_heads=2,
        max_position_embeddings=32,
        rope_parameters={'rope_theta': 10000.0} | scaling,
    )
    layer = Rotary(8, interleaved=False, scaling=scaling, max_position=32)
    angles = llama.LlamaRotaryEmbedding(config)
    for length in (9, 40):
        q, k = rng.normal(size=(2, 2, length, 2, 8)).astype('float32')
        cos, sin = angles(torch.tensor(q), torch.arange(length)[None])
        expected = llama.apply_rotary_pos_emb(
            torch.tensor(q), torch.tensor(k), cos, sin, unsqueeze_dim=2
        )
        for found, peer in zip(turn(layer, q, k), expected, strict=True):
            np.testing.assert_allclose(found, peer.numpy(), atol=2e-5)


@pytest.mark.parametrize('scaling', SCALINGS, ids=lambda s: s['rope_type'])
def test_each_rule_meets_the_contract_of_a_layer(scaling):
    x = np.zeros((2, 40, 8), 'float32')

    def make(**kwargs):
        return Rotary(8, scaling=dict(scaling), max_position=16, **kwargs)

    check_layer(make, x, padded=False)


@pytest.mark.every_backend
def test_attention_meets_its_contract():
    scaling = {'rope_type': 'dynamic', 'factor': 4.0}
    check_mechanism('softmax', position=Rotary(4, 100, False, scaling, 16, 0.5))


@pytest.mark.every_backend
def test_a_free_length_is_read_at_every_call(rng):
    x = keras.Input((None, 8))
    layer = Rotary(8, scaling={'type': 'dynamic', 'factor': 2.0}, max_position=4)
    model = keras.Model(x, layer(x))
    for length in (3, 9, 30, 3):
        angles = model.predict(np.zeros((1, length, 8)), verbose=0)[0, 1]
        found = np.arctan2(angles[::2], angles[1::2])
        expected = [slow.dynamic_frequency(i, 8, 1e4, 2, length, 4) for i in range(4)]
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.every_backend
def test_halves_equal_pairs_up_to_a_permutation(rng):
    q, k = rng.normal(size=(2, 2, 6, 3, 8)).astype('float32')
    split = np.concatenate([np.arange(0, 8, 2), np.arange(1, 8, 2)])
    pairs = turn(Rotary(8), q, k)
    halves = turn(Rotary(8, interleaved=False), q[..., split], k[..., split])
    for a, b in zip(pairs, halves, strict=True):
        assert_close(a[..., split], b)
    for b, n, h in np.ndindex(2, 6, 3):
        expected = slow.rotate_half_split(q[b, n, h, split], n, plain_frequencies(8))
        np.testing.assert_allclose(halves[0][b, n, h], expected, atol=1e-5)


@pytest.mark.every_backend
@pytest.mark.parametrize('interleaved', [True, False])
def test_a_share_of_the_channels(interleaved, rng):
    q, k = rng.normal(size=(2, 1, 7, 2, 10)).astype('float32')
    some = turn(Rotary(10, interleaved=interleaved, partial=0.4), q, k)
    few = turn(Rotary(4, interleaved=interleaved), q[..., :4], k[..., :4])
    for x, turned, part in zip((q, k), some, few, strict=True):
        np.testing.assert_array_equal(turned[..., 4:], x[..., 4:])
        assert_close(turned[..., :4], part)
    named = Rotary(10, 10000, interleaved, {'partial_rotary_factor': 0.4})
    assert_close(turn(named, q, k), some)


def test_a_share_is_that_of_gpt_neox(rng):
    torch = pytest.importorskip('torch')
    neox = pytest.importorskip('transformers.models.gpt_neox.modeling_gpt_neox')
    from transformers import GPTNeoXConfig

    config = GPTNeoXConfig(
        hidden_size=20,
        num_attention_heads=2,
        rope_parameters={
            'rope_type': 'default',
            'rope_theta': 10000.0,
            'partial_rotary_factor': 0.4,
        },
    )
    q, k = rng.normal(size=(2, 1, 9, 2, 10)).astype('float32')
    cos, sin = neox.GPTNeoXRotaryEmbedding(config)(
        torch.tensor(q), torch.arange(9)[None]
    )
    expected = neox.apply_rotary_pos_emb(
        torch.tensor(q), torch.tensor(k), cos, sin, unsqueeze_dim=2
    )
    found = turn(Rotary(10, interleaved=False, partial=0.4), q, k)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-5)


@pytest.mark.parametrize('interleaved', [True, False])
def test_only_distance_matters(interleaved, rng):
    q, k = rng.normal(size=(2, 1, 6, 2, 8)).astype('float32')
    layer = Rotary(8, interleaved=interleaved, scaling=SCALINGS[1], partial=0.5)

    def scores(ids):
        return np.einsum('bmhd,bnhd->bhmn', *turn(layer, q, k, layer(q, ids)))

    near = scores(np.arange(6)[None])
    assert_close(scores(np.arange(6)[None] + 100), near, atol=1e-4)
    assert np.abs(scores(3 * np.arange(6)[None]) - near).max() > 0.05


@pytest.mark.every_backend
def test_a_second_sequence_is_counted_from_zero(rng):
    q = rng.normal(size=(2, 3, 2, 8)).astype('float32')
    k = rng.normal(size=(2, 5, 2, 8)).astype('float32')
    layer = Rotary(8)
    turned = turn(layer, q, k, layer(q, keys=k))
    assert_close(turned[0], turn(layer, q, q)[0])
    assert_close(turned[1], turn(layer, k, k)[1])
    ids = np.array([[4, 5, 6], [0, 1, 2]])
    placed = turn(layer, q, k, layer(q, ids, k))
    assert_close(placed[0], turn(layer, q, q, layer(q, ids))[0])
    assert_close(placed[1], turned[1])
    with pytest.raises(ValueError, match='3 steps, .* 3 queries and 5 keys'):
        turn(layer, q, k, layer(q))


@pytest.mark.every_backend
def test_attention_with_padding_and_free_lengths(rng):
    x = rng.normal(size=(2, 6, 8)).astype('float32')
    layer = MultiHeadAttention(
        2, 4, position=Rotary(4, interleaved=False, partial=0.5), causal=True
    )
    i = keras.Input((None, 8))
    mask = np.arange(6) < np.array([[6], [4]])
    model = keras.Model(i, layer(i))
    full = to_numpy(layer(x, mask=ops.convert_to_tensor(mask)))
    assert_close(layer(x[1:, :4]), full[1:, :4])
    assert_close(model.predict(x, verbose=0)[:1], full[:1])
    assert_close(save_and_reopen(model).predict(x, verbose=0)[:1], full[:1])


@pytest.mark.every_backend
@pytest.mark.parametrize('scaling', [None, SCALINGS[3]])
def test_half_precision(scaling, rng):
    x = (rng.normal(size=(1, 40, 8)) * 30).astype('float32')
    position = Rotary(
        4, scaling=scaling, interleaved=False, max_position=32, dtype='mixed_float16'
    )
    assert keras.backend.standardize_dtype(position(x).dtype) == 'float32'
    far = np.array([[4096.25]])
    assert_close(position(x[:, :1], far), Rotary(4, 10000, False, scaling, 32)(x, far))
    layer = MultiHeadAttention(2, 4, position=position, dtype='mixed_float16')
    assert np.isfinite(to_numpy(layer(x))).all()
    (slope,) = gradients(lambda t: ops.mean(ops.cast(layer(t), 'float32')), x)
    assert np.isfinite(slope).all()
    assert slope.any()


def test_all_turned_by_one_number_of_steps(rng):
    x = rng.normal(size=(2, 5, 3, 8)).astype('float32')
    yarn = SCALINGS[3]
    for options in ({}, {'interleaved': False}, {'partial': 0.5}, {'scaling': yarn}):
        layer = Rotary(8, **options)
        expected = turn(layer, x, x, layer(x, np.full((1, 5), 7)))[0]
        tensor = ops.convert_to_tensor(x)
        assert_close(layer.turn(tensor, 7), expected)
        assert_close(layer.turn(tensor, ops.convert_to_tensor(7)), expected)
    layer = Rotary(8)
    assert_close(layer.turn(layer.turn(tensor, 4.5), 9), layer.turn(tensor, 13.5))
    assert_close(layer.turn(tensor, 0), x, atol=0)
    # Query i turned by w more, the key not at all: as far apart as i + w and j.
    ids = np.arange(5)[None]
    ahead, keys = turn(layer, x, x, layer(x, ids))
    far = layer.turn(ops.convert_to_tensor(ahead), 3)
    assert_close(far, turn(layer, x, x, layer(x, ids + 3))[0], atol=2e-5)
    grown = Rotary(8, scaling=SCALINGS[2], max_position=4)
    expected = turn(grown, x, x, grown(x))[0][:, 4]
    assert_close(grown.turn(tensor, 4, length=5)[:, 4], expected)


@pytest.mark.every_backend
def test_a_step_is_the_last_of_its_own_text(rng):
    """A rule that looks at the length sees the steps so far, not the whole cache."""
    q = rng.normal(size=(1, 9, 2, 8)).astype('float32')
    layer = Rotary(8, scaling=SCALINGS[2], max_position=4)
    assert not layer.rotates_once
    cache = np.zeros((1, 20, 1), 'float32')
    for t in (2, 8):
        whole = to_numpy(layer(q[:, : t + 1]))
        p = to_numpy(layer(q[:, t : t + 1], np.array([[t]]), cache))
        assert p.shape == (1, 21, 8)
        assert_close(p[:, :1], whole[:, -1:])
        assert_close(p[:, 1 : t + 2], whole)


@pytest.mark.every_backend
@pytest.mark.parametrize('rule', ROTARY_RULES)
def test_rules_by_name(rule, rng):
    options = {'factor': 8.0, 'original_max_position_embeddings': 64, 'base': 100}
    layer = make_named('position', rule, ROTARY_RULES, options, head_size=8, heads=2)
    flat = {k: v for k, v in options.items() if k != 'base'}
    expected = Rotary(8, 100, scaling={'rope_type': rule, **flat})
    x = np.zeros((1, 130, 8), 'float32')
    assert layer.get_config() | {'name': ''} == expected.get_config() | {'name': ''}
    assert layer.rotates_once == (rule != 'dynamic')
    p = layer(x)
    assert_close(p, expected(x))
    assert np.abs(to_numpy(p) - to_numpy(Rotary(8, 100)(x))).max() > 0.1
    # Whatever the frequencies, only distance counts: equal vectors, equal diagonals.
    q, k = (np.tile(rng.normal(size=8), (1, 130, 1, 1)) for _ in 'qk')
    q, k = turn(layer, q.astype('float32'), k.astype('float32'), p)
    scores = np.einsum('bmhd,bnhd->bhmn', q, k)[0, 0]
    np.testing.assert_allclose(scores[1:, 1:], scores[:-1, :-1], atol=2e-4)
    with pytest.raises(TypeError, match="'facter'.* mean 'factor'"):
        make_named('position', rule, ROTARY_RULES, {'facter': 8}, head_size=8)


def test_which_rotations_last():
    lasting = [Rotary(8, scaling=s, max_position=64).rotates_once for s in SCALINGS]
    kinds = [s['rope_type'] for s in SCALINGS]
    assert [k for k, last in zip(kinds, lasting, strict=True) if not last] == [
        'dynamic',
        'longrope',
    ]
    grown = {'rope_type': 'ntk', 'dynamic': True}
    assert not Rotary(8, scaling=grown, max_position=64).rotates_once
    assert (
        make_named(
            'position', 'rotary_2d', {'rotary_2d': rotary_2d}, {'width': 3}, head_size=8
        ).axes
        == 2
    )


def test_config_and_errors():
    layer = Rotary(8, 500, False, SCALINGS[4], 64, 1.0)
    again = Rotary.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.scaling['long_factor'] == SPREAD[::-1]
    with pytest.raises(ValueError, match="'longer' is unknown; there are: default"):
        Rotary(8, scaling={'rope_type': 'longer'})
    with pytest.raises(ValueError, match='even dim, got 5'):
        Rotary(5)(np.zeros((1, 2, 5)))
