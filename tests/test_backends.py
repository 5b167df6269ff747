"""The tests marked every_backend, on the backends that this run does not use."""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import ROOT

CURRENT = os.environ['KERAS_BACKEND']
OTHERS = [b for b in ('tensorflow', 'jax', 'torch') if b != CURRENT]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """One pytest for each other backend, all at the same time."""
    folder, started = tmp_path_factory.mktemp('backends'), {}
    for backend in OTHERS:
        if importlib.util.find_spec(backend) is None:
            continue
        environment = dict(os.environ, KERAS_BACKEND=backend, KERASEFF_ONE_BACKEND='1')
        log = (folder / backend).open('w+', encoding='utf-8')
        command = [sys.executable, '-m', 'pytest', '-q', '-m', 'every_backend']
        started[backend] = log, subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    yield started
    for log, process in started.values():
        process.kill()
        log.close()


@pytest.mark.skipif('KERASEFF_ONE_BACKEND' in os.environ, reason='one backend only')
@pytest.mark.parametrize('backend', OTHERS)
def test_contracts_hold_on(backend, runs):
    if backend not in runs:
        pytest.skip(f'{backend} is not installed')
    log, process = runs[backend]
    code = process.wait()
    log.seek(0)
    lines = log.read().strip().splitlines()
    print(f'{backend}: {lines[-1]}')
    assert code == 0, '\n'.join(lines[-80:])
    assert ' passed' in lines[-1]
