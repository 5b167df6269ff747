"""Cutting sequences into blocks and classes, and back."""

import numpy as np
import pytest
from harness import to_numpy
from keras import ops

from keraseff.ops import blocks


@pytest.mark.parametrize('n', [1, 5, 12, 13])
@pytest.mark.parametrize('size', [1, 3, 4, 20])
def test_steps_land_in_their_group_and_come_back(n, size):
    x = np.arange(2 * n * 3 * 2, dtype='float32').reshape(2, n, 3, 2) + 1
    b, c = blocks.in_blocks(x, size), blocks.in_classes(x, size)
    for i in range(n):
        np.testing.assert_array_equal(to_numpy(b)[:, i // size, :, i % size], x[:, i])
        np.testing.assert_array_equal(to_numpy(c)[:, i % size, :, i // size], x[:, i])
    assert to_numpy(b).astype(bool).sum() == to_numpy(c).astype(bool).sum() == x.size
    np.testing.assert_array_equal(to_numpy(blocks.out_of_blocks(b, n)), x)
    np.testing.assert_array_equal(to_numpy(blocks.out_of_classes(c, n)), x)


def test_neighbours_stand_in_order_with_zeros_at_the_ends():
    x = ops.reshape(ops.arange(1, 9), (1, 4, 2))
    found = to_numpy(blocks.with_neighbours(x, 1, 1, axis=2))[0]
    np.testing.assert_array_equal(found[0], [0, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(found[2], [3, 4, 5, 6, 7, 8])
    np.testing.assert_array_equal(found[3], [5, 6, 7, 8, 0, 0])
    found = to_numpy(blocks.with_neighbours(x, 2, 0, axis=2))[0]
    np.testing.assert_array_equal(found[1], [0, 0, 1, 2, 3, 4])
