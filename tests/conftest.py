"""What every test stands on: the backend, the seeds, the real data."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_torch = importlib.util.find_spec('torch') is not None
os.environ.setdefault('KERAS_BACKEND', 'torch' if _torch else 'tensorflow')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Hundreds of small models are compiled and each runs once.
# A flag that XLA does not know ends the process: only versions seen to are told.
SEEN = {'jax': ('jaxlib', '0.10.'), 'tensorflow': ('tensorflow', '2.21.')}


def xla_flags(backend):
    """What makes XLA compile the tests of a backend fast, and run them slowly.

    Its older emitters, and one module instead of several, take a fifth of the time.
    """
    flags = ['--xla_backend_optimization_level=0']
    package, version = SEEN.get(backend, ('', ''))
    found = importlib.util.find_spec(package) if package else None
    if found and importlib.metadata.version(package).startswith(version):
        flags.append('--xla_cpu_use_fusion_emitters=false')
        flags.append('--xla_cpu_parallel_codegen_split_count=1')
    return ' '.join(flags)


GIVEN_FLAGS = os.environ.get('XLA_FLAGS')
os.environ.setdefault('XLA_FLAGS', xla_flags(os.environ['KERAS_BACKEND']))

ROOT = Path(__file__).resolve().parent.parent


def find_data():
    """The folder of real data sets, or None."""
    given = os.environ.get('KERASEFF_DATA')
    folder = Path(given) if given else ROOT.parent / 'shared' / 'data'
    return folder if folder.is_dir() else None


OTHER_BACKENDS = [
    name
    for name in ('tensorflow', 'jax', 'torch')
    if name != os.environ['KERAS_BACKEND'] and importlib.util.find_spec(name)
]


def pytest_collection_modifyitems(items):
    """What waits for the other backends comes last."""
    items.sort(key=lambda item: item.path.name == 'test_backends.py')


@pytest.fixture(scope='session', autouse=True)
def other_backends(request, tmp_path_factory):
    """{backend: (log, process)}: the contracts, beside everything else.

    They start with the session if `test_backends.py` is part of it.
    """
    started = {}
    asked = any(i.path.name == 'test_backends.py' for i in request.session.items)
    if asked and 'KERASEFF_ONE_BACKEND' not in os.environ:
        folder = tmp_path_factory.mktemp('backends')
        for name in OTHER_BACKENDS:
            environment = dict(os.environ, KERAS_BACKEND=name, KERASEFF_ONE_BACKEND='1')
            environment['XLA_FLAGS'] = GIVEN_FLAGS or xla_flags(name)
            log = (folder / name).open('w+', encoding='utf-8')
            command = [sys.executable, '-m', 'pytest', '-q', '-m', 'every_backend']
            started[name] = (
                log,
                subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=log, stderr=log
                ),
            )
    yield started
    for log, process in started.values():
        process.kill()
        process.wait()
        log.close()


@pytest.fixture(scope='session')
def data_dir():
    """The folder of real data sets; the test is skipped where there is none."""
    folder = find_data()
    if folder is None:
        pytest.skip('no real data: set KERASEFF_DATA, or put it in ../shared/data')
    return folder


@pytest.fixture(autouse=True)
def _seeds():
    """The same random numbers for each test, whatever ran before it."""
    np.random.seed(0)
    if 'keras' in sys.modules:
        import keras

        keras.utils.set_random_seed(0)
    yield
    if 'keras' in sys.modules:
        import keras

        keras.config.set_dtype_policy('float32')


@pytest.fixture
def rng():
    """A numpy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope='session')
def bert4keras_python(request):
    """A Python that has bert4keras 0.11.5, for tests marked `live_peer`.

    `KERASEFF_BERT4KERAS` names one; else `-m live_peer` makes an environment of its own
    in pytest's cache, once.  Other runs skip, and so does one that cannot install it.
    """
    given = os.environ.get('KERASEFF_BERT4KERAS')
    if given:
        return given
    if 'live_peer' not in request.config.getoption('markexpr', ''):
        pytest.skip('bert4keras itself runs with `-m live_peer`')
    folder = request.config.cache.mkdir('bert4keras')
    python = folder / 'bin' / 'python'
    done = folder / 'installed'
    if not done.exists():
        try:
            subprocess.run([sys.executable, '-m', 'venv', folder], check=True)
            pip = [python, '-m', 'pip', 'install', '--quiet']
            keras2 = ['tensorflow-cpu==2.21.*', 'tf-keras==2.21.0', 'six', 'setuptools']
            subprocess.run([*pip, *keras2], check=True)
            subprocess.run([*pip, '--no-deps', 'bert4keras==0.11.5'], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f'bert4keras cannot be installed: {error}')
        done.touch()
    return str(python)
