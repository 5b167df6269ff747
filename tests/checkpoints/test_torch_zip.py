import collections
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints.torch_zip import TorchCheckpoint

torch = pytest.importorskip('torch')

DTYPES = (
    'float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64'
).split()

formats = pytest.mark.parametrize('new', [True, False], ids=['zip', 'legacy'])


def save(value, path, new=True):
    torch.save(value, path, _use_new_zipfile_serialization=new)
    return path


def as_numpy(tensor):
    tensor = tensor.detach()
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)


def assert_same(checkpoint, tensors):
    assert list(checkpoint) == list(tensors)
    for name, tensor in tensors.items():
        value = as_numpy(tensor)
        assert checkpoint.shape(name) == value.shape
        assert checkpoint.dtype(name) == checkpoint[name].dtype == value.dtype
        np.testing.assert_array_equal(checkpoint[name], value)


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@formats
def test_dtypes(tmp_path, new):
    torch.manual_seed(0)
    tensors = {d: (torch.randn(3, 5) * 9).to(getattr(torch, d)) for d in DTYPES}
    tensors |= {'scalar': torch.tensor(2.5), 'empty': torch.zeros(0, 4)}
    assert_same(TorchCheckpoint(save(tensors, tmp_path / 'm.bin', new)), tensors)


@formats
def test_views(tmp_path, new):
    base = torch.randn(6, 8)
    tensors = {
        'whole': base,
        'transposed': base.t(),
        'part': base[1:4, 2:7:2],
        'row': base[3],
        'tied': base,
        'expanded': torch.tensor([3.0]).expand(5),
        'permuted': torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1),
        'half': base.bfloat16().t(),
    }
    checkpoint = TorchCheckpoint(save(tensors, tmp_path / 'm.bin', new))
    assert_same(checkpoint, tensors)
    # The older format does not align its storages, so those are copied.
    if new:
        assert np.shares_memory(checkpoint['whole'], checkpoint['tied'])


def test_zip_is_mapped_in_place(tmp_path):
    path = save({'w': torch.randn(4, 4)}, tmp_path / 'm.bin')
    checkpoint = TorchCheckpoint(path)
    assert np.shares_memory(checkpoint['w'], checkpoint['w'])
    assert not checkpoint['w'].flags.writeable


@formats
def test_module_state(tmp_path, new):
    layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state = layer.state_dict()
    path = save(state, tmp_path / 'm.pt', new)
    checkpoint = open_checkpoint(path)
    assert_same(checkpoint, state)
    assert checkpoint.dialect == 'huggingface'
    assert checkpoint.shape('0.weight') == (4, 3)


@formats
@pytest.mark.parametrize('key', ['state_dict', 'model', 'anything'])
def test_one_level_is_unwrapped(tmp_path, new, key):
    tensors = collections.OrderedDict(a=torch.ones(2), b=torch.zeros(1))
    training = {'epoch': 3, 'best': 0.5, 'shape': torch.Size([2]), 'none': None}
    training |= {'args': ['x', {'y': 1}], 'type': torch.float32, key: tensors}
    path = save(training, tmp_path / 'm.pth', new)
    assert_same(open_checkpoint(path), tensors)


def test_wrapped_model_is_preferred_to_the_optimizer(tmp_path):
    optimizer = {'m': torch.ones(1)}
    path = tmp_path / 'm.pt'
    save({'optimizer': optimizer, 'model': {'w': torch.ones(2)}}, path)
    assert list(TorchCheckpoint(path)) == ['w']
    save({'optimizer': optimizer, 'network': {'w': torch.ones(2)}}, path)
    with pytest.raises(CheckpointError, match='several groups'):
        TorchCheckpoint(path)


@formats
def test_parameters(tmp_path, new):
    parameters = {'w': torch.nn.Parameter(torch.randn(2, 3))}
    assert_same(TorchCheckpoint(save(parameters, tmp_path / 'm', new)), parameters)


@formats
def test_names_of_early_conversions(tmp_path, new):
    tensors = {
        'module.bert.LayerNorm.gamma': torch.ones(1),
        'module.bert.LayerNorm.beta': torch.zeros(1),
        'module.gamma': torch.ones(1),
    }
    checkpoint = TorchCheckpoint(save(tensors, tmp_path / 'm', new))
    assert list(checkpoint) == ['bert.LayerNorm.weight', 'bert.LayerNorm.bias', 'gamma']


def test_unsigned_types_without_a_storage_of_their_own(tmp_path):
    tensors = {'w': torch.arange(5).to(torch.uint16)}
    assert_same(TorchCheckpoint(save(tensors, tmp_path / 'm')), tensors)


@formats
def test_commands_are_refused_and_not_run(tmp_path, new):
    proof = tmp_path / 'proof'
    path = save({'w': torch.ones(1), 'x': Command(proof)}, tmp_path / 'm.bin', new)
    with pytest.raises(CheckpointError, match=r'\.system'):
        TorchCheckpoint(path)
    assert not proof.exists()


@formats
def test_whole_modules_are_refused(tmp_path, new):
    path = save(torch.nn.Linear(1, 1), tmp_path / 'm.bin', new)
    with pytest.raises(CheckpointError, match='torch.nn.modules.linear.Linear'):
        TorchCheckpoint(path)


@formats
@pytest.mark.parametrize('value', [torch.ones(2), [torch.ones(2)], {'epoch': 3}, 7])
def test_no_state_dict(tmp_path, new, value):
    with pytest.raises(CheckpointError, match='no dict of tensors'):
        TorchCheckpoint(save(value, tmp_path / 'm.bin', new))


