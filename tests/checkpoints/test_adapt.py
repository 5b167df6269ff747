import numpy as np
import pytest

from keraseff.checkpoints import compound_rows
from keraseff.checkpoints import keep_rows
from keraseff.checkpoints import orthogonally_resize

random = np.random.default_rng(0)


def test_keep_rows():
    matrix = random.normal(size=(5, 3))
    np.testing.assert_array_equal(keep_rows(matrix, [4, 0, 4]), matrix[[4, 0, 4]])
    np.testing.assert_array_equal(keep_rows(matrix[:, 0], [1]), matrix[1:2, 0])
    assert keep_rows(matrix, []).shape == (0, 3)


@pytest.mark.parametrize('ids', [[5], [-1], [0.5], [[0]], [True]])
def test_keep_rows_refuses(ids):
    with pytest.raises(ValueError, match='ids'):
        keep_rows(np.ones((5, 3)), ids)


def test_compound_rows_are_weighted_averages():
    matrix = random.normal(size=(5, 3)).astype('float32')
    result = compound_rows(matrix, [[0, 1], ([2, 3, 4], [1, 2, 3]), (1, 2), [3]])
    assert result.dtype == 'float32'
    expected = [
        (matrix[0] + matrix[1]) / 2,
        (matrix[2] + 2 * matrix[3] + 3 * matrix[4]) / 6,
        (matrix[1] + matrix[2]) / 2,
        matrix[3],
    ]
    np.testing.assert_array_equal(result[:5], matrix)
    np.testing.assert_allclose(result[5:], expected, rtol=1e-6)


def test_compound_rows_of_a_bias():
    np.testing.assert_allclose(compound_rows(np.arange(4.0), [[1, 3]])[-1], 2)
    assert compound_rows(np.arange(4.0), []).shape == (4,)


def test_half_precision_is_averaged_in_single():
    rows = np.full((2000, 1), 60000, 'float16')
    assert compound_rows(rows, [list(range(2000))])[-1] == 60000


@pytest.mark.parametrize('item', [[], [9], ([0, 1], [1.0]), ([0, 1], [1, -1])])
def test_compound_rows_refuses(item):
    with pytest.raises(ValueError, match='compound|ids'):
        compound_rows(np.ones((5, 3)), [item])


@pytest.mark.parametrize('shape', [(8, 12), (16, 4), (4, 6), (5, 9), (3, 5), (40, 7)])
def test_norm_is_kept(shape):
    matrix = random.normal(size=(4, 6))
    resized = orthogonally_resize(matrix, shape)
    assert resized.shape == shape
    assert resized.dtype == matrix.dtype
    norms = np.linalg.norm(resized), np.linalg.norm(matrix)
    np.testing.assert_allclose(norms[0], norms[1])


@pytest.mark.parametrize('times', [(2, 2), (3, 1), (1, 4), (2, 5)])
def test_grown_matrix_acts_as_before(times):
    matrix = random.normal(size=(4, 6))

    def spread(size, copies):
        # R = repeat / sqrt(k): each pair of neighbours k times in a row.
        eye = np.eye(size).reshape(size, -1, 1, 2)
        return np.tile(eye, (1, 1, copies, 1)).reshape(size, -1) / np.sqrt(copies)

    left, right = spread(4, times[0]), spread(6, times[1])
    np.testing.assert_allclose(left @ left.T, np.eye(4), atol=1e-12)
    grown = orthogonally_resize(matrix, (4 * times[0], 6 * times[1]))
    x = random.normal(size=(7, 4))
    small, large = x @ matrix, x @ left @ grown
    np.testing.assert_allclose(large, small @ right, atol=1e-12)
    np.testing.assert_allclose(large @ large.T, small @ small.T, atol=1e-12)


def test_shrinking_undoes_growing_by_whole_windows():
    vector = random.normal(size=8)
    grown = orthogonally_resize(vector, (24,), window=8)
    np.testing.assert_allclose(orthogonally_resize(grown, (8,), window=8), vector)


def test_pairs_stay_neighbours():
    grown = orthogonally_resize(np.array([1.0, 2.0, 3.0, 4.0]), (8,))
    np.testing.assert_allclose(grown / grown[0], [1, 2, 1, 2, 3, 4, 3, 4])


def test_zeros_stay_zeros():
    np.testing.assert_array_equal(orthogonally_resize(np.zeros(4), (8,)), np.zeros(8))


@pytest.mark.parametrize(('shape', 'new'), [((4, 6), (4,)), ((3,), (6,)), ((0,), (2,))])
def test_resize_refuses(shape, new):
    with pytest.raises(ValueError, match='axes|window'):
        orthogonally_resize(np.ones(shape), new)
