"""Local attention: what its weights are, and what the sinks add."""

import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy
from keras import ops
from reference import sparse_attention as slow

from keraseff.layers.attention.local import Local
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.softmax import Softmax


def weights(mechanism, n, causal=False, padding=None):
    """(n, n): what mixing the unit vectors gives."""
    q = np.random.default_rng(3).normal(size=(1, n, 1, 4)).astype('float32')
    v = np.eye(n, dtype='float32')[None, :, None]
    q, v = ops.convert_to_tensor(q), ops.convert_to_tensor(v)
    found = mechanism(q, q, v, where=Mask(padding, causal))
    return to_numpy(found)[0, :, 0]


@pytest.mark.parametrize('causal', [False, True])
def test_twelve_steps_and_three_either_way(causal):
    found = weights(Local(3), 12, causal)
    assert (found > 0).sum() == (42 if causal else 72)
    np.testing.assert_array_equal(found > 0, slow.local(12, 3, causal))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize('causal', [False, True])
def test_sinks_are_counted_once(causal):
    """Near the start a sink lies in the window too."""
    n, window, sinks = 50, 6, 4
    found = weights(Local(window, sinks=sinks), n, causal)
    np.testing.assert_array_equal(found > 0, slow.local(n, window, causal, sinks))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_a_window_and_sinks_are_those_of_the_mask(rng):
    """`Mask.window` counts the query itself, this window does not."""
    q, k, v = (rng.normal(size=(2, 45, 2, 4)).astype('float32') for _ in range(3))
    for causal in (False, True):
        narrow = Mask(causal=causal, window=6, sinks=2)
        expected = Softmax().call(q, k, v, narrow)
        found = Local(5, sinks=2)(q, k, v, where=Mask(causal=causal))
        assert_close(found, expected)


def test_a_padded_sink_is_not_seen():
    padding = np.arange(40)[None] >= 2  # padding on the left
    found = weights(Local(3, sinks=4), 40, True, padding)
    assert not found[2:, :2].any()
    np.testing.assert_array_equal(
        found[2:] > 0, (slow.local(40, 3, True, 4) & padding)[2:]
    )
