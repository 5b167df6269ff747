import numpy as np
import pytest

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import DictCheckpoint
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow


@pytest.fixture
def prefix(tmp_path):
    write_tensorflow(tmp_path / 'bert_model.ckpt', {'w': np.arange(3.0)})
    return tmp_path / 'bert_model.ckpt'


@pytest.mark.parametrize('suffix', ['', '.index', '.data-00000-of-00001'])
def test_tensorflow_by_any_of_its_names(prefix, suffix):
    for source in (f'{prefix}{suffix}', prefix.with_name(prefix.name + suffix)):
        np.testing.assert_array_equal(open_checkpoint(source)['w'], [0, 1, 2])
    (prefix.parent / f'{prefix.name}.meta').write_bytes(b'')
    assert open_checkpoint(f'{prefix}.meta').path == prefix


def test_folder_with_a_state_file(prefix):
    write_tensorflow(prefix.with_name('model "2"'), {'v': np.ones(1)})
    assert list(open_checkpoint(prefix.parent)) == ['v']


def test_folder_with_one_index(prefix):
    (prefix.parent / 'checkpoint').unlink()
    assert list(open_checkpoint(prefix.parent)) == ['w']
    write_tensorflow(prefix.with_name('second'), {'v': np.ones(1)})
    (prefix.parent / 'checkpoint').unlink()
    with pytest.raises(CheckpointError, match='no weights found'):
        open_checkpoint(prefix.parent)


def test_state_file_of_another_machine(prefix):
    state = prefix.parent / 'checkpoint'
    state.write_text('model_checkpoint_path: "/home/someone/out/bert_model.ckpt"\n')
    assert open_checkpoint(prefix.parent).path == prefix
    for named in ('../bert_model.ckpt/..', '/etc/passwd', ''):
        state.write_text(f'model_checkpoint_path: "{named}"\n')
        with pytest.raises(CheckpointError, match='not beside it'):
            open_checkpoint(prefix.parent)
    state.write_text('nonsense')
    with pytest.raises(CheckpointError, match='model_checkpoint_path'):
        open_checkpoint(prefix.parent)


def test_safetensors_comes_first(prefix):
    write_safetensors(prefix.parent / 'model.safetensors', {'s': np.ones(1)})
    (prefix.parent / 'pytorch_model.bin').write_bytes(b'')
    (prefix.parent / 'tf_model.h5').write_bytes(b'')
    assert list(open_checkpoint(prefix.parent)) == ['s']
    (prefix.parent / 'model.safetensors').unlink()
    with pytest.raises(CheckpointError, match='pytorch_model.bin: .*empty'):
        open_checkpoint(prefix.parent)
    (prefix.parent / 'pytorch_model.bin').unlink()
    with pytest.raises(CheckpointError, match='tf_model.h5: .*empty'):
        open_checkpoint(prefix.parent)
    (prefix.parent / 'tf_model.h5').unlink()
    assert list(open_checkpoint(prefix.parent)) == ['w']


def test_nothing_found_says_what_lies_there(tmp_path):
    (tmp_path / 'config.json').write_text('{}')
    for path in (tmp_path, tmp_path / 'bert_model.ckpt'):
        with pytest.raises(CheckpointError, match='config.json.*expected.*safetensors'):
            open_checkpoint(path)
    with pytest.raises(CheckpointError, match='index: the index is missing'):
        open_checkpoint(tmp_path / 'm.ckpt.data-00000-of-00001')
    with pytest.raises(CheckpointError, match='does not exist'):
        open_checkpoint(tmp_path / 'absent' / 'bert_model.ckpt')
    (tmp_path / 'notes').write_text('hello')
    with pytest.raises(CheckpointError, match='of no known kind'):
        open_checkpoint(tmp_path / 'notes')


def test_torch_file_of_any_name(tmp_path):
    torch = pytest.importorskip('torch')
    for new in (True, False):
        path = tmp_path / f'weights-{new}'
        torch.save({'w': torch.ones(2)}, path, _use_new_zipfile_serialization=new)
        assert open_checkpoint(path)['w'].tolist() == [1, 1]


def test_dict():
    source = {'a': np.arange(3.0), 'b': [[1, 2]]}
    checkpoint = open_checkpoint(source)
    assert (checkpoint.dialect, checkpoint.path) == ('tensorflow', None)
    assert checkpoint.shape('b') == (1, 2)
    assert checkpoint['a'].tolist() == [0, 1, 2]
    assert not checkpoint['a'].flags.writeable
    assert source['a'].flags.writeable
    assert open_checkpoint(checkpoint) is checkpoint
    assert DictCheckpoint(source, 'huggingface').dialect == 'huggingface'
    with pytest.raises(CheckpointError, match='dialect'):
        DictCheckpoint(source, 'torch')
    with pytest.raises(CheckpointError, match='not an array'):
        DictCheckpoint({'a': object()})


def test_mapping(prefix):
    checkpoint = open_checkpoint(prefix)
    assert len(checkpoint) == 1
    assert 'w' in checkpoint
    assert 'x' not in checkpoint
    assert checkpoint.get('x') is None
    for ask in (checkpoint.__getitem__, checkpoint.shape, checkpoint.dtype):
        with pytest.raises(KeyError, match="No tensor 'ww'.*nearest names: .'w'"):
            ask('ww')
