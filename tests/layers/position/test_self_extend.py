"""Self-Extend: the paper's distances, and RoPE where a group is one step."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_mechanism
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import rerope as slow

from keraseff.layers.position.rotary import Rotary
from keraseff.layers.position.self_extend import SelfExtend
from keraseff.ops import plain_frequencies


def compared(layer, q, k, ids=None, cross=False):
    q, k = ops.convert_to_tensor(q), ops.convert_to_tensor(k)
    p = layer(q, ids, k if cross else None)
    return layer.compare(q, k, p, lambda q, k: ops.einsum('bmhd,bnhd->bhmn', q, k))


def pair(rng, n):
    return rng.normal(size=(2, 1, n, 2, 8)).astype('float32')


@pytest.mark.parametrize('block', [None, 4])
@pytest.mark.parametrize(('window', 'group', 'causal'), [(4, 3, True), (5, 2, False)])
def test_far_steps_are_counted_by_groups(window, group, causal, block, rng):
    q, k = pair(rng, 15)
    layer = SelfExtend(window, group, causal=causal, block=block, base=50)

    def distance(i, j):
        return slow.self_extend_distance(i, j, window, group)

    line = [range(15)]
    expected = slow.scores(q, k, line, line, distance, plain_frequencies(8, 50))
    seen = np.tril(np.ones((15, 15))) if causal else 1
    assert_close(to_numpy(compared(layer, q, k)) * seen, expected * seen)


def test_no_distance_exceeds_that_of_the_paper():
    trained, window, group = 32, 8, 6
    longest = (trained - window) * group + window
    last = slow.self_extend_distance(longest - 1, 0, window, group)
    assert last <= trained
    layer = SelfExtend(window, group)
    first, end = to_numpy(layer.far(ops.convert_to_tensor([0.0, longest - 1.0])))
    assert end + layer.shift() - first == last


@pytest.mark.every_backend
def test_groups_are_whole_at_any_place(rng):
    q = np.zeros((1, 1, 1, 8), 'float32')
    for group in (3, 7, 49):
        layer = SelfExtend(window=group, group=group, causal=True)
        ids = (group * np.arange(1, 200) + [[0], [-1]]).astype('float32')
        p = to_numpy(layer(np.repeat(np.tile(q, (2, 1, 1, 1)), 199, 1), ids))
        angle = np.unwrap(np.arctan2(p[:, :199, 8], p[:, :199, 9]))
        expected = np.arange(1, 200) + group - 1 + np.array([[0], [-1]])
        turns = (angle - expected) / (2 * np.pi)
        assert_close(turns, np.round(turns), atol=1e-4)


def test_limits_shifts_and_steps(rng):
    q, k = pair(rng, 11)
    plain = compared(Rotary(), q, k)
    assert_close(compared(SelfExtend(3, 1), q, k), plain)
    assert_close(compared(SelfExtend(11, 4), q, k), plain)
    layer = SelfExtend(3, 4, causal=True)
    full = to_numpy(compared(layer, q, k))
    assert np.abs(full - to_numpy(plain)).max() > 0.1
    ids = np.arange(11)[None]
    assert_close(compared(layer, q, k, ids), full)
    assert_close(compared(layer, q, k, ids + 40), full, atol=1e-4)
    row = compared(layer, q[:, 7:8], k, np.array([[7]]), cross=True)
    assert_close(to_numpy(row)[..., :8], full[:, :, 7:8, :8])


def test_blocks_change_no_gradient(rng):
    q, k = pair(rng, 13)
    ruler = ops.convert_to_tensor(rng.normal(size=(1, 2, 13, 13)).astype('float32'))

    def slopes(block):
        layer = SelfExtend(4, 3, block=block)
        return gradients(
            lambda q, k: ops.sum(ops.tanh(compared(layer, q, k)) * ruler), q, k
        )

    assert_close(slopes(5), slopes(None))


def test_attention_meets_its_contract():
    check_mechanism('softmax', position=SelfExtend(2, 3, head_size=4))


def test_errors_and_config():
    layer = SelfExtend(6, 3, block=4, head_size=4)
    again = SelfExtend.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.window, again.group, again.block) == (6, 3, 4)
    with pytest.raises(ValueError, match='group=0'):
        SelfExtend(4, 0)
