import numpy as np
import pytest
from harness import to_numpy

from keraseff.ops import align
from keraseff.ops import batch_gather
from keraseff.ops import flatten


@pytest.mark.parametrize(
    ('axes', 'ndim', 'expected'),
    [
        ([0, 1], None, (2, 3)),
        ([0, 2], None, (2, 1, 3)),
        ([0, 2], 4, (2, 1, 3, 1)),
        ([1, -1], 4, (1, 2, 1, 3)),
    ],
)
def test_align_equals_numpy_reshape(axes, ndim, expected):
    x = np.arange(6.0, dtype='float32').reshape(2, 3)
    found = to_numpy(align(x, axes, ndim))
    np.testing.assert_array_equal(found, x.reshape(expected))


def test_align_errors():
    with pytest.raises(ValueError, match='1 target axes for a tensor of 2'):
        align(np.zeros((2, 3)), [0])
    with pytest.raises(ValueError, match='need ndim'):
        align(np.zeros((2, 3)), [0, -1])


@pytest.mark.parametrize(
    ('start', 'end', 'shape'),
    [(0, None, (120,)), (1, 3, (2, 12, 5)), (0, 2, (6, 4, 5)), (2, None, (2, 3, 20))],
)
def test_flatten_equals_numpy_reshape(start, end, shape):
    x = np.arange(120.0, dtype='float32').reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(to_numpy(flatten(x, start, end)), x.reshape(shape))


@pytest.mark.every_backend
@pytest.mark.parametrize('rest', [(), (4,), (4, 2)])
def test_batch_gather_takes_rows_of_each_item(rest, rng):
    x = rng.normal(size=(3, 6, *rest)).astype('float32')
    indices = rng.integers(0, 6, (3, 5))
    expected = np.stack([x[b][indices[b]] for b in range(3)])
    np.testing.assert_array_equal(to_numpy(batch_gather(x, indices)), expected)


def test_batch_gather_with_two_batch_axes(rng):
    x = rng.normal(size=(2, 3, 6, 4)).astype('float32')
    indices = rng.integers(0, 6, (2, 3, 5)).astype('float32')
    expected = np.stack(
        [[x[a, b][indices[a, b].astype(int)] for b in range(3)] for a in range(2)]
    )
    np.testing.assert_array_equal(to_numpy(batch_gather(x, indices)), expected)
