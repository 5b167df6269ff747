"""The tests marked every_backend, on the backends that this run does not use."""

import os

import pytest

CURRENT = os.environ['KERAS_BACKEND']
OTHERS = [b for b in ('tensorflow', 'jax', 'torch') if b != CURRENT]


@pytest.mark.skipif('KERASEFF_ONE_BACKEND' in os.environ, reason='one backend only')
@pytest.mark.parametrize('backend', OTHERS)
def test_contracts_hold_on(backend, other_backends):
    if backend not in other_backends:
        pytest.skip(f'{backend} is not installed')
    log, process = other_backends[backend]
    code = process.wait()
    log.seek(0)
    lines = log.read().strip().splitlines()
    print(f'{backend}: {lines[-1]}')
    assert code == 0, '\n'.join(lines[-80:])
    assert ' passed' in lines[-1]
