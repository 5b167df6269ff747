"""Files made to do harm: each ends in an error that names it, soon and at no cost."""

import io
import json
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from mutations import TENSORS
from mutations import central_directory
from mutations import keras_h5
from mutations import local_member
from mutations import sharded

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow
from keraseff.checkpoints.bundle import HEADER
from keraseff.checkpoints.bundle import Entry
from keraseff.checkpoints.bundle import write_entry
from keraseff.checkpoints.sstable import write_table


def read_all(path):
    checkpoint = open_checkpoint(path)
    checkpoint.check_complete()
    for name in checkpoint:
        np.array(checkpoint[name])


def refused(path, match=None, seconds=5, megabytes=64):
    """The error that opening and reading a file ends in, at no cost."""
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(CheckpointError, match=match) as error:
            read_all(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < seconds
    assert peak < megabytes * 2**20, f'{peak / 2**20:.0f} MiB'
    assert os.path.basename(str(path)).split('.')[0] in str(error.value)
    return str(error.value)


def safetensors_file(path, header, data=b''):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + data)
    return path


def entry(shape, start=0, end=None, dtype='F32'):
    size = int(np.prod(shape, dtype=object)) * 4
    return {'dtype': dtype, 'shape': shape, 'data_offsets': [start, end or size]}


HUGE = [[2**40], [2**62, 2], [2**31, 2**31, 2**31], [2**63 - 1], [1] * 31 + [2**50]]


@pytest.mark.parametrize('shape', HUGE, ids=str)
def test_shapes_larger_than_the_file(shape, tmp_path):
    refused(safetensors_file(tmp_path / 'm.safetensors', {'a': entry(shape)}, b'1234'))
    size = int(np.prod(shape, dtype=object)) * 4
    for stated in (4, size % 2**63):
        item = Entry(1, tuple(shape), 0, 0, stated, 0)
        table = write_table([(b'', HEADER), (b'a', write_entry(item))])
        (tmp_path / 'm.index').write_bytes(table)
        (tmp_path / 'm.data-00000-of-00001').write_bytes(b'1234')
        refused(tmp_path / 'm')


def test_offsets_far_outside(tmp_path):
    for offset in (2**62, 2**63 - 8, -8 % 2**64):
        item = Entry(1, (1,), 0, offset, 4, 0)
        table = write_table([(b'', HEADER), (b'a', write_entry(item))])
        (tmp_path / 'm.index').write_bytes(table)
        (tmp_path / 'm.data-00000-of-00001').write_bytes(b'1234')
        refused(tmp_path / 'm')


def test_a_header_as_long_as_it_likes(tmp_path):
    path = tmp_path / 'm.safetensors'
    for size in (9, 10**8, 2**40, 2**64 - 1):
        path.write_bytes(size.to_bytes(8, 'little') + b'{}')
        refused(path, 'header')


DEEP = 200_000


@pytest.mark.parametrize(
    'text',
    [
        b'[' * DEEP + b']' * DEEP,
        b'{"a":' * DEEP + b'1' + b'}' * DEEP,
        b'[' * DEEP,
        b'{"a": 1, "a": 2}',
        b'{"weight_map": {"a": "x", "a": "y"}}',
        b'{"a": "\xff\xfe"}',
        b'{"a": ' + b'9' * 100_000 + b'}',
        b'{"a": NaN',
        b'null',
        b'',
    ],
    ids=lambda text: text[:20].decode(errors='replace'),
)
def test_json_of_every_evil_kind(text, tmp_path):
    refused(safetensors_file(tmp_path / 'm.safetensors', text))
    (tmp_path / 'm.safetensors.index.json').write_bytes(text)
    refused(tmp_path / 'm.safetensors.index.json')


def test_names_that_come_twice(tmp_path):
    one = json.dumps(entry([1])).encode()
    header = b'{"a": ' + one + b', "a": ' + one + b'}'
    refused(safetensors_file(tmp_path / 'm.safetensors', header, b'1234'), 'twice')


TRICKS = [
    '/etc/passwd',
    '../secret.safetensors',
    'sub/secret.safetensors',
    '..',
    '.',
    '',
    'a\0b.safetensors',
    'C:\\secret',
    '\\\\host\\share',
    'file:secret',
    'a\nb.safetensors',
    'x' * 300,
    '\ud800.safetensors',
    None,
    7,
    ['secret.safetensors'],
    {'a': 1},
]


