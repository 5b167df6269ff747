import keras
import numpy as np
import pytest
from harness import to_numpy
from keras import ops

from keraseff import backends
from keraseff.initializers import Sinusoidal
from keraseff.initializers import TruncatedNormal
from keraseff.initializers import fresh
from keraseff.initializers import unfilled
from keraseff.ops import sinusoidal_embeddings

SHAPE = 4, 5


@pytest.mark.parametrize('name', ['lecun_normal', 'glorot_uniform'])
def test_fresh_copies_differ_where_one_object_repeats_itself(name):
    one = keras.initializers.get(name)
    np.testing.assert_array_equal(to_numpy(one(SHAPE)), to_numpy(one(SHAPE)))
    first, second = fresh(one), fresh(one)
    assert np.abs(to_numpy(first(SHAPE)) - to_numpy(second(SHAPE))).max() > 0.01
    assert first.get_config().keys() == one.get_config().keys()


def test_fresh_knows_names_and_leaves_functions_alone():
    np.testing.assert_array_equal(to_numpy(fresh('ones')(SHAPE)), np.ones(SHAPE))

    def constant(shape, dtype=None):
        return ops.ones(shape, dtype=dtype)

    assert fresh(constant) is constant


def test_fresh_with_a_seed_still_repeats_it():
    one = keras.initializers.RandomNormal(seed=7)
    np.testing.assert_array_equal(
        to_numpy(fresh(one)(SHAPE)), to_numpy(fresh(one)(SHAPE))
    )


def test_sinusoidal_table_equals_the_function():
    table = to_numpy(Sinusoidal()((50, 8)))
    positions = np.arange(50, dtype='float32')
    expected = to_numpy(sinusoidal_embeddings(positions, 8))
    np.testing.assert_allclose(table, expected, atol=2e-5)
    again = keras.initializers.deserialize(keras.initializers.serialize(Sinusoidal()))
    np.testing.assert_array_equal(to_numpy(again((50, 8))), table)


@pytest.mark.every_backend
def test_unfilled_makes_room_and_draws_nothing(monkeypatch):
    one = TruncatedNormal(stddev=0.5)
    spread = to_numpy(one((50, 40))).std()
    assert 0.4 < spread < 0.5
    drawn = keras.initializers.TruncatedNormal
    with monkeypatch.context() as patched, unfilled():
        patched.setattr(drawn, '__call__', lambda *_, **__: pytest.fail('drawn'))
        for dtype in ('float32', 'bfloat16'):
            variable = keras.Variable(one, shape=(50, 40), dtype=dtype)
            assert (variable.shape, variable.dtype) == ((50, 40), dtype)
            numbers = np.random.default_rng(0).normal(size=(40, 50)).astype('float32')
            backends.fill(variable, numbers.T)
            found = to_numpy(ops.cast(variable.value, 'float32'))
            np.testing.assert_allclose(found, numbers.T, atol=2e-2)
        with unfilled(False), pytest.raises(pytest.fail.Exception):
            one((2, 2))
