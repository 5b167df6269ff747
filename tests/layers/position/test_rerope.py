"""ReRoPE and Leaky ReRoPE: each distance by itself, limits, blocks, steps."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_mechanism
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import rerope as slow

from keraseff.layers import MultiHeadAttention
from keraseff.layers.position.rerope import ReRoPE
from keraseff.layers.position.rotary import Rotary
from keraseff.ops import plain_frequencies


def product(q, k):
    return ops.einsum('bmhd,bnhd->bhmn', q, k)


def compared(layer, q, k, ids=None, cross=False, score=product):
    q, k = ops.convert_to_tensor(q), ops.convert_to_tensor(k)
    p = layer(q, ids, k if cross else None)
    return layer.compare(q, k, p, score)


def pair(rng, m, n=None, b=1, d=8):
    q = rng.normal(size=(b, m, 2, d)).astype('float32')
    return q, rng.normal(size=(b, n or m, 2, d)).astype('float32')


EVERYWHERE = pytest.mark.every_backend
CASES = [
    (3, None, False, True, None),
    pytest.param(3, 2.5, False, True, 4, marks=EVERYWHERE),
    pytest.param(4, 3, True, False, None, marks=EVERYWHERE),
    (4, None, True, True, 5),
    (1, 4, False, False, 20),
]


@pytest.mark.parametrize(('window', 'leak', 'causal', 'interleaved', 'block'), CASES)
def test_each_pair_is_turned_by_its_own_distance(
    window, leak, causal, interleaved, block, rng
):
    q, k = pair(rng, 13)
    options = {'interleaved': interleaved, 'causal': causal, 'block': block}
    layer = ReRoPE(window, leak, base=50, **options)

    def distance(i, j):
        return slow.rerope_distance(i, j, window, leak or np.inf)

    line = [range(13)]
    expected = slow.scores(
        q, k, line, line, distance, plain_frequencies(8, 50), interleaved
    )
    seen = np.tril(np.ones((13, 13))) if causal else 1
    assert_close(to_numpy(compared(layer, q, k)) * seen, expected * seen)


def test_places_may_lie_anywhere(rng):
    q, k = pair(rng, 6, b=2)
    ids = np.array([[0, 1, 2, 30, 31, 4], [7, 7, 0, 5, 6, 90]])
    frequencies = plain_frequencies(8)
    for leak in (None, 4.0):
        expected = slow.scores(
            q,
            k,
            ids,
            ids,
            lambda i, j, leak=leak: slow.rerope_distance(i, j, 3, leak or np.inf),
            frequencies,
        )
        for block in (None, 2):
            layer = ReRoPE(3, leak, block=block)
            assert_close(compared(layer, q, k, ids), expected, atol=3e-5)
    assert_close(compared(layer, q, k, ids + 100), expected, atol=2e-4)


@pytest.mark.parametrize('block', [None, 4])
def test_limits(block, rng):
    q, k = pair(rng, 11)
    options = {'block': block, 'base': 30}
    plain = compared(Rotary(base=30), q, k)
    assert_close(compared(ReRoPE(11, **options), q, k), plain)
    assert_close(compared(ReRoPE(10, **options), q, k), plain)  # 10 turns by 10
    assert_close(compared(ReRoPE(3, 1, **options), q, k), plain)
    still = to_numpy(compared(ReRoPE(3, **options), q, k))
    assert_close(compared(ReRoPE(3, 1e7, **options), q, k), still)
    assert np.abs(still - to_numpy(plain)).max() > 0.1


def test_scaling_rules_hold_in_both_ranges(rng):
    q, k = pair(rng, 9)
    half = ReRoPE(2, 3, scaling={'rope_type': 'linear', 'factor': 2.0})

    def distance(i, j):
        return slow.rerope_distance(i, j, 2, 3) / 2

    line = [range(9)]
    expected = slow.scores(q, k, line, line, distance, plain_frequencies(8))
    assert_close(compared(half, q, k), expected)
    yarn = {
        'rope_type': 'yarn',
        'factor': 4.0,
        'original_max_position_embeddings': 16,
    }
    wide = ReRoPE(9, scaling=yarn, block=4, interleaved=False, partial=0.5)
    rotary = Rotary(scaling=yarn, interleaved=False, partial=0.5)
    assert_close(compared(wide, q, k), compared(rotary, q, k))
    sharp, even = (
        to_numpy(compared(ReRoPE(2, 3, scaling=yarn | {'attention_factor': f}), q, k))
        for f in (1.5, 1.0)
    )
    assert_close(sharp, 2.25 * even)


@pytest.mark.parametrize('leak', [None, pytest.param(3, marks=EVERYWHERE)])
def test_blocks_change_neither_scores_nor_gradients(leak, rng):
    q, k = pair(rng, 13)
    ruler = ops.convert_to_tensor(rng.normal(size=(1, 2, 13, 13)).astype('float32'))

    def slopes(block):
        layer = ReRoPE(3, leak, block=block)
        return gradients(
            lambda q, k: ops.sum(ops.tanh(compared(layer, q, k)) * ruler), q, k
        )

    assert_close(slopes(4), slopes(None))


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize(('m', 'n'), [(13, 13), (5, 17), (17, 5), (1, 9)])
def test_blocks_of_any_size(m, n, causal, rng):
    q, k = pair(rng, m, n)
    exact = to_numpy(compared(ReRoPE(3, 2, causal=causal), q, k, cross=True))
    for block in (1, 3, 4, 16, 40):
        layer = ReRoPE(3, 2, causal=causal, block=block)
        assert_close(compared(layer, q, k, cross=True), exact)


def test_blocks_form_each_far_score_once(rng):
    n, window, block = 64, 5, 8
    q, k = pair(rng, n)
    formed = []

    def spy(q, k):
        formed.append(q.shape[1] * k.shape[1])
        return product(q, k)

    for causal, matrices in ((True, 2), (False, 3)):
        formed.clear()
        compared(ReRoPE(window, causal=causal), q, k, score=spy)
        assert sum(formed) == matrices * n * n
        formed.clear()
        compared(ReRoPE(window, causal=causal, block=block), q, k, score=spy)
        band = n * (2 * window + block)
        assert sum(formed) <= n * n + (matrices - 1) * band
        assert max(formed) <= block * n


@pytest.mark.parametrize('options', [{}, {'leak': 2.0, 'block': 4, 'causal': True}])
def test_one_step_is_one_row(options, rng):
    q, k = pair(rng, 9, b=2)
    layer = ReRoPE(3, **options)
    full = to_numpy(compared(layer, q, k))
    for t in (0, 5, 8):
        row = compared(layer, q[:, t : t + 1], k, np.array([[t]]), cross=True)
        seen = np.s_[..., : t + 1]
        assert_close(to_numpy(row)[seen], full[:, :, t : t + 1][seen])


def test_a_step_of_a_growing_rule_is_the_last_row_of_the_text_so_far(rng):
    q, k = pair(rng, 9)
    rule = {'rope_type': 'dynamic', 'factor': 2.0}
    layer = ReRoPE(3, 2.0, scaling=rule, max_position=4)
    cache = np.pad(k, ((0, 0), (0, 6), (0, 0), (0, 0)))
    for t in (2, 6):
        row = to_numpy(
            compared(layer, q[:, t : t + 1], cache, np.array([[t]]), cross=True)
        )
        full = compared(layer, q[:, : t + 1], k[:, : t + 1])
        assert_close(row[..., : t + 1], to_numpy(full)[:, :, -1:])


@pytest.mark.every_backend
def test_attention_meets_its_contract():
    check_mechanism('softmax', position=ReRoPE(2, 2.0, head_size=4))


def test_free_lengths_and_padding(rng):
    x = rng.normal(size=(2, 9, 8)).astype('float32')
    layers = [
        MultiHeadAttention(2, 4, position=ReRoPE(3, head_size=4, block=block))
        for block in (None, 4)
    ]
    i = keras.Input((None, 8))
    model = keras.Model(i, [layer(i) for layer in layers])
    layers[1].set_weights(layers[0].get_weights())
    exact, blocks = model.predict(x, verbose=0)
    assert_close(exact, blocks)
    mask = np.arange(9) < np.array([[9], [5]])
    full = to_numpy(layers[1](x, mask=ops.convert_to_tensor(mask)))
    assert_close(full[0], exact[0])
    assert_close(layers[1](x[1:, :5])[0], full[1, :5])
    narrow = MultiHeadAttention(2, 4, position=Rotary(head_size=4))
    narrow(x)
    narrow.set_weights(layers[0].get_weights())
    assert np.abs(to_numpy(narrow(x)) - exact).max() > 1e-3


def test_errors_and_config(rng):
    layer = ReRoPE(5, 2.0, causal=True, block=7, head_size=4, base=100, partial=0.5)
    again = ReRoPE.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.window, again.leak, again.block, again.base) == (5, 2.0, 7, 100)
    for wrong in ({'window': 0}, {'window': 2.5}, {'block': 0}, {'leak': 0}):
        with pytest.raises(ValueError, match=f'{next(iter(wrong))}='):
            ReRoPE(**wrong)
    with pytest.raises(ValueError, match='axes=1'):
        ReRoPE(axes=2, width=4)
    q, k = pair(rng, 4)
    with pytest.raises(ValueError, match='use compare'):
        layer.rotate(q, k, layer(q))
    with pytest.raises(ValueError, match='head_size=8'):
        compared(ReRoPE(2, head_size=4), q, k)
