"""Decoding step by step, under each position, equals the whole text at once."""

import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy

from keraseff.layers import MultiHeadAttention
from keraseff.layers.position.rotary import ROTARY_RULES

GROWN = {'factor': 4.0, 'original_max_position_embeddings': 3}
CASES = {
    'alibi': {},
    'kerple': {'kind': 'power'},
    'sandwich': {'dim': 6},
    'xpos': {'scale_base': 3},
    'rotary_2d': {'width': 2},
    **dict.fromkeys(ROTARY_RULES, GROWN),
}
# Where the whole text is turned by its own length, each step is the last of its text.
GROWING = {'dynamic': GROWN, 'ntk_mixed': {**GROWN, 'factor': None, 'dynamic': True}}


def attention(name, options, **more):
    return MultiHeadAttention(
        2, 4, causal=True, position=name, position_options=options, **more
    )


def steps(layer, x, length):
    state = layer.start(len(x), length)
    for t in range(x.shape[1]):
        row, state = layer.step(x[:, t : t + 1], t, state)
        yield to_numpy(row)[:, 0]


@pytest.mark.parametrize('name', sorted(set(CASES) - set(GROWING) | {'ntk_mixed'}))
def test_steps_are_the_rows_of_the_whole(name, rng):
    x = rng.normal(size=(2, 7, 8)).astype('float32')
    layer = attention(name, CASES[name])
    whole = to_numpy(layer(x))
    rows = list(steps(layer, x, 9))
    np.testing.assert_allclose(np.stack(rows, 1), whole, atol=2e-5)
    plain = MultiHeadAttention(2, 4, causal=True)
    plain(x)
    plain.set_weights([w for w in layer.get_weights() if w.ndim > 1 or len(w) > 2])
    assert np.abs(to_numpy(plain(x)) - whole).max() > 1e-3


@pytest.mark.parametrize('name', GROWING)
def test_a_growing_text_turns_its_keys_anew(name, rng):
    x = rng.normal(size=(1, 6, 8)).astype('float32')
    layer = attention(name, GROWING[name])
    layer(x)
    for t, row in enumerate(steps(layer, x, 9)):
        if t > 1:
            assert_close(row, to_numpy(layer(x[:, : t + 1]))[:, -1], atol=2e-5)
    # The rows of a longer text are others.
    assert (
        np.abs(to_numpy(layer(x))[:, 3] - to_numpy(layer(x[:, :4]))[:, 3]).max() > 1e-4
    )


@pytest.mark.parametrize('name', ['kerple', 'xpos'])
def test_steps_of_half_precision(name, rng):
    x = rng.normal(size=(1, 4, 8)).astype('float32')
    layer = attention(name, CASES[name], dtype='mixed_float16')
    x = x.astype('float16')
    whole = to_numpy(layer(x))
    rows = np.stack(list(steps(layer, x, 4)), 1)
    assert rows.dtype == np.float16
    np.testing.assert_allclose(rows, whole, atol=1e-2)
