"""The contract of positions, and distances."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy
from keras import ops

from keraseff.layers import POSITIONS
from keraseff.layers import MultiHeadAttention
from keraseff.layers import Position
from keraseff.layers import Relative
from keraseff.layers import Rotary
from keraseff.layers import T5Relative
from keraseff.layers.position import ROTARY_RULES
from keraseff.layers.position import distances
from keraseff.layers.position import get_position


@pytest.mark.every_backend
def test_distances_are_key_minus_query(rng):
    x, keys = np.zeros((2, 3, 4)), np.zeros((2, 5, 4))
    own = to_numpy(distances(x))
    np.testing.assert_array_equal(own[0], [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]])
    cross = to_numpy(distances(x, keys=keys))
    assert cross.shape == (1, 3, 5)
    assert cross[0, 2, 4] == 2
    np.testing.assert_array_equal(to_numpy(distances([x, keys])), cross)
    ids = np.array([[3, 5, 4], [7, 7, 0]])
    chosen = to_numpy(distances(x, ids))
    for b, i, j in np.ndindex(2, 3, 3):
        assert chosen[b, i, j] == ids[b, j] - ids[b, i]
    last = to_numpy(distances(x[:, :1], np.array([[4]]), keys))
    np.testing.assert_array_equal(last[0], [[-4, -3, -2, -1, 0]])


def test_the_bare_contract_changes_nothing(rng):
    x = rng.normal(size=(1, 4, 6)).astype('float32')
    bare = MultiHeadAttention(2, 4)
    bare(x)
    layer = MultiHeadAttention(2, 4, position=Position())
    layer(x, p=ops.zeros((1, 1)))
    layer.set_weights(bare.get_weights())
    found = layer(x, p=ops.zeros((1, 1)))
    np.testing.assert_array_equal(to_numpy(found), to_numpy(bare(x)))


@pytest.mark.every_backend
@pytest.mark.parametrize('make', [Relative, Rotary, T5Relative])
def test_queries_and_keys_of_free_and_different_lengths(make, rng):
    sizes = {'heads': 2} if make is T5Relative else {}
    x, y = keras.Input((None, 8)), keras.Input((None, 6))
    table = make(4, **sizes)
    layer = MultiHeadAttention(2, 4, position=make(4, **sizes))
    model = keras.Model([x, y], layer(x, y, p=table(x, keys=y)))
    for weight in table.weights:
        weight.assign(rng.normal(size=weight.shape))
    q = rng.normal(size=(2, 3, 8)).astype('float32')
    k = rng.normal(size=(2, 5, 6)).astype('float32')
    found = model.predict([q, k], verbose=0)
    assert_close(layer(q, k, p=table(q, keys=k)), found)
    back = to_numpy(layer(q, k[:, ::-1], p=table(q, keys=k)))
    assert np.abs(back - found).max() > 1e-4
    one = layer(q[:, 2:], k, p=table(q[:, 2:], np.array([[2]]), keys=k))
    assert_close(one, found[:, 2:])


def test_every_name_takes_the_size_of_a_query():
    for name, kind in POSITIONS.items():
        needed = {'factor': 2, 'max_position': 4} if name in ROTARY_RULES else None
        made = get_position(name, 8, options=needed)
        assert type(made) is (kind if isinstance(kind, type) else Rotary)
        assert made.head_size == 8
    assert get_position('t5', 8, 3).heads == 3
    match = 'there are: .*relative, .*rotary.*Did you mean .rotary'
    with pytest.raises(ValueError, match=match):
        get_position('rotory', 8)
