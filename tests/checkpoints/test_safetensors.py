import json

import numpy as np
import pytest

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import DictCheckpoint
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints.safetensors import SafetensorsCheckpoint

DTYPES = 'float64 float32 float16 int64 int32 int16 int8 uint8 uint16 bool'.split()


def samples():
    random = np.random.default_rng(0)
    tensors = {f'of.{d}': (random.normal(size=(3, 5)) * 9).astype(d) for d in DTYPES}
    return tensors | {
        'scalar': np.array(2.5, 'float32'),
        'empty': np.zeros((0, 4), 'int32'),
        'transposed': random.normal(size=(4, 6)).astype('float32').T,
    }


def assert_same(checkpoint, tensors):
    assert set(checkpoint) == set(tensors)
    for name, value in tensors.items():
        assert checkpoint.shape(name) == value.shape
        assert checkpoint.dtype(name) == checkpoint[name].dtype == value.dtype
        np.testing.assert_array_equal(checkpoint[name], value)


def raw(path, header, data=b''):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + data)
    return path


def test_reads_what_the_library_writes(tmp_path):
    library = pytest.importorskip('safetensors.numpy')
    tensors = {name: value.copy() for name, value in samples().items()}
    library.save_file(tensors, tmp_path / 'm.safetensors', {'format': 'np'})
    checkpoint = open_checkpoint(tmp_path / 'm.safetensors')
    assert checkpoint.dialect == 'huggingface'
    assert checkpoint.metadata == {'format': 'np'}
    assert_same(checkpoint, tensors)


def test_the_library_reads_what_is_written(tmp_path):
    library = pytest.importorskip('safetensors.numpy')
    tensors = samples()
    write_safetensors(tmp_path / 'deep' / 'm.safetensors', tensors)
    read = library.load_file(tmp_path / 'deep' / 'm.safetensors')
    assert set(read) == set(tensors)
    for name, value in tensors.items():
        assert read[name].shape == value.shape
        np.testing.assert_array_equal(read[name], value)
    assert [p.name for p in (tmp_path / 'deep').iterdir()] == ['m.safetensors']


def test_torch_bfloat16(tmp_path):
    torch = pytest.importorskip('torch')
    library = pytest.importorskip('safetensors.torch')
    value = torch.randn(4, 3).bfloat16()
    library.save_file({'half': value}, tmp_path / 'm.safetensors')
    checkpoint = open_checkpoint(tmp_path / 'm.safetensors')
    assert checkpoint.dtype('half') == checkpoint['half'].dtype == 'bfloat16'
    found = checkpoint['half'].astype('float32')
    np.testing.assert_array_equal(found, value.float().numpy())


def test_dialect_is_kept(tmp_path):
    source = DictCheckpoint({'bert/w': np.ones(2)}, 'tensorflow')
    write_safetensors(tmp_path / 'm.safetensors', source)
    assert open_checkpoint(tmp_path).dialect == 'tensorflow'
    notes = {'dialect': 'klingon'}
    write_safetensors(tmp_path / 'm.safetensors', {'w': np.ones(2)}, notes)
    with pytest.raises(CheckpointError, match='klingon'):
        open_checkpoint(tmp_path)


def test_old_names_of_layer_norm(tmp_path):
    names = 'a.LayerNorm.gamma', 'a.LayerNorm.beta', 'gamma'
    write_safetensors(tmp_path / 'm.safetensors', dict.fromkeys(names, np.ones(1)))
    expected = {'a.LayerNorm.weight', 'a.LayerNorm.bias', 'gamma'}
    assert set(open_checkpoint(tmp_path)) == expected


def sharded(folder, files):
    weight_map = {}
    for file, tensors in files.items():
        write_safetensors(folder / file, tensors)
        weight_map |= dict.fromkeys(tensors, file)
    index = folder / 'model.safetensors.index.json'
    index.write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
    return index


def test_shards(tmp_path):
    first, second = {'a': np.arange(3.0)}, {'b': np.arange(4), 'c': np.ones((2, 2))}
    index = sharded(tmp_path, {'m-1.safetensors': first, 'm-2.safetensors': second})
    assert_same(open_checkpoint(index), first | second)
    assert_same(open_checkpoint(tmp_path), first | second)
    (tmp_path / 'm-2.safetensors').unlink()
    with pytest.raises(CheckpointError, match='m-2.safetensors.*missing'):
        open_checkpoint(index)


@pytest.mark.parametrize(
    'name', ['../m.safetensors', '/etc/passwd', '..', '', 'C:\\m', 'a/b', 3, None]
)
def test_shards_stay_in_their_folder(tmp_path, name):
    (tmp_path / 'in').mkdir()
    write_safetensors(tmp_path / 'm.safetensors', {'w': np.ones(1)})
    index = tmp_path / 'in' / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {'w': name}}))
    with pytest.raises(CheckpointError, match='outside'):
        open_checkpoint(index)


def test_shard_must_have_what_the_index_lists(tmp_path):
    index = sharded(tmp_path, {'m-1.safetensors': {'a': np.ones(1)}})
    listed = {'a': 'm-1.safetensors', 'b': 'm-1.safetensors'}
    index.write_text(json.dumps({'weight_map': listed}))
    with pytest.raises(CheckpointError, match="lacks 'b'"):
        open_checkpoint(index)


def entry(shape, start, stop, dtype='F32'):
    return {'dtype': dtype, 'shape': shape, 'data_offsets': [start, stop]}


@pytest.mark.parametrize(
    ('header', 'data'),
    [
        ({'w': entry([2**40, 2**40], 0, 8)}, bytes(8)),
        ({'w': entry([2**61], 0, 2**63 - 1)}, bytes(8)),
        ({'w': entry([2], 0, 8)}, bytes(7)),
        ({'w': entry([2], 0, 8)}, bytes(9)),
        ({'w': entry([2], 4, 12)}, bytes(12)),
        ({'v': entry([2], 0, 8), 'w': entry([2], 4, 12)}, bytes(12)),
        ({'w': entry([-2, -1], 0, 8)}, bytes(8)),
        ({'w': entry([True, 2], 0, 8)}, bytes(8)),
        ({'w': entry([2.0], 0, 8)}, bytes(8)),
        ({'w': entry('2', 0, 8)}, bytes(8)),
        ({'w': entry([1] * 40, 0, 4)}, bytes(4)),
        ({'w': entry([2], 8, 0)}, bytes(8)),
        ({'w': {'dtype': 'F32', 'shape': [2]}}, bytes(8)),
        ({'w': 3}, b''),
        ({'w': entry([2], 0, 8, [])}, bytes(9)),
        ({'__metadata__': 3}, b''),
        ({'__metadata__': {'dialect': [1]}}, b''),
        ([1], b''),
        (b'{"w": ', b''),
        (b'\xff\xfe', b''),
        (b'[' * 100_000, b''),
        (b'{"w":' * 100_000, b''),
        (b'{"a": 1, "a": 1}', b''),
        (b'{"a": ' + b'9' * 5000 + b'}', b''),
    ],
)
def test_damaged_headers(tmp_path, header, data):
    with pytest.raises(CheckpointError):
        SafetensorsCheckpoint(raw(tmp_path / 'm.safetensors', header, data))


def test_unknown_dtype_is_listed_but_not_read(tmp_path):
    header = {'w': entry([2], 0, 2, 'F8_E4M3')}
    checkpoint = SafetensorsCheckpoint(raw(tmp_path / 'm', header, bytes(2)))
    assert checkpoint.shape('w') == (2,)
    with pytest.raises(CheckpointError, match='F8_E4M3'):
        checkpoint['w']
