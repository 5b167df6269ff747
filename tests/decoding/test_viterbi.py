import itertools

import numpy as np
import pytest

from keraseff.decoding import ViterbiDecoder


def brute_force(nodes, trans, starts, ends):
    """Try every path."""
    n, c = nodes.shape
    best, score = None, -np.inf
    for path in itertools.product(range(c), repeat=n):
        if starts is not None and path[0] not in starts:
            continue
        if ends is not None and path[-1] not in ends:
            continue
        total = sum(nodes[i, k] for i, k in enumerate(path))
        total += sum(trans[a, b] for a, b in itertools.pairwise(path))
        if total > score:
            best, score = path, total
    return list(best)


@pytest.mark.parametrize(('starts', 'ends'), [(None, None), ([0, 2], None), ([1], [0])])
def test_equals_trying_every_path(rng, starts, ends):
    trans = rng.normal(size=(3, 3))
    decoder = ViterbiDecoder(trans, starts, ends)
    for n in (1, 2, 5):
        nodes = rng.normal(size=(n, 3))
        if n == 1 and starts == [1]:
            continue  # no path at all
        expected = brute_force(nodes, trans, starts, ends)
        assert decoder.decode(nodes).tolist() == expected


def test_a_batch_equals_its_sequences(rng):
    decoder = ViterbiDecoder(rng.normal(size=(4, 4)), starts=[0, 1], ends=[1, 3])
    nodes = rng.normal(size=(7, 9, 4))
    lengths = [9, 1, 4, 0, 8, 2, 9]
    nodes[2, 4:] = np.nan  # must not be looked at
    together = decoder.decode_batch(nodes, lengths)
    for row, length, path in zip(nodes, lengths, together, strict=True):
        assert path.tolist() == decoder.decode(row[:length]).tolist()


def test_illegal_transitions_are_not_taken(rng):
    trans = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    path = ViterbiDecoder(trans).decode(rng.normal(size=(6, 2)))
    assert len(set(path.tolist())) == 1


def test_the_nodes_are_left_as_they_are(rng):
    nodes = rng.normal(size=(4, 3))
    before = nodes.copy()
    ViterbiDecoder(np.zeros((3, 3)), starts=[1], ends=[2]).decode(nodes)
    np.testing.assert_array_equal(nodes, before)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r'trans must be \(c, c\)'):
        ViterbiDecoder(np.zeros((2, 3)))
    with pytest.raises(ValueError, match='labels from 0 to 1'):
        ViterbiDecoder(np.zeros((2, 2)), starts=[2])
    decoder = ViterbiDecoder(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r'\(b, n, 2\)'):
        decoder.decode_batch(np.zeros((1, 4, 3)))
    with pytest.raises(ValueError, match='numbers from 0 to 4'):
        decoder.decode_batch(np.zeros((1, 4, 2)), [5])
