import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy
from keras import ops
from reference import spans as slow

from keraseff.ops import apply_rotary_position_embeddings
from keraseff.ops import sinusoidal_embeddings


def rotate(x, positions):
    return to_numpy(
        apply_rotary_position_embeddings(
            sinusoidal_embeddings(np.atleast_2d(positions), x.shape[-1]),
            ops.convert_to_tensor(x),
        )
    )


def test_known_vectors():
    table = to_numpy(sinusoidal_embeddings(np.array([1.0]), 8))[0]
    expected = [0.841471, 0.540302, 0.099833, 0.995004, 0.01, 0.99995, 0.001, 1]
    np.testing.assert_allclose(table, expected, atol=1e-6)
    found = rotate(np.arange(1, 9, dtype='float32')[None, None], [3])[0, 0]
    expected = [-1.272233, -1.838865, 1.683929, 4.707907]
    expected += [4.817777, 6.147278, 6.975969, 8.020964]
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.every_backend
def test_rotation_equals_complex_multiplication(rng):
    x = rng.normal(size=(2, 5, 3, 6)).astype('float32')
    positions = rng.integers(0, 50, (2, 5))
    found = rotate(x, positions)
    for b, n, h in np.ndindex(2, 5, 3):
        expected = slow.rotate(x[b, n, h].astype('float64'), positions[b, n])
        np.testing.assert_allclose(found[b, n, h], expected, atol=1e-5)


def test_products_depend_on_the_distance_only(rng):
    q, k = rng.normal(size=(2, 1, 1, 8)).astype('float32')
    products = [
        (rotate(q, [m]) * rotate(k, [n])).sum() for m, n in [(3, 8), (103, 108), (0, 5)]
    ]
    np.testing.assert_allclose(products, products[0], atol=1e-4)
    assert abs((rotate(q, [3]) * rotate(k, [9])).sum() - products[0]) > 1e-3


def test_rotations_add_up_keep_the_norm_and_start_at_identity(rng):
    x = rng.normal(size=(1, 1, 8)).astype('float32')
    np.testing.assert_allclose(rotate(rotate(x, [4]), [9]), rotate(x, [13]), atol=1e-5)
    np.testing.assert_allclose(rotate(rotate(x, [4]), [-4]), x, atol=1e-5)
    np.testing.assert_array_equal(rotate(x, [0]), x)
    norms = np.linalg.norm(rotate(x, [77])), np.linalg.norm(x)
    np.testing.assert_allclose(*norms, rtol=1e-5)


def test_interleaved_is_half_split_up_to_a_permutation(rng):
    x = rng.normal(size=(1, 4, 6)).astype('float32')
    positions = np.arange(4)
    angles = positions[:, None] * 10000.0 ** (-np.arange(3) / 3)
    a, b = x[0, :, ::2], x[0, :, 1::2]
    halves = np.concatenate(
        [
            a * np.cos(angles) - b * np.sin(angles),
            b * np.cos(angles) + a * np.sin(angles),
        ],
        axis=-1,
    )
    found = rotate(x, positions)[0]
    split = np.concatenate([found[:, ::2], found[:, 1::2]], axis=-1)
    np.testing.assert_allclose(split, halves, atol=1e-5)


def test_fractional_positions_and_base():
    table = to_numpy(sinusoidal_embeddings(np.array([[0.5, 2.25]]), 4, base=100))
    angles = np.array([0.5, 2.25])[:, None] * np.array([1, 0.1])
    np.testing.assert_allclose(table[0, :, ::2], np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(table[0, :, 1::2], np.cos(angles), atol=1e-6)


def test_several_tensors_come_back_as_a_list(rng):
    x = ops.convert_to_tensor(rng.normal(size=(1, 3, 4)).astype('float32'))
    angles = sinusoidal_embeddings(np.arange(3.0)[None], 4)
    both = apply_rotary_position_embeddings(angles, x, 2 * x)
    assert_close(2 * both[0], both[1])


def test_errors():
    with pytest.raises(ValueError, match='even dim, got 5'):
        sinusoidal_embeddings(np.array([1.0]), 5)
    with pytest.raises(ValueError, match='needs a tensor'):
        apply_rotary_position_embeddings(np.zeros((1, 1, 4)))