def test_windows_of_a_storage(tmp_path):
    # As PyTorch before 0.4 wrote them: (key, first, length) at the end of the id.
    class Window:
        def __init__(self, first, length):
            self.view = f'view {first}', first, length

    class Tensor:
        def __init__(self, window, *rest):
            self.arguments = (window, *rest)

        def __reduce__(self):
            return torch._utils._rebuild_tensor, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Window):
                kind = torch.FloatStorage
                return 'storage', kind, 'root', 'cpu', 12, value.view
            return None

    path = tmp_path / 'm.bin'
    root = np.arange(12, dtype='<f4')
    tensors = {
        'a': Tensor(Window(2, 6), 1, (2, 2), (1, 2)),
        'b': Tensor(Window(8, 4), 0, (4,), (1,)),
    }
    with open(path, 'wb') as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True}):
            pickle.dump(value, file, 2)
        Pickler(file, 2).dump(tensors)
        pickle.dump(['root'], file, 2)
        file.write((12).to_bytes(8, 'little') + root.tobytes())
    assert_same(TorchCheckpoint(path), torch.load(path))


def test_compressed_archives_are_refused(tmp_path):
    source = save({'w': torch.zeros(100_000)}, tmp_path / 'm.bin')
    packed = tmp_path / 'packed.bin'
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(CheckpointError, match='compressed'):
        TorchCheckpoint(packed)


def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / 'm.bin', 'w') as archive:
        archive.writestr('readme.txt', 'hello')
    with pytest.raises(CheckpointError, match='not of torch.save'):
        TorchCheckpoint(tmp_path / 'm.bin')


def rewritten(source, target, old, new):
    """The archive with bytes of its pickle replaced and checksums made right."""
    with (
        zipfile.ZipFile(source) as before,
        zipfile.ZipFile(target, 'w', zipfile.ZIP_STORED) as after,
    ):
        for name in before.namelist():
            data = before.read(name)
            if name.endswith('data.pkl'):
                assert old in data
                data = data.replace(old, new)
            after.writestr(name, data)
    return target


LONG = b'\x8a\x07' + (2**50).to_bytes(7, 'little')


@pytest.mark.parametrize(
    ('old', 'new', 'word'),
    [
        (b'K\x07K\x0b\x86', LONG + LONG + b'\x86', 'beyond its storage'),
        (b'K\x07K\x0b\x86', b'K\x07\x85', 'strides'),
        (b'K\x07K\x0b\x86', b'J\xff\xff\xff\xffK\x0b\x86', 'side'),
        (b'K\x07K\x0b\x86', b'G' + bytes(8) + b'K\x0b\x86', 'side'),
        (b'K\x07K\x0b\x86', b'K\x07', 'shape'),
        (b'K\x0bK\x01\x86', b'K\x0bK\x0b\x86', 'beyond its storage'),
        (b'K\x0bK\x01\x86', b'J\xff\xff\xff\xffK\x01\x86', 'side'),
        # Strides of 0 that make a huge array of a small storage.
        (
            b'K\x07K\x0b\x86q\x04K\x0bK\x01',
            LONG + b'K\x0b\x86q\x04K\x00K\x01',
            'beyond',
        ),
    ],
)
def test_declared_shapes_must_fit(tmp_path, old, new, word):
    source = save({'w': torch.randn(7, 11)}, tmp_path / 'm.bin')
    with zipfile.ZipFile(source) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith('data.pkl')]
        pickled = archive.read(name)
    if old not in pickled:
        # Memo numbers depend on the version of PyTorch.
        start = pickled.index(b'K\x07K\x0b\x86')
        old = pickled[start : pickled.index(b'K\x0bK\x01', start) + 4]
        memo = old[5:-4]
        new = new.replace(b'q\x04', memo)
    with pytest.raises(CheckpointError, match=word):
        TorchCheckpoint(rewritten(source, tmp_path / 'n.bin', old, new))


@formats
def test_shared_lists_take_no_time(tmp_path, new):
    # Shown in an error, this shape would have 2**40 parts.
    shape = []
    for _ in range(40):
        shape = [shape, shape]

    class Odd:
        def __reduce__(self):
            storage = torch.ones(4).untyped_storage()
            typed = torch.storage.TypedStorage(
                wrap_storage=storage, dtype=torch.float32, _internal=True
            )
            rebuild = torch._utils._rebuild_tensor_v2
            return rebuild, (typed, 0, (shape, 2**40000), (1, 1), False, None)

    path = save({'w': Odd()}, tmp_path / 'm.bin', new)
    with pytest.raises(CheckpointError, match='a side of a list'):
        TorchCheckpoint(path)


def test_sharded_folder(tmp_path):
    save({'a': torch.ones(2)}, tmp_path / 'pytorch_model-1.bin')
    save({'x.LayerNorm.gamma': torch.zeros(3)}, tmp_path / 'pytorch_model-2.bin')
    (tmp_path / 'pytorch_model.bin.index.json').write_text(
        '{"weight_map": {"a": "pytorch_model-1.bin", '
        '"x.LayerNorm.gamma": "pytorch_model-2.bin"}}'
    )
    checkpoint = open_checkpoint(tmp_path)
    expected = {'a': torch.ones(2), 'x.LayerNorm.weight': torch.zeros(3)}
    assert_same(checkpoint, expected)
