"""What holds between ways to read longer texts: log n, two ranges, rules, steps."""

import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy
from keras import ops

from keraseff.layers import MultiHeadAttention
from keraseff.layers.position.rerope import ReRoPE
from keraseff.layers.position.rotary import ROTARY_RULES
from keraseff.layers.position.rotary import Rotary
from keraseff.layers.position.self_extend import SelfExtend


def attention(position=None, **options):
    return MultiHeadAttention(
        2, 4, position=position, return_attention_scores=True, **options
    )


def twins(rng, shape, one, other):
    """Two attention layers of equal weights, and a text."""
    x = rng.normal(size=shape).astype('float32')
    one(x[:, :1]), other(x[:, :1])
    other.set_weights(one.get_weights())
    return one, other, x


@pytest.mark.parametrize(('t', 'factor'), [(99, 1), (1023, 1.1111), (4095, 1.3333)])
def test_log_n_of_a_model_of_512(t, factor, rng):
    grown, plain, x = twins(
        rng, (1, 1, 8), attention(causal=True, logn=512), attention(causal=True)
    )
    found, expected = (
        to_numpy(layer.step(x, t, layer.start(1, 4096))[1]) for layer in (grown, plain)
    )
    seen = found[..., t] / expected[..., t]
    np.testing.assert_allclose(seen, factor, atol=1e-4)


def test_log_n_counts_what_a_query_sees(rng):
    mask = np.arange(9)[None] < np.array([[9], [6]])
    for causal in (True, False):
        grown, plain, x = twins(
            rng,
            (2, 9, 8),
            attention(ReRoPE(3, head_size=4), causal=causal, logn=4),
            attention(ReRoPE(3, head_size=4), causal=causal),
        )
        found, expected = (
            to_numpy(layer(x, mask=ops.convert_to_tensor(mask))[1])
            for layer in (grown, plain)
        )
        count = np.arange(1, 10)[None] if causal else np.array([[9], [6]])
        growth = np.maximum(1, np.log(count) / np.log(4))
        assert_close(found, expected * growth[:, None, :, None], atol=2e-5)


def test_both_ranges_go_with_every_rule(rng):
    options = {'factor': 4.0, 'original_max_position_embeddings': 6, 'head_size': 8}
    q, k = (
        ops.convert_to_tensor(rng.normal(size=(1, 11, 2, 8)), 'float32') for _ in 'qk'
    )

    def compared(layer):
        return layer.compare(
            q, k, layer(q), lambda q, k: ops.einsum('bmhd,bnhd->bhmn', q, k)
        )

    for rule in ROTARY_RULES:
        plain = ROTARY_RULES[rule](**options)
        scaling = {'scaling': plain.scaling, 'max_position': plain.max_position}
        expected = to_numpy(compared(plain))
        for same in (
            ReRoPE(3, leak=1, **scaling),
            ReRoPE(3, leak=1, block=4, **scaling),
            SelfExtend(3, 1, **scaling),
        ):
            assert_close(compared(same), expected, atol=2e-5)
        # Near scores are those of the rule, far ones stand still.
        still = to_numpy(compared(ReRoPE(3, **scaling)))
        away = np.abs(np.subtract.outer(np.arange(11), np.arange(11)))
        assert_close(still[..., away <= 3], expected[..., away <= 3], atol=2e-5)
        assert np.abs(still - expected)[..., away > 3].max() > 1e-2


@pytest.mark.parametrize(
    'position',
    [
        ReRoPE(3, head_size=4),
        ReRoPE(2, 3.0, causal=True, block=2, head_size=4),
        SelfExtend(3, 2, causal=True, head_size=4),
    ],
    ids=['rerope', 'leaky', 'self_extend'],
)
def test_steps_are_the_rows_of_the_whole(position, rng):
    options = {'causal': True, 'logn': 4, 'window': 6, 'sinks': 1}
    rotary = Rotary(head_size=4)
    layer, plain, x = twins(
        rng, (2, 9, 8), attention(position, **options), attention(rotary, **options)
    )
    whole = to_numpy(layer(x)[0])
    state = layer.start(2, 12)
    for t in range(9):
        row, _, state = layer.step(x[:, t : t + 1], t, state)
        np.testing.assert_allclose(to_numpy(row)[:, 0], whole[:, t], atol=2e-5)
    assert np.abs(to_numpy(plain(x)[0]) - whole).max() > 1e-3


def test_steps_of_grouped_queries(rng):
    position = ReRoPE(3, 2.0, head_size=4, causal=True)
    layer = MultiHeadAttention(4, 4, position=position, causal=True, kv_heads=2)
    x = rng.normal(size=(1, 7, 8)).astype('float32')
    whole, state = to_numpy(layer(x)), layer.start(1, 7)
    for t in range(7):
        row, state = layer.step(x[:, t : t + 1], t, state)
        np.testing.assert_allclose(to_numpy(row)[:, 0], whole[:, t], atol=2e-5)