@pytest.mark.parametrize('name', TRICKS, ids=ascii)
def test_shard_names_reach_no_other_folder(name, tmp_path):
    write_safetensors(tmp_path / 'secret.safetensors', TENSORS)
    (tmp_path / 'inner' / 'sub').mkdir(parents=True)
    write_safetensors(tmp_path / 'inner' / 'sub' / 'secret.safetensors', TENSORS)
    index = tmp_path / 'inner' / 'm.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': dict.fromkeys(TENSORS, name)}))
    refused(index, 'outside its own folder')


def test_shards_that_are_no_files(tmp_path):
    index = sharded(tmp_path)
    shard = sorted(tmp_path.glob('m-*'))[0]
    shard.unlink()
    refused(index, 'missing')
    os.mkfifo(shard)
    refused(index, 'missing')
    shard.unlink()
    shard.symlink_to('/dev/zero')
    refused(index, 'missing')
    shard.unlink()
    shard.symlink_to(shard)
    refused(index, 'missing')
    shard.unlink()
    shard.mkdir()
    refused(index, 'missing')


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    for name in ('model.safetensors', 'pytorch_model.bin', 'tf_model.h5', 'm.index'):
        os.mkfifo(tmp_path / name)
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / name)
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path)
        (tmp_path / name).unlink()
    with pytest.raises(CheckpointError):
        open_checkpoint('/dev/zero')


def test_an_index_that_lists_itself_or_another_index(tmp_path):
    first, second = (tmp_path / f'{x}.safetensors.index.json' for x in 'ab')
    for one, other in ((first, first), (first, second), (second, first)):
        one.write_text(json.dumps({'weight_map': {'w': other.name}}))
    refused(first)
    refused(second)


def test_links_that_go_in_circles(tmp_path):
    (tmp_path / 'a.safetensors').symlink_to(tmp_path / 'b.safetensors')
    (tmp_path / 'b.safetensors').symlink_to(tmp_path / 'a.safetensors')
    refused(tmp_path / 'a.safetensors')
    (tmp_path / 'loop').symlink_to(tmp_path)
    refused(tmp_path / 'loop' / 'loop' / 'loop')


def test_a_million_names_cost_what_they_weigh(tmp_path):
    names = {f'tensor.{i}': entry([0]) for i in range(30_000)}
    path = safetensors_file(tmp_path / 'm.safetensors', names)
    began = time.perf_counter()
    assert len(open_checkpoint(path)) == 30_000
    assert time.perf_counter() - began < 10


def bomb(path, method, pickled=b'\x80\x02}q\x00.'):
    """A zip whose storages unpack to ten megabytes of zeros."""
    with zipfile.ZipFile(path, 'w', method) as archive:
        archive.writestr('archive/data.pkl', pickled)
        archive.writestr('archive/data/0', bytes(10**7))
    return path


