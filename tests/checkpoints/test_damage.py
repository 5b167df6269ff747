"""Damaged files of every kind: an error that says so, or the true data; never more."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from mutations import DAMAGES
from mutations import MAKERS
from mutations import TENSORS

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint

every_format = pytest.mark.parametrize('kind', MAKERS)


def make(kind, folder):
    if kind.startswith('torch'):
        pytest.importorskip('torch')
    return MAKERS[kind](folder)


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
def test_undamaged(tmp_path, kind):
    assert same(read_all(make(kind, tmp_path)))


@every_format
def test_truncated(tmp_path, kind):
    path = make(kind, tmp_path)
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
    path = make('tensorflow', tmp_path).with_name('m.data-00000-of-00001')
    data = path.read_bytes()
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        assert read_all(tmp_path / 'm') is None


@every_format
def test_flipped_bits(tmp_path, kind):
    path = make(kind, tmp_path)
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
            if kind == 'tensorflow':
                assert read is None or same(read)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f'{grown} KiB were allocated'


@every_format
def test_random_bytes_spliced_in(tmp_path, kind):
    path = make(kind, tmp_path)
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
            if kind == 'tensorflow':
                assert read is None or same(read)


# Runs where little memory is left: what a file declares must not be allocated.
CAMPAIGN = """
import pathlib, resource, signal, sys, warnings
import numpy as np
from mutations import DAMAGES
from keraseff.checkpoints import CheckpointError, open_checkpoint
warnings.simplefilter('ignore')
kind, path, count = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
data = path.read_bytes()
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)
for seed in range(count):
    signal.alarm(5)
    path.write_bytes(DAMAGES[kind](data, np.random.default_rng(seed)))
    try:
        checkpoint = open_checkpoint(path)
        checkpoint.check_complete()
        for name in list(checkpoint)[:100]:
            np.array(checkpoint[name])
    except CheckpointError as error:
        assert path.parent.name in str(error), (seed, error)
        assert len(str(error)) < 2000, seed
    except BaseException as error:
        raise AssertionError(f'seed {seed} of {kind}') from error
"""


@every_format
def test_damage_that_checksums_do_not_see(tmp_path, kind):
    pytest.importorskip('resource')
    if not Path('/proc/self/statm').is_file():
        pytest.skip('there is no /proc, which tells how much memory is in use')
    path = make(kind, tmp_path)
    folders = [str(ROOT), str(ROOT / 'tests')]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(folders))
    assert kind in DAMAGES
    run = subprocess.run(
        [sys.executable, '-c', CAMPAIGN, kind, str(path), '200'],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]
