"""Damaged files of every kind: an error that says so, or the true data; never more."""

import signal
from contextlib import contextmanager

import numpy as np
import pytest

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow

TENSORS = {
    f'layer.{i}.{name}': np.random.default_rng(i).normal(size=(5, 3)).astype('float32')
    for i in range(4)
    for name in ('weight', 'bias')
}


def tensorflow(folder):
    write_tensorflow(folder / 'm', TENSORS)
    return folder / 'm.index'


def safetensors(folder):
    write_safetensors(folder / 'm.safetensors', TENSORS)
    return folder / 'm.safetensors'


def torch_zip(folder, new=True):
    torch = pytest.importorskip('torch')
    state = {name: torch.from_numpy(value) for name, value in TENSORS.items()}
    torch.save(state, folder / 'm.bin', _use_new_zipfile_serialization=new)
    return folder / 'm.bin'


def torch_legacy(folder):
    return torch_zip(folder, new=False)


def keras_h5(folder):
    h5py = pytest.importorskip('h5py')
    with h5py.File(folder / 'tf_model.h5', 'w') as root:
        root.attrs['layer_names'] = [b'layer']
        group = root.create_group('layer')
        names = [name.replace('.', '/') for name in TENSORS]
        group.attrs['weight_names'] = [f'{name}:0'.encode() for name in names]
        for name, value in zip(names, TENSORS.values(), strict=True):
            group[f'{name}:0'] = value
    return folder / 'tf_model.h5'


every_format = pytest.mark.parametrize(
    'make', [tensorflow, safetensors, torch_zip, torch_legacy, keras_h5]
)


@contextmanager
def at_most(seconds):
    def stop(*_):
        raise TimeoutError(f'a damaged file took more than {seconds} s')

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def read_all(path):
    """The tensors, or None where the file is refused; nothing else may be raised."""
    try:
        checkpoint = open_checkpoint(path)
        return {name: np.array(checkpoint[name]) for name in checkpoint}
    except CheckpointError:
        return None


def same(read):
    return set(read) == set(TENSORS) and all(
        np.array_equal(read[name], value) for name, value in TENSORS.items()
    )


@every_format
def test_undamaged(tmp_path, make):
    assert same(read_all(make(tmp_path)))


@every_format
def test_truncated(tmp_path, make):
    path = make(tmp_path)
    data = path.read_bytes()
    cuts = sorted(
        {*range(40), *range(0, len(data), 61), *range(len(data) - 80, len(data))}
    )
    with at_most(20):
        for cut in cuts:
            path.write_bytes(data[:cut])
            read = read_all(path)
            assert read is None or same(read), cut


def test_truncated_data_file(tmp_path):
    path = tensorflow(tmp_path).with_name('m.data-00000-of-00001')
    data = path.read_bytes()
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        assert read_all(tmp_path / 'm') is None


@every_format
def test_flipped_bits(tmp_path, make):
    path = make(tmp_path)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    resource = pytest.importorskip('resource')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with at_most(30):
        for _ in range(400):
            broken = bytearray(data)
            for position in random.integers(0, len(data), random.integers(1, 4)):
                broken[position] ^= 1 << int(random.integers(8))
            path.write_bytes(broken)
            read = read_all(path)
            if make is tensorflow:
                assert read is None or same(read)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f'{grown} KiB were allocated'


@every_format
def test_random_bytes_spliced_in(tmp_path, make):
    path = make(tmp_path)
    data = path.read_bytes()
    random = np.random.default_rng(1)
    with at_most(30):
        for _ in range(200):
            start = int(random.integers(len(data)))
            size = int(random.integers(1, 40))
            kind = random.integers(3)
            fill = random.bytes(size) if kind else b'\xff' * size
            rest = data[start + (size if kind == 2 else 0) :]
            path.write_bytes(data[:start] + fill + rest)
            read = read_all(path)
            if make is tensorflow:
                assert read is None or same(read)
