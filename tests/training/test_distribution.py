"""Training on several devices, here virtual ones, equals training on one."""

import os
import socket
import subprocess
import sys

import devices
import keras
import numpy as np
import pytest
from conftest import ROOT

from keraseff.training.distribution import connect
from keraseff.training.distribution import distribute
from keraseff.training.distribution import distribution
from keraseff.training.distribution import processes

BACKEND = keras.config.backend()
SECONDS = 600  # on a busy machine


def start(*words, **environment):
    """A process that runs a function of `devices.py`."""
    environment = {**os.environ, **environment, 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, str(ROOT / 'tests' / 'devices.py'), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


def finish(*processes):
    """Wait for them all; none outlives this."""
    try:
        said = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text[-3000:]


def only(*backends):
    return pytest.mark.skipif(
        BACKEND not in backends, reason=f'of {" and ".join(backends)} alone'
    )


@pytest.mark.every_backend
@only('jax', 'tensorflow')
def test_several_devices_compute_as_one():
    """Training, and under JAX every family with its matrices split."""
    tasks = ['spread', 'split'] if BACKEND == 'jax' else ['spread']
    finish(*map(start, tasks))


def free_ports(count):
    """Ports of this machine that nobody listens to."""
    try:
        sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
    except OSError as error:
        pytest.skip(f'no sockets here: {error}')
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.mark.every_backend
@only('jax', 'tensorflow')
def test_two_processes_train_as_one(tmp_path):
    """With an Evaluator, which keeps what the first of them finds the best."""
    addresses = ','.join(f'127.0.0.1:{port}' for port in free_ports(2))
    members = [
        start(
            'member',
            str(tmp_path),
            KERAS_DISTRIBUTION_JOB_ADDRESSES=addresses,
            KERAS_DISTRIBUTION_NUM_PROCESSES='2',
            KERAS_DISTRIBUTION_PROCESS_ID=str(index),
        )
        for index in range(2)
    ]
    alone = devices.alone(tmp_path / 'alone')
    finish(*members)
    first, second = (np.load(tmp_path / f'{index}.npz') for index in range(2))
    for name, expected in zip(('weights', 'scores'), alone, strict=True):
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], expected, atol=1e-5)


def test_no_distribution_is_none():
    model = object()
    assert distribute(model, 'none') is model
    assert distribute(lambda: model, 'none') is model
    with distribution('none'):
        assert keras.distribution.distribution() is None
    assert processes() == (0, 1)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="how='both' is none of: none, data, model"):
        distribute(how='both')
    if BACKEND == 'torch':
        with pytest.raises(ValueError, match='KERAS_BACKEND=jax'):
            distribute(how='data')
        return
    with pytest.raises(ValueError, match='devices=7'):
        distribute(how='data', devices=7)
    with pytest.raises(ValueError, match='shards=3: 1 devices'):
        distribute(how='model', shards=3)
    if BACKEND == 'tensorflow':
        with pytest.raises(ValueError, match='KERAS_BACKEND=jax'):
            distribute(how='model')


def test_a_process_must_know_which_it_is(monkeypatch):
    monkeypatch.setenv('KERAS_DISTRIBUTION_JOB_ADDRESSES', 'a:1,b:1')
    with pytest.raises(ValueError, match='PROCESS_ID=None: say which of the 2'):
        connect()
    with pytest.raises(ValueError, match='PROCESS_ID=2'):
        connect(index=2)
