"""`RunDirectory`: what a run was, and what came out, so that it can be repeated."""

import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import keras

import keraseff
from keraseff import backends
from keraseff.backends import distribution
from keraseff.callbacks.state import whole_file

RUN = 'run.json'
METRICS = 'metrics.jsonl'


class EpochMetrics(keras.callbacks.Callback):
    """Writes a line for each epoch to `metrics.jsonl` in a directory.

    Args:
        path: the directory, made if it is not there.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)

    def on_epoch_end(self, epoch, logs=None):
        """Add a line of metrics; that of an epoch that is done again is replaced."""
        if distribution.processes()[0]:
            return  # of several processes the first writes
        logs = {name: _plain(value) for name, value in (logs or {}).items()}
        rows = [row for row in read_metrics(self.path) if row['epoch'] <= epoch]
        rows.append({'epoch': epoch + 1, 'time': _now(), **logs})
        with whole_file(self.path / METRICS) as file:
            lines = [json.dumps(row, ensure_ascii=False) + '\n' for row in rows]
            file.write_text(''.join(lines), encoding='utf-8')


class RunDirectory(EpochMetrics):
    """Writes configuration and circumstances of a run, and its metrics epoch by epoch.

    Args:
        path: directory, made if it is not there.
        configuration: dict that JSON can hold, say `vars(args)`; whoever continues the
            run must give the same.
        seed: what was given to `keras.utils.set_random_seed`.
        ignored: names in `configuration` that may be others when the run is continued.

    `run.json` has both, and of each start the command line, the working directory, the
    time, the versions of Python, Keras, its backend, numpy and keraseff (with the git
    revision, where it is run from a repository) and the device.  `metrics.jsonl` has a
    line for each epoch.  A script needs one line, and `run` among the callbacks:

        run = RunDirectory(args.output, vars(args), args.seed)

    One that trains several models gives each its own callback, `run.training(name)`.

    Raises ValueError if `path` is the directory of another run, or holds other files;
    so make it before other things write there.
    """

    def __init__(self, path, configuration=None, seed=None, ignored=()):
        super().__init__(path)
        self.ignored = {*ignored}
        # as JSON gives it back: tuples become lists, paths text
        given = json.dumps(configuration or {}, default=str)
        self.configuration, self.seed = json.loads(given), seed
        starts = self._earlier()
        self.about = {
            'configuration': self.configuration,
            'seed': seed,
            'starts': [*starts, circumstances()],
        }
        with whole_file(self.path / RUN) as file:
            text = json.dumps(self.about, ensure_ascii=False, indent=1)
            file.write_text(text, encoding='utf-8')

    def training(self, name):
        """The callback for one of several trainings; its metrics are in `path/name`."""
        return EpochMetrics(self.path / name)

    def _earlier(self):
        """The starts before, if it is the same run."""
        file = self.path / RUN
        if not file.exists():
            if self.path.is_dir() and any(self.path.iterdir()):
                raise ValueError(
                    f'{self.path} has files, and no {RUN}: they are of something else, '
                    'or were written before the RunDirectory was made. Use another '
                    'directory.'
                )
            return []
        try:
            about = json.loads(file.read_text(encoding='utf-8'))
            before = about['configuration'] | {'seed': about['seed']}
            starts = list(about['starts'])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{file} is damaged, or no RunDirectory wrote it: {error!r}'
            ) from None
        now = self.configuration | {'seed': self.seed}
        for name in {**before, **now}:
            if name not in self.ignored and before.get(name) != now.get(name):
                raise ValueError(
                    f'{self.path} is the directory of another run, with {name}='
                    f'{before.get(name)!r}, not {now.get(name)!r}. Use another '
                    'directory, or the same settings to continue that run.'
                )
        return starts


def read_metrics(path):
    """The rows of `metrics.jsonl` in a run's directory, dicts with `epoch` from 1."""
    file = Path(path) / METRICS
    if not file.exists():
        return []
    try:
        lines = file.read_text(encoding='utf-8').splitlines()
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise ValueError(f'{file} is damaged: {error}') from None


def circumstances():
    """What else a run depends on: command, time, versions, device."""
    backend = backends.name()
    packages = 'keras', backend, 'numpy'
    return {
        'command': sys.orig_argv,
        'directory': os.getcwd(),
        'time': _now(),
        'python': platform.python_version(),
        'versions': {name: _version(name) for name in packages},
        'backend': backend,
        'keraseff': keraseff.__version__,
        'revision': _revision(Path(keraseff.__file__).parent),
        'machine': platform.platform(),
        'devices': backends.devices(),
        'cores': len(os.sched_getaffinity(0))
        if hasattr(os, 'sched_getaffinity')
        else os.cpu_count(),
    }


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _revision(folder):
    """The commit of the source, with `+changes` where files differ from it; or None."""
    try:
        git = ['git', '-C', str(folder)]
        run = {'capture_output': True, 'text': True, 'check': True, 'timeout': 10}
        commit = subprocess.run([*git, 'rev-parse', 'HEAD'], **run).stdout.strip()
        changed = subprocess.run(
            [*git, 'status', '--porcelain', '--', '.'], **run
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ('+changes' if changed.strip() else '')


def _plain(value):
    value = value.item() if hasattr(value, 'item') else value
    return value if isinstance(value, (int, float, str, list, dict)) else str(value)


def _now():
    return time.strftime('%Y-%m-%dT%H:%M:%S%z')
