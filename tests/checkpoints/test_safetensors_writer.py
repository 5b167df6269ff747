"""The writer: what the library and PyTorch read of it, in one file and in shards."""

import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from keraseff.checkpoints import Checkpoint
from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints.base import Stored
from keraseff.checkpoints.safetensors_writer import parse_size
from keraseff.checkpoints.safetensors_writer import shard_files

TENSORS = {
    f'{i}.weight': np.random.default_rng(i).normal(size=(7, 10)).astype('float32')
    for i in range(6)
} | {'count': np.arange(4)}


@pytest.mark.parametrize(
    ('text', 'size'),
    [
        ('2GB', 2 * 10**9),
        ('500 mb', 5 * 10**8),
        ('1.5kB', 1500),
        ('64MiB', 2**26),
        ('1TiB', 2**40),
        ('77', 77),
        (10**6, 10**6),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    'text', ['', 'GB', '-1', '0', '2XB', '1e9', '2 G B', '1iB', None]
)
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match='is no size'):
        parse_size(text)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float64'])
def test_floating_point_is_cast_and_nothing_else(tmp_path, dtype):
    torch = pytest.importorskip('torch')
    library = pytest.importorskip('safetensors.torch')
    write_safetensors(tmp_path / 'm.safetensors', TENSORS, dtype=dtype)
    read = library.load_file(tmp_path / 'm.safetensors')
    for name, array in TENSORS.items():
        expected = torch.from_numpy(array)
        if name != 'count':
            expected = expected.to(getattr(torch, dtype))
        assert torch.equal(read[name], expected)
        assert read[name].dtype == expected.dtype


def test_bfloat16_rounds_to_even_and_keeps_the_odd_ones(tmp_path):
    values = np.array(
        [1 + 2**-8, 1 + 3 * 2**-8, np.inf, -np.inf, 3e38, -0.0], 'float32'
    )
    write_safetensors(tmp_path / 'm.safetensors', {'a': values}, dtype='bfloat16')
    found = np.asarray(open_checkpoint(tmp_path / 'm.safetensors')['a'], 'float32')
    expected = np.array([1, 1 + 2**-6, np.inf, -np.inf, 3e38, -0.0])
    np.testing.assert_allclose(found, expected, rtol=2**-8)
    np.testing.assert_array_equal(found[:2], expected[:2])
    nan = np.array([np.nan], 'float32')
    write_safetensors(tmp_path / 'n.safetensors', {'a': nan}, dtype='bfloat16')
    assert np.isnan(open_checkpoint(tmp_path / 'n.safetensors')['a'].astype('float32'))


def test_arrays_of_ml_dtypes_are_written_as_they_are(tmp_path):
    array = TENSORS['0.weight'].astype(ml_dtypes.bfloat16)
    write_safetensors(tmp_path / 'm.safetensors', {'a': array, 'b': array.T})
    found = open_checkpoint(tmp_path / 'm.safetensors')
    assert found.dtype('a') == array.dtype
    np.testing.assert_array_equal(found['b'], array.T)
    assert (tmp_path / 'm.safetensors').stat().st_size < 2 * 140 + 300


@pytest.mark.parametrize('limit', [280, 300, 600, 1000])
def test_shards_are_no_larger_than_asked(tmp_path, limit):
    path = tmp_path / 'model.safetensors'
    write_safetensors(path, TENSORS, max_shard_size=limit)
    shards = sorted(tmp_path.glob('model-*'))
    count = len(shards)
    assert [p.name for p in shards] == [
        f'model-{k:05d}-of-{count:05d}.safetensors' for k in range(1, count + 1)
    ]
    for shard in shards:
        held = open_checkpoint(shard)
        assert sum(array.nbytes for array in held.values()) <= limit
    index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
    assert index['metadata']['total_size'] == sum(a.nbytes for a in TENSORS.values())
    found = open_checkpoint(tmp_path)
    assert set(found) == set(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)
    assert set(shard_files(path)) == {
        *shards,
        tmp_path / 'model.safetensors.index.json',
    }
    assert set(found.files()) == set(shard_files(path))


def test_a_tensor_larger_than_a_shard_has_one_of_its_own(tmp_path):
    write_safetensors(tmp_path / 'm.safetensors', TENSORS, max_shard_size=50)
    assert len(list(tmp_path.glob('m-*'))) == len(TENSORS)


def test_one_form_takes_the_place_of_the_other(tmp_path):
    path = tmp_path / 'model.safetensors'
    write_safetensors(path, TENSORS)
    write_safetensors(path, {'b': np.zeros(100), 'c': np.ones(100)}, max_shard_size=900)
    assert set(open_checkpoint(tmp_path)) == {'b', 'c'}
    write_safetensors(path, TENSORS)
    assert set(open_checkpoint(tmp_path)) == set(TENSORS)


def test_a_failure_leaves_the_old_files(tmp_path):
    path = tmp_path / 'model.safetensors'
    write_safetensors(path, TENSORS)
    before = path.read_bytes()

    def fail():
        raise CheckpointError('source', 'ends here.')

    broken = dict.fromkeys(
        'ab', Stored((100,), np.dtype('float32'), lambda: np.ones(100))
    )
    broken['c'] = Stored((100,), np.dtype('float32'), fail)
    source = Checkpoint(None, 'huggingface', broken)
    for limit in (None, 500):
        with pytest.raises(CheckpointError, match='ends here'):
            write_safetensors(path, source, max_shard_size=limit)
        assert [p.name for p in tmp_path.iterdir()] == ['model.safetensors']
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    'tensors',
    [
        {'a': np.array(['text'])},
        {'a': np.array([1j])},
        {'__metadata__': np.zeros(1)},
        {'\ud800': np.zeros(1)},
    ],
    ids=ascii,
)
def test_what_the_format_does_not_know(tmp_path, tensors):
    with pytest.raises(CheckpointError, match='cannot be written'):
        write_safetensors(tmp_path / 'm.safetensors', tensors)
    assert not list(tmp_path.iterdir())


def test_one_tensor_at_a_time_in_memory(tmp_path):
    def make():
        return np.ones((1000, 1000), 'float32')

    stored = Stored((1000, 1000), np.dtype('float32'), make)
    source = Checkpoint(None, 'huggingface', {f't{i}': stored for i in range(20)})
    tracemalloc.start()
    write_safetensors(tmp_path / 'm.safetensors', source, dtype='float16')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / 'm.safetensors').stat().st_size > 40_000_000
    assert peak < 16_000_000


def test_numbers_in_the_other_byte_order(tmp_path):
    array = np.arange(5, dtype='>f4')
    write_safetensors(tmp_path / 'm.safetensors', {'a': array})
    np.testing.assert_array_equal(
        open_checkpoint(tmp_path / 'm.safetensors')['a'], array
    )
