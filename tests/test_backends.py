"""The tests marked every_backend, on the backends that this run does not use."""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import ROOT

CURRENT = os.environ['KERAS_BACKEND']
OTHERS = [b for b in ('tensorflow', 'jax', 'torch') if b != CURRENT]


@pytest.mark.parametrize('backend', OTHERS)
def test_contracts_hold_on(backend):
    if os.environ.get('KERASEFF_ONE_BACKEND'):
        pytest.skip('KERASEFF_ONE_BACKEND is set')
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f'{backend} is not installed')
    environment = dict(os.environ, KERAS_BACKEND=backend, KERASEFF_ONE_BACKEND='1')
    command = [sys.executable, '-m', 'pytest', '-q', '-m', 'every_backend', '-x']
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    summary = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else run.stderr
    print(f'{backend}: {summary}')
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert ' passed' in summary
