"""Rotations in a plane: half of the channels by x, half by y."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import check_mechanism
from harness import save_and_reopen
from harness import to_numpy
from keras import Input
from keras import Model
from keras import ops
from reference import positions as slow

from keraseff.layers import MultiHeadAttention
from keraseff.layers import Rotary
from keraseff.layers.position.rotary import rotary_2d
from keraseff.ops import plain_frequencies


def turn(layer, q, k, ids):
    q, k = ops.convert_to_tensor(q), ops.convert_to_tensor(k)
    return to_numpy(layer.rotate(q, k, layer(q, ids)))


@pytest.mark.every_backend
def test_each_half_is_turned_by_its_own_axis(rng):
    q = rng.normal(size=(2, 5, 3, 12)).astype('float32')
    ids = rng.normal(size=(2, 5, 2)) * 20
    found, _ = turn(Rotary(12, axes=2, partial=2 / 3), q, q, ids)
    np.testing.assert_array_equal(found[..., 8:], q[..., 8:])
    for part, axis in ((slice(0, 4), 0), (slice(4, 8), 1)):
        pairs = q[..., part][..., ::2] + 1j * q[..., part][..., 1::2]
        angles = ids[:, :, None, axis, None] * plain_frequencies(4)
        turned = pairs * np.exp(1j * angles)
        assert_close(found[..., part][..., ::2], turned.real, atol=2e-5)
        assert_close(found[..., part][..., 1::2], turned.imag, atol=2e-5)


@pytest.mark.every_backend
def test_halves_are_laid_out_within_each_axis(rng):
    q = rng.normal(size=(1, 3, 1, 12)).astype('float32')
    ids = np.array([[[0, 0], [3, 5], [2.5, -1]]])
    layer = Rotary(12, axes=2, interleaved=False, partial=2 / 3)
    found, _ = turn(layer, q, q, ids)
    for n, (x, y) in enumerate(ids[0]):
        for part, place in ((slice(0, 4), x), (slice(4, 8), y)):
            vector = q[0, n, 0, part]
            expected = slow.rotate_half_split(vector, place, plain_frequencies(4))
            np.testing.assert_allclose(found[0, n, 0, part], expected, atol=1e-5)
    np.testing.assert_array_equal(found[..., 8:], q[..., 8:])


@pytest.mark.every_backend
@pytest.mark.parametrize('interleaved', [True, False])
def test_only_the_way_between_two_places_counts(interleaved, rng):
    q, k = rng.normal(size=(2, 1, 6, 2, 8)).astype('float32')
    ids = rng.integers(0, 9, (1, 6, 2))
    layer = Rotary(8, axes=2, interleaved=interleaved)

    def scores(ids):
        return np.einsum('bmhd,bnhd->bhmn', *turn(layer, q, k, ids))

    near = scores(ids)
    for step in ([7, 0], [0, 7], [-30, 11]):
        assert_close(scores(ids + step), near, atol=1e-4)
    for stretch in ([2, 1], [1, 2], [-1, -1]):
        assert np.abs(scores(ids * stretch) - near).max() > 0.05
    assert np.abs(scores(ids[..., ::-1]) - near).max() > 0.05


def test_rotations_commute_and_no_two_places_share_one():
    layer, unit = Rotary(8, axes=2), np.eye(8, dtype='float32')[None, :, None]

    def matrix(x, y):
        return to_numpy(layer.turn(ops.convert_to_tensor(unit), [x, y]))[0, :, 0].T

    along, across = matrix(3, 0), matrix(0, 5)
    np.testing.assert_allclose(along @ across, matrix(3, 5), atol=1e-6)
    np.testing.assert_allclose(across @ along, matrix(3, 5), atol=1e-6)
    np.testing.assert_allclose(matrix(3, 5) @ matrix(3, 5).T, np.eye(8), atol=1e-6)
    places = np.stack(np.meshgrid(np.arange(16), np.arange(16)), -1).reshape(1, -1, 2)
    angles = to_numpy(layer(np.zeros((1, 256, 8)), places))[0]
    gaps = np.abs(angles[:, None] - angles[None]).max(-1) + np.eye(256)
    assert gaps.min() > 5e-3
    np.testing.assert_array_equal(matrix(0, 0), np.eye(8))


@pytest.mark.every_backend
def test_a_picture_is_read_by_rows(rng):
    q = rng.normal(size=(1, 7, 2, 8)).astype('float32')
    places = np.array([[[k % 3, k // 3] for k in range(7)]])
    layer = Rotary(8, axes=2, width=3)
    rows = to_numpy(layer(q))
    assert_close(rows, layer(q, places))
    assert_close(layer(q[:, :1], np.array([[5]])), rows[:, 5:6])
    # Keys follow the queries, counted from 0.
    both = layer(q[:, 5:], np.array([[5, 6]]), q)
    assert_close(both, np.concatenate([rows[:, 5:], rows], 1))
    named = rotary_2d(head_size=8, width=3)
    assert_close(named(q), rows)


def test_places_are_an_input_of_the_graph(rng):
    x, ids = Input((None, 8)), Input((None, 2))
    layer = MultiHeadAttention(2, 4, position=Rotary(4, axes=2))
    p = Rotary(4, axes=2)(x, position_ids=ids)
    model = Model([x, ids], layer(x, p=p))
    data = rng.normal(size=(2, 5, 8)).astype('float32')
    places = rng.integers(0, 9, (2, 5, 2)).astype('float32')
    found = model.predict([data, places], verbose=0)
    moved = save_and_reopen(model).predict([data, places + [4, -2]], verbose=0)
    assert_close(moved, found, atol=1e-4)
    other = model.predict([data, places[..., ::-1]], verbose=0)
    assert np.abs(other - found).max() > 1e-3


def test_contracts():
    position = Rotary(4, axes=2, width=3)
    check_mechanism('softmax', position=position)
    x = np.zeros((2, 7, 8), 'float32')
    check_layer(lambda **kwargs: Rotary(8, axes=2, width=3, **kwargs), x, padded=False)
    again = Rotary.from_config(Rotary(8, axes=2, width=3).get_config())
    assert_close(again(x), Rotary(8, axes=2, width=3)(x))


def test_scaling_in_the_plane():
    x, places = np.zeros((1, 2, 8), 'float32'), np.array([[[8, 4], [12, 20]]])
    scaled = Rotary(8, axes=2, scaling={'type': 'linear', 'factor': 4})
    assert_close(scaled(x, places), Rotary(8, axes=2)(x, places / 4))
    # A rule that looks at the length sees the longer of the two sides.
    grown = {'rope_type': 'dynamic', 'factor': 2.0}
    long = Rotary(8, axes=2, scaling=grown, max_position=8)
    plain = Rotary(4, scaling=grown, max_position=8)
    expected = plain(x, np.array([[12, 20]]))[:, :1]
    assert_close(long(x, places)[:, 1:, :4], expected)


def test_errors():
    x = np.zeros((1, 4, 8), 'float32')
    with pytest.raises(ValueError, match='where the steps stand'):
        Rotary(8, axes=2)(x)
    with pytest.raises(ValueError, match='where the steps stand'):
        Rotary(8, axes=2)(x, np.zeros((1, 4, 2)), x)
    with pytest.raises(ValueError, match='multiple of 4, got 6'):
        Rotary(6, axes=2, width=2)(x)
    with pytest.raises(ValueError, match='axes=3'):
        Rotary(6, axes=3)
    with pytest.raises(ValueError, match='width belongs to axes=2'):
        Rotary(6, width=3)