@pytest.mark.parametrize(
    'method', [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_zip_bombs_are_not_unpacked(method, tmp_path):
    path = bomb(tmp_path / 'm.bin', method)
    assert path.stat().st_size < 200_000
    refused(path, 'compressed', megabytes=8)


def torch_pickle(count, key='0'):
    """A state dict of `count` tensors that all lie in one storage."""
    out = io.BytesIO()
    out.write(b'\x80\x02}(')
    for i in range(count):
        name = f't{i}'.encode()
        out.write(b'X' + struct.pack('<I', len(name)) + name)
        out.write(b'ctorch._utils\n_rebuild_tensor_v2\n(')
        out.write(b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\n')
        out.write(b'X' + struct.pack('<I', len(key)) + key.encode())
        out.write(b'X\x03\x00\x00\x00cpuJ\xe8\x03\x00\x00tQ')
        out.write(b'K\x00M\xe8\x03\x85K\x01\x85\x89NtR')
    out.write(b'u.')
    return out.getvalue()


def overlapping(path, copies):
    """A zip whose many members are the same bytes of the file."""
    pickled = torch_pickle(2)
    data = local_member(b'archive/data.pkl', pickled)
    entries = [(b'archive/data.pkl', 0, len(pickled), zlib.crc32(pickled))]
    kernel = bytes(4000)
    start = len(data)
    data += local_member(b'archive/data/0', kernel)
    entries += [
        (f'archive/data/{i}'.encode(), start, 4000, zlib.crc32(kernel))
        for i in range(copies)
    ]
    path.write_bytes(central_directory(entries, data))
    return path


def test_members_that_overlap_cost_nothing(tmp_path):
    checkpoint = open_checkpoint(overlapping(tmp_path / 'm.bin', 60_000))
    assert len(checkpoint) == 2
    assert not checkpoint['t0'].any()


def test_tensors_that_repeat_one_number(tmp_path):
    torch = pytest.importorskip('torch')
    small = torch.zeros(1).expand(10**6)
    torch.save({'a': small}, tmp_path / 'm.bin')
    refused(tmp_path / 'm.bin', 'beyond its storage')


class Harm:
    """What a pickle may ask for; nothing of it may happen."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('protocol', range(6))
def test_nothing_is_executed(protocol, tmp_path):
    for wrapped in (Harm(tmp_path / 'harm'), {'a': [Harm(tmp_path / 'harm')]}):
        data = pickle.dumps(wrapped, protocol)
        with zipfile.ZipFile(tmp_path / 'm.bin', 'w') as archive:
            archive.writestr('archive/data.pkl', data)
        refused(tmp_path / 'm.bin', 'not among the names allowed')
        head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
        (tmp_path / 'n.bin').write_bytes(head + pickle.dumps({}, 2) + data)
        refused(tmp_path / 'n.bin', 'not among the names allowed')
    assert not (tmp_path / 'harm').exists()


def test_pickles_that_double_and_double(tmp_path):
    # Each tuple holds the one before it twice: 2^60 leaves, 60 objects.
    data = b'\x80\x02K\x01' + b'2\x86' * 60 + b'.'
    with zipfile.ZipFile(tmp_path / 'm.bin', 'w') as archive:
        archive.writestr('archive/data.pkl', data)
    refused(tmp_path / 'm.bin')
    # Lists that hold themselves.
    with zipfile.ZipFile(tmp_path / 'm.bin', 'w') as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02]q\x00h\x00a.')
    refused(tmp_path / 'm.bin')


def test_a_list_that_is_appended_to_itself_again_and_again(tmp_path):
    # list.extend(itself) would double it with each of 60 instructions.
    data = b'\x80\x02]q\x00K\x01a' + b'(h\x00h\x00e' * 60 + b'.'
    with zipfile.ZipFile(tmp_path / 'm.bin', 'w') as archive:
        archive.writestr('archive/data.pkl', data)
    refused(tmp_path / 'm.bin')


def test_long_numbers_in_pickles(tmp_path):
    for data in (
        b'\x80\x02\x8b' + struct.pack('<i', 2**31 - 1) + b'.',
        b'\x80\x02X' + struct.pack('<I', 2**32 - 1) + b'.',
        b'\x80\x04\x8d' + struct.pack('<Q', 2**63) + b'.',
        b'\x80\x04\x96' + struct.pack('<Q', 2**62) + b'.',
        b'I' + b'9' * 10**6 + b'\n.',
        b'L' + b'9' * 10**6 + b'L\n.',
    ):
        with zipfile.ZipFile(tmp_path / 'm.bin', 'w') as archive:
            archive.writestr('archive/data.pkl', data)
        refused(tmp_path / 'm.bin')


def test_h5_links_out_of_the_file(tmp_path):
    other = keras_h5(tmp_path)
    other = other.rename(tmp_path / 'secret.h5')
    path = tmp_path / 'tf_model.h5'
    for link in (
        h5py.ExternalLink('secret.h5', '/layer/layer'),
        h5py.SoftLink('/layer'),
        h5py.SoftLink('/nowhere'),
    ):
        with h5py.File(path, 'w') as root:
            root.attrs['layer_names'] = [b'layer']
            root.create_group('layer')['w'] = link
        refused(path, 'link')
    assert other.is_file()


def test_h5_groups_without_end(tmp_path):
    path = tmp_path / 'tf_model.h5'
    with h5py.File(path, 'w') as root:
        root.attrs['layer_names'] = [b'layer']
        group = root.create_group('layer')
        group['again'] = group
    refused(path, 'without end')


def test_h5_bombs(tmp_path):
    path = tmp_path / 'tf_model.h5'
    for options in (
        {'shape': (2**40,), 'dtype': 'f4', 'chunks': (1024,), 'compression': 'gzip'},
        {'shape': (2**40,), 'dtype': 'f4', 'chunks': (1024,)},
        {'shape': (2**30,), 'dtype': 'f4'},
    ):
        with h5py.File(path, 'w') as root:
            root.attrs['layer_names'] = [b'layer']
            root.create_group('layer').create_dataset('kernel', **options)
        refused(path, 'damaged')


def test_nothing_was_written_or_read_elsewhere(tmp_path):
    state = tmp_path / 'checkpoint'
    write_tensorflow(tmp_path / 'inner' / 'm', TENSORS)
    for name in ('inner/../../m', '/etc/passwd', '..', '.', '', 'm\\0', 'inner/'):
        state.write_text(f'model_checkpoint_path: "{name}"')
        refused(tmp_path)
    state.write_bytes(b'model_checkpoint_path: "' + b'a' * 10**6)
    refused(tmp_path)
