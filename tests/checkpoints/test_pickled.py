import collections
import os
import pickle

import pytest

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import load_restricted_pickle

VALUES = [
    {'的': 0, '<UNK>': 4760, 'big': 2**100, 'negative': -(2**40)},
    [1, 2.5, None, True, False, 'text', b'bytes', (), (1,), (1, 2), (1, 2, 3, 4)],
    {('a', 'b'): {1, 2}, 3: frozenset([4])},
    collections.OrderedDict([('b', 1), ('a', [])]),
    list(range(2000)),
    'x' * 70000,
]


class Command:
    """What its pickle runs when `pickle` reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize('protocol', range(5))
@pytest.mark.parametrize('value', VALUES)
def test_plain_values(tmp_path, value, protocol):
    path = tmp_path / 'v.pkl'
    path.write_bytes(pickle.dumps(value, protocol))
    assert load_restricted_pickle(path) == value


def test_shared_and_cyclic_lists(tmp_path):
    inner = [1]
    outer = [inner, inner]
    outer.append(outer)
    path = tmp_path / 'v.pkl'
    path.write_bytes(pickle.dumps(outer))
    read = load_restricted_pickle(path)
    assert read[0] is read[1]
    assert read[2] is read


@pytest.mark.parametrize('protocol', range(5))
def test_commands_are_refused_and_not_run(tmp_path, protocol):
    path, proof = tmp_path / 'v.pkl', tmp_path / 'proof'
    path.write_bytes(pickle.dumps({'vocab': Command(proof)}, protocol))
    with pytest.raises(CheckpointError, match=r'\.system'):
        load_restricted_pickle(path)
    assert not proof.exists()
    # The same bytes do run where pickle reads them.
    pickle.loads(path.read_bytes())
    assert proof.exists()


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'N',
        b'.',
        b'\x80\x04K\x01',
        b'cbuiltins\neval\n(S"1"\ntR.',
        b'cbuiltins\ngetattr\n.',
        b'(ios\nsystem\n.',
        b'(S"1"\nios\nsystem\n.',
        b'\x82\x01.',
        b']]]o.',
        b'Pid\n.',
        b'K\x01Q.',
        b'}]K\x01s.',
        b'K\x01K\x02a.',
        b'K\x01)R.',
        b'cbuiltins\nbytearray\nK\x05\x85R.',
        b'c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.',
        # Declared lengths far beyond the data.
        b'\x8e\xff\xff\xff\xff\xff\xff\xff\x0fabc.',
        b'\x8e\x00\x00\x00\x00\x00\x01\x00\x00abc.',
        b'X\xff\xff\xff\x7fabc.',
        b'\x8b\xff\xff\xff\x7fabc.',
        # Nested without end.
        b'N' + b'\x85' * 50_000 + b'.',
        b']' * 50_000 + b'a' * 49_999 + b'.',
        # A nested tuple as a key, whose hash would be taken level by level.
        b'}N' + b'\x85' * 50_000 + b'Ns.',
    ],
)
def test_damaged_or_hostile(tmp_path, data):
    path = tmp_path / 'v.pkl'
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_restricted_pickle(path)


def test_memo_numbers_cost_no_memory(tmp_path):
    # pickle itself would make a list of 4 billion entries.
    path = tmp_path / 'v.pkl'
    path.write_bytes(b'K\x07r\xfe\xff\xff\xff0j\xfe\xff\xff\xff.')
    assert load_restricted_pickle(path) == 7


def doubled(depth):
    """A list that holds one list twice, which holds one list twice, and so on."""
    value = []
    for _ in range(depth):
        value = [value, value]
    return value


def test_shared_lists_take_no_time(tmp_path):
    path = tmp_path / 'v.pkl'
    path.write_bytes(pickle.dumps(doubled(40)))
    value = load_restricted_pickle(path)
    for _ in range(40):
        assert value[0] is value[1]
        value = value[0]


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match='cannot be read'):
        load_restricted_pickle(tmp_path / 'v.pkl')


def test_vocabulary(data_dir):
    path = data_dir / 'tencent_char_embedding' / 'vocab.pkl'
    vocabulary = load_restricted_pickle(path)
    assert sorted(vocabulary.values()) == list(range(4762))
    assert (vocabulary['<UNK>'], vocabulary['<PAD>']) == (4760, 4761)
