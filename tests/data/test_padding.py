import numpy as np
import pytest

from keraseff.data import sequence_padding
from keraseff.data import to_array
from keraseff.data import truncate_sequences


def slow_padding(inputs, length, value, seq_dims, mode):
    """np.pad, one by one."""
    arrays = [np.array(x) for x in inputs]
    if length is None:
        length = [max(a.shape[i] for a in arrays) for i in range(seq_dims)]
    outputs = []
    for a in arrays:
        width = [(0, 0)] * a.ndim
        for i in range(seq_dims):
            a = a.take(range(min(length[i], a.shape[i])), axis=i)
            missing = length[i] - a.shape[i]
            width[i] = (0, missing) if mode == 'post' else (missing, 0)
        outputs.append(np.pad(a, width, constant_values=value))
    return np.array(outputs)


@pytest.mark.parametrize('mode', ['post', 'pre'])
@pytest.mark.parametrize('seq_dims', [1, 2, 3])
@pytest.mark.parametrize('length', [None, 3, 9])
def test_equals_np_pad(rng, mode, seq_dims, length):
    inputs = []
    for _ in range(6):
        shape = [*rng.integers(1, 7, seq_dims), 2]
        inputs.append(rng.integers(0, 9, shape))
    lengths = None if length is None else [length] * seq_dims
    expected = slow_padding(inputs, lengths, -1, seq_dims, mode)
    result = sequence_padding(inputs, lengths, -1, seq_dims, mode)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == expected.dtype
    lists = [x.tolist() for x in inputs]
    again = sequence_padding(lists, lengths, -1, seq_dims, mode)
    np.testing.assert_array_equal(again, expected)


def test_types_are_kept():
    assert sequence_padding([[1], [1, 2]]).dtype.kind == 'i'
    assert sequence_padding([[], [1, 2]]).dtype.kind == 'i'
    assert sequence_padding([[], [1, 2]]).tolist() == [[0, 0], [1, 2]]
    assert sequence_padding([np.ones(2, 'float16')], 3).dtype == np.float16
    assert sequence_padding([np.ones(2, bool)], 3).tolist() == [[True, True, False]]
    assert sequence_padding([[1], [1, 2]], value=-100.0).dtype.kind == 'i'
    assert sequence_padding([[1], [1, 2]], value=-np.inf)[0, 1] == -np.inf
    rows = [[], [[1, 2]]]
    assert sequence_padding(rows).tolist() == [[[0, 0]], [[1, 2]]]
    assert sequence_padding([[1, 2]], length=1).tolist() == [[1]]


def test_padding_refuses():
    with pytest.raises(ValueError, match='no sequences'):
        sequence_padding([])
    with pytest.raises(ValueError, match="'post' or 'pre'"):
        sequence_padding([[1]], mode='left')
    with pytest.raises(ValueError, match='of 2 axes'):
        sequence_padding([[[1]]], length=3, seq_dims=2)
    with pytest.raises(ValueError, match='has not 2 axes'):
        sequence_padding([[1]], seq_dims=2)


def pop_one_by_one(maxlen, indices, *sequences):
    sequences = [s for s in sequences if s]
    indices = indices if isinstance(indices, list) else [indices] * len(sequences)
    while sum(map(len, sequences)) > maxlen:
        longest = int(np.argmax([len(s) for s in sequences]))
        sequences[longest].pop(indices[longest])
    return sequences


@pytest.mark.parametrize('indices', [-1, -2, 0, 1, [-2, 1, -1]])
def test_truncation_equals_popping(rng, indices):
    for _ in range(30):
        sizes = rng.integers(4, 12, 3)
        first = [list(range(100 * i, 100 * i + n)) for i, n in enumerate(sizes)]
        second = [list(s) for s in first]
        maxlen = int(rng.integers(9, 30))
        expected = pop_one_by_one(maxlen, indices, *first)
        assert truncate_sequences(maxlen, indices, *second) == expected
        assert second == first  # lists are shortened in place


def test_truncation_of_other_sequences():
    assert truncate_sequences(4, -1, 'abcdef', '', (1, 2, 3)) == ['ab', (1, 2)]
    with pytest.raises(ValueError, match='can not be taken from position 3'):
        truncate_sequences(2, 3, [1, 2, 3, 4, 5])


def test_to_array():
    assert to_array([1, 2]).tolist() == [1, 2]
    first, second = to_array([1, 2], [[3]])
    assert isinstance(first, np.ndarray)
    assert second.shape == (1, 1)
