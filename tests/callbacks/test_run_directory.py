"""A run's directory has what is needed to repeat it, and is of one run only."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT

from keraseff.callbacks import EventFiles
from keraseff.callbacks import LearningCurves
from keraseff.callbacks import RunDirectory
from keraseff.callbacks import Throughput
from keraseff.callbacks import read_metrics
from keraseff.callbacks.run_directory import circumstances
from keraseff.data import DataGenerator


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile('sgd', 'mse', metrics=['mae'])
    return model


def fit(model, *callbacks, start=0, epochs=2):
    x = np.arange(32, dtype='float32').reshape(8, 4) / 32
    return model.fit(
        x, x[:, 0], 4, validation_data=(x, x[:, 1]), shuffle=False, verbose=0,
        initial_epoch=start, epochs=epochs, callbacks=list(callbacks),
    ).history  # fmt: skip


def test_what_a_run_was(tmp_path):
    folder = tmp_path / 'new' / 'run'
    run = RunDirectory(folder, {'units': (1, 2), 'data': tmp_path, 'epochs': 2}, seed=3)
    history = fit(make_model(), run)
    about = json.loads((folder / 'run.json').read_text())
    assert about['configuration'] == {
        'units': [1, 2],
        'data': str(tmp_path),
        'epochs': 2,
    }
    assert about['seed'] == 3
    (start,) = about['starts']
    assert start['command'] == sys.orig_argv
    assert start['versions']['numpy'] == np.__version__
    assert start['versions']['keras'] == keras.__version__
    assert start['backend'] == keras.backend.backend()
    assert start['devices']
    rows = read_metrics(folder)
    assert [row['epoch'] for row in rows] == [1, 2]
    for name, values in history.items():
        assert [row[name] for row in rows] == pytest.approx(values)


def test_the_revision_is_that_of_the_source():
    git = ['git', '-C', str(ROOT), 'rev-parse', 'HEAD']
    found = subprocess.run(git, capture_output=True, text=True)
    expected = found.stdout.strip() if found.returncode == 0 else None
    assert (circumstances()['revision'] or '').split('+')[0] == (expected or '')


def test_a_run_is_continued_and_no_other_mixed_in(tmp_path):
    folder = tmp_path / 'run'
    model = make_model()
    first = fit(model, RunDirectory(folder, {'rate': 0.1, 'epochs': 2}, seed=0))
    # the second epoch is done once more, as after a kill between two files
    run = RunDirectory(folder, {'rate': 0.1, 'epochs': 3}, seed=0, ignored=['epochs'])
    second = fit(model, run, start=1, epochs=3)
    losses = [row['loss'] for row in read_metrics(folder)]
    assert losses == pytest.approx(first['loss'][:1] + second['loss'])
    assert len(json.loads((folder / 'run.json').read_text())['starts']) == 2
    with pytest.raises(ValueError, match='another run, with rate=0.1, not 0.2'):
        RunDirectory(folder, {'rate': 0.2, 'epochs': 2}, seed=0, ignored=['epochs'])
    with pytest.raises(ValueError, match='another run, with seed=0, not 1'):
        RunDirectory(folder, {'rate': 0.1, 'epochs': 3}, seed=1)
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'letter.txt').touch()
    with pytest.raises(ValueError, match='has files, and no run.json'):
        RunDirectory(other)
    assert [p.name for p in other.iterdir()] == ['letter.txt']
    (folder / 'run.json').write_text('{"configuration": ')
    with pytest.raises(ValueError, match='run.json is damaged'):
        RunDirectory(folder)
    (folder / 'metrics.jsonl').write_text('{')
    with pytest.raises(ValueError, match='metrics.jsonl is damaged'):
        read_metrics(folder)


def drawn(monkeypatch):
    """{panel: {line: (x, y)}} of the next figures."""
    from matplotlib.figure import Figure

    found, save = {}, Figure.savefig

    def savefig(figure, *args, **kwargs):
        found.clear()
        for axes in figure.axes:
            lines = {line.get_label(): line for line in axes.get_lines()}
            found.update({n: tuple(map(list, x.get_data())) for n, x in lines.items()})
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', savefig)
    return found


def test_curves_have_all_epochs(tmp_path, monkeypatch):
    pytest.importorskip('matplotlib')
    curves, model = drawn(monkeypatch), make_model()
    folder = tmp_path / 'run'
    first = fit(model, RunDirectory(folder), LearningCurves(folder))
    assert (folder / 'curves.png').read_bytes()[:4] == b'\x89PNG'
    assert curves['loss'] == ([1, 2], pytest.approx(first['loss']))
    # a continuation draws the epochs before as well
    second = fit(model, LearningCurves(folder), RunDirectory(folder), start=2, epochs=4)
    assert set(curves) == {'loss', 'val_loss', 'mae', 'val_mae'}
    assert curves['val_mae'] == (
        [1, 2, 3, 4],
        pytest.approx(first['val_mae'] + second['val_mae']),
    )


@pytest.mark.parametrize('missing', ['matplotlib', 'tensorboardX'])
def test_what_is_missing_is_named(tmp_path, monkeypatch, missing):
    for name in (missing, 'matplotlib.figure'):
        monkeypatch.setitem(sys.modules, name, None)
    make = LearningCurves if missing == 'matplotlib' else EventFiles
    with pytest.raises(ImportError, match=f'pip install {missing}'):
        make(tmp_path)


def test_event_files_hold_the_history(tmp_path):
    pytest.importorskip('tensorboardX')
    from tensorboardX.proto.event_pb2 import Event

    from keraseff.checkpoints.crc32c import masked_crc32c

    history = fit(make_model(), EventFiles(tmp_path, every=3))
    found = {}
    for folder in ('train', 'validation'):
        (file,) = (tmp_path / folder).iterdir()
        data, position = file.read_bytes(), 0
        while position < len(data):
            size = int.from_bytes(data[position : position + 8], 'little')
            record = data[position + 12 : position + 12 + size]
            written = int.from_bytes(data[position + 12 + size :][:4], 'little')
            assert written == masked_crc32c(record)
            event = Event.FromString(record)
            for value in event.summary.value:
                key = folder, value.tag
                found.setdefault(key, {})[event.step] = value.simple_value
            position += size + 16
    assert found['train', 'loss'] == pytest.approx(dict(enumerate(history['loss'], 1)))
    by_epoch = dict(enumerate(history['val_mae'], 1))
    assert found['validation', 'mae'] == pytest.approx(by_epoch)
    assert list(found['train', 'batch_loss']) == [3]


@pytest.mark.every_backend
def test_samples_and_tokens_a_second(monkeypatch):
    """With a clock that runs 1 second a step; an epoch's first step does not count."""

    class Batches(DataGenerator):
        def encode(self, row):
            return [1] * row, [float(row)]

    clock = iter(range(1000))
    monkeypatch.setattr(
        'keraseff.callbacks.throughput.time.perf_counter', lambda: next(clock)
    )
    x = keras.Input((None,), dtype='int32')
    pooled = ops_sum(x)
    model = keras.Model(x, keras.layers.Dense(1)(pooled))
    model.compile('sgd', 'mse')
    lengths = [3, 9, 4, 5, 6, 7, 8]
    batches = Batches(lengths, 2)
    shown = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            shown.append(logs.get('tokens_per_second'))

    history = model.fit(
        batches.forfit(random=False),
        steps_per_epoch=4,
        epochs=2,
        shuffle=False,
        callbacks=[Throughput(batches), Watch()],
        verbose=0,
    ).history
    # batches of 12, 9, 13, 8 tokens; 2, 2, 2, 1 samples
    assert history['samples_per_second'] == pytest.approx([5 / 3] * 2)
    assert history['tokens_per_second'] == pytest.approx([30 / 3] * 2)
    assert shown[:4] == [None, 9, 11, 10]
    with pytest.raises(ValueError, match='not a tuple'):
        Throughput((lengths, lengths))
    # neither batches that nobody asked for, nor those of an earlier training
    for others in (Batches(lengths, 2), batches):
        with pytest.raises(ValueError, match='not trained on the batches'):
            model.fit(
                np.ones((4, 3), 'int32'), np.ones((4, 1)), 2,
                callbacks=[Throughput(others)], verbose=0,
            )  # fmt: skip


def ops_sum(x):
    scale = keras.layers.Rescaling(0.01)
    return keras.layers.Lambda(lambda t: keras.ops.sum(t, 1, keepdims=True))(scale(x))
