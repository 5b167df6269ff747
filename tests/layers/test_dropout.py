"""Dropout: what is dropped, how often, and what becomes of the rest."""

import keras
import numpy as np
import pytest
from keras import ops

from keraseff.layers import Dropout
from tests.harness import gradients
from tests.harness import to_numpy

pytestmark = pytest.mark.every_backend


def drawn(rate, shape, **options):
    keras.utils.set_random_seed(3)
    return to_numpy(Dropout(rate, **options)(ops.ones(shape), training=True))


@pytest.mark.parametrize('rate', [0.1, 0.5, 0.93])
def test_it_drops_the_share_it_should_each_by_itself(rate):
    out = drawn(rate, (50, 999))
    np.testing.assert_allclose(np.unique(out), [0, 1 / (1 - rate)], rtol=1e-6)
    dropped = out == 0
    sure = 5 * (rate * (1 - rate) / out.size) ** 0.5
    assert abs(dropped.mean() - rate) < sure
    for apart in (1, 2, 3, 4, 999):  # numbers that were drawn together too
        flat = dropped.reshape(-1)
        both = (flat[apart:] & flat[:-apart]).mean()
        assert abs(both - rate**2) < 2 * sure


def test_the_same_seed_drops_the_same():
    first = drawn(0.3, (7, 11))
    np.testing.assert_array_equal(first, drawn(0.3, (7, 11)))
    once, twice = (drawn(0.3, (7, 11), seed=5) for _ in range(2))
    np.testing.assert_array_equal(once, twice)


def test_what_was_dropped_has_no_gradient(rng):
    x = rng.normal(size=(4, 9)).astype('float32')
    layer = Dropout(0.4)
    (found,) = gradients(lambda t: ops.sum(layer(t, training=True) * 3), x)
    assert set(np.unique(to_numpy(found)).round(4)) == {0, 5}


def test_it_does_nothing_where_it_should_not():
    x = np.ones((3, 5), 'float32')
    np.testing.assert_array_equal(to_numpy(Dropout(0.9)(x)), x)
    np.testing.assert_array_equal(to_numpy(Dropout(0.0)(x, training=True)), x)
    rows = to_numpy(Dropout(0.5, noise_shape=(3, 1))(x, training=True))
    assert all(len(set(row)) == 1 for row in rows)
    half = Dropout(0.5, dtype='mixed_bfloat16')(x, training=True)
    assert keras.backend.standardize_dtype(half.dtype) == 'bfloat16'
