import h5py
import numpy as np
import pytest

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints.keras_h5 import torch_name

LAYER = 'bert/encoder/layer_._0'
TORCH = 'bert.encoder.layer.0'
ATTENTION = 'attention/self/query'
BODY = {
    'bert/embeddings/word/weight:0': 'bert.embeddings.word.weight',
    'bert/embeddings/position/embeddings:0': 'bert.embeddings.position.weight',
    'bert/embeddings/LayerNorm/gamma:0': 'bert.embeddings.LayerNorm.weight',
    'bert/embeddings/LayerNorm/beta:0': 'bert.embeddings.LayerNorm.bias',
    f'{LAYER}/{ATTENTION}/kernel:0': f'{TORCH}.attention.self.query.weight',
    f'{LAYER}/{ATTENTION}/bias:0': f'{TORCH}.attention.self.query.bias',
    f'{LAYER}/output/LayerNorm/gamma:0': f'{TORCH}.output.LayerNorm.weight',
    'bert/pooler/dense/kernel:0': 'bert.pooler.dense.weight',
}
CLS = 'mlm___cls/predictions'
MLM = {
    f'{CLS}/transform/dense/kernel:0': 'cls.predictions.transform.dense.weight',
    f'{CLS}/transform/LayerNorm/beta:0': 'cls.predictions.transform.LayerNorm.bias',
    f'{CLS}/bias:0': 'cls.predictions.bias',
}
NSP = {
    'nsp___cls/seq_relationship/kernel:0': 'cls.seq_relationship.weight',
    'nsp___cls/seq_relationship/bias:0': 'cls.seq_relationship.bias',
}


def array(weight, seed=[0]):  # noqa: B006
    seed[0] += 1
    leaf = weight.rsplit('/', 1)[1]
    one = leaf.startswith(('gamma', 'beta', 'bias'))
    random = np.random.default_rng(seed[0])
    return random.normal(size=(4,) if one else (4, 6)).astype('float32')


def write(path, model, layers, split=False, **options):
    """A file as transformers 2 to 4 wrote it; returns the arrays by PyTorch name."""
    expected = {}
    with h5py.File(path, 'w') as root:
        root.attrs['layer_names'] = np.array([name.encode() for name in layers])
        root.attrs['backend'] = b'tensorflow'
        for layer, weights in layers.items():
            group = root.create_group(layer)
            names = [f'{model}{weight}'.encode() for weight in weights]
            if split:
                group.attrs['weight_names0'] = np.array(names[:1])
                group.attrs['weight_names1'] = np.array(names[1:])
            else:
                group.attrs['weight_names'] = np.array(names)
            for weight, torch_name in weights.items():
                value = array(weight)
                group.create_dataset(f'{model}{weight}', data=value, **options)
                expected[torch_name] = value.T if 'kernel' in weight else value
    return expected


def assert_same(checkpoint, expected):
    assert checkpoint.dialect == 'huggingface'
    assert set(checkpoint) == set(expected)
    for name, value in expected.items():
        assert checkpoint.shape(name) == value.shape
        assert checkpoint.dtype(name) == checkpoint[name].dtype == value.dtype
        np.testing.assert_array_equal(checkpoint[name], value)


@pytest.mark.parametrize('model', ['tf_bert_for_pre_training/', 'tf_bert_model_1/', ''])
@pytest.mark.parametrize('options', [{}, {'compression': 'gzip'}, {'dtype': '>f4'}])
def test_with_heads(tmp_path, model, options):
    layers = {'bert': BODY, 'mlm___cls': MLM, 'nsp___cls': NSP}
    expected = write(tmp_path / 'tf_model.h5', model, layers, **options)
    assert_same(open_checkpoint(tmp_path), expected)


def test_without_head(tmp_path):
    layers = {'bert': BODY, 'dropout_37': {}}
    expected = write(tmp_path / 'tf_model.h5', 'tf_bert_model/', layers)
    assert_same(open_checkpoint(tmp_path / 'tf_model.h5'), expected)


def test_long_lists_of_names_are_split(tmp_path):
    layers = {'bert': BODY}
    expected = write(tmp_path / 'tf_model.h5', 'tf_bert_model/', layers, split=True)
    assert_same(open_checkpoint(tmp_path), expected)


def test_kernels_are_views(tmp_path):
    write(tmp_path / 'tf_model.h5', 'tf_bert_model/', {'bert': BODY})
    checkpoint = open_checkpoint(tmp_path)
    name = 'bert.pooler.dense.weight'
    assert np.shares_memory(checkpoint[name], checkpoint[name])


@pytest.mark.parametrize(
    ('weight', 'expected'),
    [
        ('tf_x/bert/encoder/layer_._11/a/kernel:0', 'bert.encoder.layer.11.a.weight'),
        ('tf_x/classifier/bias:0', 'classifier.bias'),
        ('bert/pooler/dense/kernel:0', 'bert.pooler.dense.weight'),
        ('tf_x/mlm___cls/predictions/bias:0', 'cls.predictions.bias'),
    ],
)
def test_names(weight, expected):
    assert torch_name('bert', weight) == expected


def listed(root, name='a/w:0'):
    root.attrs['layer_names'] = [b'a']
    group = root.create_group('a')
    group.attrs['weight_names'] = [name.encode()]
    return group


def test_links_are_not_followed(tmp_path):
    with h5py.File(tmp_path / 'other.h5', 'w') as other:
        other['w'] = np.ones(3)
    for link in (h5py.ExternalLink('other.h5', 'w'), h5py.SoftLink('/x')):
        with h5py.File(tmp_path / 'tf_model.h5', 'w') as root:
            root['x'] = np.ones(3)
            listed(root)['a/w:0'] = link
        with pytest.raises(CheckpointError, match='link'):
            open_checkpoint(tmp_path / 'tf_model.h5')


def test_groups_within_themselves(tmp_path):
    with h5py.File(tmp_path / 'tf_model.h5', 'w') as root:
        group = listed(root)
        group['again'] = group
    with pytest.raises(CheckpointError, match='without end'):
        open_checkpoint(tmp_path / 'tf_model.h5')


def test_arrays_must_lie_in_the_file(tmp_path):
    (tmp_path / 'secret').write_bytes(bytes(12))
    with h5py.File(tmp_path / 'tf_model.h5', 'w') as root:
        listed(root).create_dataset(
            'a/w:0', (3,), 'f4', external=[(str(tmp_path / 'secret'), 0, 12)]
        )
    with pytest.raises(CheckpointError, match='no array of this file'):
        open_checkpoint(tmp_path / 'tf_model.h5')


@pytest.mark.parametrize('options', [{}, {'chunks': (1024,), 'compression': 'gzip'}])
def test_declared_shapes_must_fit(tmp_path, options):
    with h5py.File(tmp_path / 'tf_model.h5', 'w') as root:
        # Nothing is written, so the file stays small.
        listed(root).create_dataset('a/w:0', (2**40,), 'f4', **options)
    with pytest.raises(CheckpointError, match='damaged'):
        open_checkpoint(tmp_path / 'tf_model.h5')


def test_other_files(tmp_path):
    with h5py.File(tmp_path / 'm.h5', 'w') as root:
        root['w'] = np.ones(3)
    with pytest.raises(CheckpointError, match='layer_names'):
        open_checkpoint(tmp_path / 'm.h5')
    (tmp_path / 'n.h5').write_bytes(b'no HDF5 at all')
    with pytest.raises(CheckpointError, match=r'no tf_model\.h5'):
        open_checkpoint(tmp_path / 'n.h5')
