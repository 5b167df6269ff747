import numpy as np
import pytest
from harness import to_numpy
from keras import ops

from keraseff.ops import masked_value
from keraseff.ops import sequence_masking


@pytest.mark.parametrize('axis', [1, 2, -1, [1, 2]])
def test_sequence_masking_equals_slow_loop(axis, rng):
    x = rng.normal(size=(2, 4, 4)).astype('float32')
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0]])
    expected = x.copy()
    for place in np.ndindex(x.shape):
        for a in axis if isinstance(axis, list) else [axis]:
            if not mask[place[0], place[a]]:
                expected[place] = 7
    found = to_numpy(sequence_masking(x, mask, 7, axis))
    np.testing.assert_array_equal(found, expected)


def test_no_mask_changes_nothing(rng):
    x = rng.normal(size=(2, 4)).astype('float32')
    assert sequence_masking(x) is x


@pytest.mark.every_backend
@pytest.mark.parametrize('dtype', ['float32', 'float16', 'bfloat16'])
@pytest.mark.parametrize('value', ['-inf', -np.inf])
def test_masked_scores_vanish_in_a_softmax_and_stay_finite(dtype, value):
    scores = ops.convert_to_tensor(np.full((2, 3), -9.0), dtype=dtype)
    mask = np.array([[1, 0, 1], [0, 0, 0]])
    hidden = sequence_masking(scores, mask, value)
    assert hidden.dtype == scores.dtype
    weights = to_numpy(ops.cast(ops.softmax(hidden), 'float32'))
    np.testing.assert_allclose(weights[0], [0.5, 0, 0.5], atol=1e-3)
    np.testing.assert_allclose(weights[1], 1 / 3, atol=1e-2)


def test_masked_value_fits_its_dtype():
    assert np.isfinite(np.float16(masked_value('float16')))
    assert masked_value('bfloat16') == masked_value('float32') == -1e30
    high = sequence_masking(np.zeros((1, 1), 'float32'), np.zeros((1, 1)), 'inf')
    np.testing.assert_allclose(to_numpy(high), 1e30)
