"""Killed training goes on with the losses that it would have had."""

import importlib.util
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT

from keraseff.callbacks import STATE
from keraseff.callbacks import Checkpoint
from keraseff.callbacks import Evaluator
from keraseff.callbacks.state import arrays_of
from keraseff.callbacks.state import assign
from keraseff.callbacks.state import read_state
from keraseff.callbacks.state import variables_of
from keraseff.callbacks.state import whole_file
from keraseff.callbacks.state import write_state
from keraseff.data import DataGenerator

SCRIPT = Path(__file__).parent / 'surviving.py'
spec = importlib.util.spec_from_file_location('surviving', SCRIPT)
surviving = importlib.util.module_from_spec(spec)
spec.loader.exec_module(surviving)


def as_table(rows):
    """{step: numbers}; a step that was done twice must have had the same ones."""
    table = {}
    for step, *numbers in rows:
        known = table.setdefault(step, numbers)
        np.testing.assert_allclose(numbers, known, atol=1e-6)
    return table


def assert_same(left, right):
    assert left.keys() == right.keys()
    for step, numbers in left.items():
        np.testing.assert_allclose(numbers, right[step], atol=1e-6, err_msg=step)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The log of a training that was never stopped."""
    return as_table(surviving.train(tmp_path_factory.mktemp('whole'), every=None))


@pytest.mark.every_backend
def test_broken_off_anywhere_it_goes_on(tmp_path, whole):
    """Within the first epoch, in its fifth step; before the end of the second."""
    rows = []
    for stop in (5, 23, None):
        rows += surviving.train(tmp_path, stop=stop)
    assert len(whole) == 4 * 12 + 4
    assert_same(as_table(rows), whole)


@pytest.mark.every_backend
@pytest.mark.skipif(
    keras.backend.backend() == 'torch', reason='torch has no such thing'
)
def test_steps_that_are_executed_together(tmp_path):
    options = {'execution': 3, 'epochs': 2, 'longest': 16}
    whole = surviving.train(tmp_path / 'whole', **options)
    rows = surviving.train(tmp_path / 'parts', stop=15, **options)
    rows += surviving.train(tmp_path / 'parts', **options)
    assert [step for step, *_ in whole if isinstance(step, int)] == list(
        range(3, 27, 3)
    )
    assert_same(as_table(rows), as_table(whole))


@contextmanager
def trainings():
    """begin(folder, victim) starts one and returns its number; end() how it ended."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, SCRIPT],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdin=pipe,
        stdout=pipe,
        text=True,
    )

    def begin(folder, victim=None):
        print(json.dumps([str(folder), f'{folder}/log', victim]), file=process.stdin)
        process.stdin.flush()
        return int(process.stdout.readline())

    try:
        yield begin, lambda: int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def logged(folder):
    file = folder / 'log'
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    lines = [line.split() for line in lines if line.endswith('\n')]
    return [(int(step), float(loss), float(acc)) for step, loss, acc in lines]


def test_a_killed_process_goes_on(tmp_path, whole, rng):
    """SIGKILL: in the middle of the third save, then twice at any moment, then not."""
    with trainings() as (begin, end):
        begin(tmp_path, 3)
        assert end() == -9
        assert (tmp_path / f'unfinished.{STATE}').exists()
        assert read_state(tmp_path / STATE)[0]['steps'] == 6
        for _ in range(2):
            before, process = len(logged(tmp_path)), begin(tmp_path)
            while len(logged(tmp_path)) == before:
                time.sleep(0.005)
            time.sleep(rng.random() * 0.05)
            os.kill(process, signal.SIGKILL)
            assert end() in (-9, 0)
        begin(tmp_path)
        assert end() == 0
    found = as_table(logged(tmp_path))
    missing = {step for step in whole if isinstance(step, int)} - found.keys()
    # whoever was killed between a save and the line of its step leaves that out
    assert len(missing) <= 2
    assert all(step % 3 == 0 for step in missing)
    assert_same(found, {step: whole[step] for step in found})


@contextmanager
def full_disk(megabytes=0.02):
    """Within it no file can become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(megabytes * 2**20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.filterwarnings('ignore:.*the one before is kept')
def test_a_full_disk_leaves_the_last_save(tmp_path):
    """Training goes on past two saves that fail; the third in a row raises."""
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100)])
    model.compile('sgd', 'mse')
    saver = Checkpoint(tmp_path)
    x = np.ones((4, 100))

    def fit(epochs):
        options = {'initial_epoch': saver.epochs, 'epochs': saver.epochs + epochs}
        model.fit(x, x, callbacks=[saver], verbose=0, **options)

    def saved():
        return [p.name for p in tmp_path.iterdir()], Checkpoint(tmp_path).resume(model)

    fit(1)
    with full_disk(), pytest.warns(UserWarning, match='the one before is kept'):
        fit(2)
    assert saved() == ([STATE], 1)
    fit(1)
    assert saved() == ([STATE], 4)
    with full_disk(), pytest.raises(OSError, match='too large'):
        fit(9)
    assert saver.epochs == 7
    assert saved() == ([STATE], 4)


def test_torn_files_are_noticed(tmp_path, rng):
    file = tmp_path / STATE
    write_state(file, {'epochs': 1}, {'a': np.arange(500.0), 'b': np.zeros(0)})
    data = file.read_bytes()
    about, arrays = read_state(file)
    assert (about, arrays['a'].sum(), arrays['b'].shape) == (
        {'epochs': 1},
        124750,
        (0,),
    )
    numbers = data.index(np.arange(500.0).tobytes())
    for position in (*rng.integers(numbers, numbers + 4000, 5), numbers - 1):
        torn = bytearray(data)
        torn[position] ^= 8
        file.write_bytes(bytes(torn))
        with pytest.raises(ValueError, match='state.npz is damaged'):
            read_state(file)
    for size in (0, 100, len(data) - 30):
        file.write_bytes(data[:size])
        with pytest.raises(ValueError, match='state.npz is damaged'):
            read_state(file)
    with suppress(KeyError), whole_file(file) as unfinished:
        unfinished.write_bytes(b'')
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == [STATE]
    np.save(tmp_path / 'other.npy', np.zeros(3))
    (tmp_path / 'other.npy').rename(file)
    with pytest.raises(ValueError, match='no state of a training'):
        read_state(file)


def test_what_could_not_go_on_is_refused(tmp_path):
    surviving.train(tmp_path, stop=5)
    with pytest.raises(ValueError, match='state.npz.*rows=46, and these have rows=45'):
        Checkpoint(tmp_path).stream(surviving.make_batches(45))
    batches = surviving.make_batches()
    saver, model = Checkpoint(tmp_path), surviving.make_model()
    x, y = np.ones((4, 5), 'int32'), np.zeros(4)
    assert saver.resume(model) == 0
    with pytest.raises(ValueError, match='only a generator can go on'):
        model.fit(x, y, callbacks=[saver], verbose=0)
    saver = Checkpoint(tmp_path)
    options = {'steps_per_epoch': 12, 'shuffle': False, 'verbose': 0}
    with pytest.raises(ValueError, match=r'initial_epoch=saver.resume\(model\)'):
        model.fit(saver.stream(batches), callbacks=[saver], **options)
    with pytest.raises(ValueError, match='every=0'):
        Checkpoint(tmp_path, every=0)
    with pytest.raises(ValueError, match='every=1.5'):
        Checkpoint(tmp_path, every=1.5)
    with pytest.raises(ValueError, match='minutes=-1'):
        Checkpoint(tmp_path, minutes=-1)
    with pytest.raises(ValueError, match='that is trained on, not a list'):
        Checkpoint(tmp_path).stream([(x, y)])
    with pytest.raises(ValueError, match='compiled keras.Model, got a Sequential'):
        Checkpoint(tmp_path).resume(keras.Sequential([keras.layers.Dense(1)]))


def test_no_directory_is_overwritten_or_missing(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile('sgd', 'mse')
    x, y = np.ones((8, 3)), np.ones((8, 2))

    def fit(saver, epochs, **options):
        model.fit(x, y, epochs=epochs, callbacks=[saver], verbose=0, **options)

    saver = Checkpoint(tmp_path / 'new')
    fit(saver, 1)
    fit(saver, 3)  # its own state, which it may replace
    saved = (tmp_path / 'new' / STATE).read_bytes()
    other = Checkpoint(tmp_path / 'new')
    with pytest.raises(ValueError, match='the state of an earlier training'):
        fit(other, 1)
    assert (tmp_path / 'new' / STATE).read_bytes() == saved
    model.optimizer.learning_rate = 0.5
    assert other.resume(model) == 3
    # that of the state
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    fit(other, 4, initial_epoch=3)
    assert Checkpoint(tmp_path / 'new').resume(model) == 4
    (tmp_path / 'file').write_text('')
    before = model.get_weights()[0]
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'in'):
        with pytest.raises(OSError, match=r'nothing can be saved in .*file'):
            fit(Checkpoint(folder), 1)
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_parts_of_weights_are_not_saved(tmp_path, monkeypatch):
    """Of how='model' over several processes."""
    from keraseff.callbacks import arguments

    split = object.__new__(keras.distribution.ModelParallel)
    monkeypatch.setattr(keras.distribution, 'distribution', lambda: split)
    arguments.check_whole_weights()  # one process has all parts
    monkeypatch.setattr(arguments.distribution, 'processes', lambda: (0, 2))
    with pytest.raises(ValueError, match="use how='data'"):
        arguments.check_whole_weights()


def test_states_of_all_kinds_come_back(tmp_path):
    """float16 with loss scaling, bfloat16 slots; another model is told by a name."""
    keras.config.set_dtype_policy('mixed_float16')
    rate = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name='last')])
    rate.compile('adam', 'mse')
    keras.config.set_dtype_policy('bfloat16')
    brief = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    brief.compile(keras.optimizers.Adam(), 'mse')
    for model in (rate, brief):
        model.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0)
        kept = arrays_of(model)
        write_state(tmp_path / STATE, {}, kept)
        for variable in variables_of(model).values():
            variable.assign(variable + 1)
        assign(variables_of(model), read_state(tmp_path / STATE)[1], 'it')
        for name, array in arrays_of(model).items():
            np.testing.assert_array_equal(array, kept[name])
    assert len(kept) == 2 + 2 + 4
    kept['model.0'] = np.zeros((1, 1))
    with pytest.raises(
        ValueError, match=r'it is the state .* has shape \(1, 1\) there'
    ):
        assign(variables_of(brief), kept, 'it')


@pytest.mark.every_backend
@pytest.mark.skipif(
    keras.backend.backend() == 'tensorflow', reason='its shuffling cannot be repeated'
)
def test_shuffled_arrays_go_on_with_the_epoch(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 4)).astype('float32')

    def train(folder, epochs):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile('adam', 'mse')
        saver = Checkpoint(folder)
        done = saver.resume(model)
        options = {'initial_epoch': done, 'epochs': epochs, 'callbacks': [saver]}
        return model.fit(x, x[:, 0] ** 2, 4, verbose=0, **options).history['loss']

    whole = train(tmp_path / 'whole', 4)
    parts = train(tmp_path / 'parts', 2) + train(tmp_path / 'parts', 4)
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


def companions():
    """Of which the first ends after two epochs that are no better than the best."""
    stop = keras.callbacks.EarlyStopping(
        'score', patience=2, mode='max', restore_best_weights=True
    )
    rate = keras.callbacks.ReduceLROnPlateau(
        'score', mode='max', patience=2, factor=0.5
    )
    return [stop, rate]


class Killed(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def waiting(folder, others, killed=None):
    """(weights, learning rate, evaluator) of a training, or of a part of one."""
    x, scores = np.eye(4, dtype='float32'), [0.1, 0.5, 0.3, 0.2]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.set_weights([np.ones((4, 1)), np.zeros(1)])
    model.compile(keras.optimizers.SGD(0.01), 'mse')
    saver = Evaluator(lambda: scores[len(saver.history)], folder, callbacks=others)
    with suppress(KeyboardInterrupt):
        model.fit(
            x,
            x[:, 0],
            shuffle=False,
            initial_epoch=saver.resume(model),
            epochs=9,
            callbacks=[saver, Killed(killed)],
            verbose=0,
        )
    return model.get_weights()[0], float(model.optimizer.learning_rate), saver


@pytest.mark.every_backend
def test_others_go_on_waiting(tmp_path):
    """Killed while they wait, and started once more behind the end."""
    whole = waiting(tmp_path / 'whole', companions())
    folder = tmp_path / 'parts'
    waiting(folder, companions(), killed=3)
    parts, again = waiting(folder, companions()), waiting(folder, companions())
    for weights, rate, saver in (whole, parts, again):
        assert (saver.epochs, rate) == (4, pytest.approx(0.005))
        np.testing.assert_allclose(weights, whole[0], atol=1e-6)
    stop = parts[2].companions.callbacks[0]
    assert (stop.best, stop.best_epoch, stop.wait) == (0.5, 1, 2)
    with pytest.raises(
        ValueError, match=r"=\['EarlyStopping', 'Red.*these are \['Eval"
    ):
        waiting(folder, [Evaluator(None, tmp_path)])


def test_companions_are_given_once(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile('sgd', 'mse')
    stop, x = companions()[0], np.ones((4, 4))
    both = [stop, Checkpoint(tmp_path, callbacks=[stop])]
    with pytest.raises(ValueError, match='EarlyStopping is among the callbacks of fit'):
        model.fit(x, x[:, 0], callbacks=both, verbose=0)
    with pytest.raises(ValueError, match='Log does not say what it keeps'):
        Checkpoint(tmp_path, callbacks=[surviving.Log(None)])


def test_the_evaluator_goes_on_within_an_epoch(tmp_path):
    def train(folder, stop=None):
        model, batches = surviving.make_model(), surviving.make_batches()
        evaluator = Evaluator(lambda: evaluator.steps, folder, every=3)
        watch = surviving.Log(evaluator, stop=stop)
        try:
            model.fit(
                evaluator.stream(batches),
                steps_per_epoch=len(batches),
                shuffle=False,
                initial_epoch=evaluator.resume(model),
                epochs=3,
                callbacks=[evaluator, watch],
                verbose=0,
            )
        except KeyboardInterrupt:
            pass
        return evaluator

    whole = train(tmp_path / 'whole')
    train(tmp_path / 'parts', stop=17)
    parts = train(tmp_path / 'parts')
    assert parts.best_epoch == whole.best_epoch == 3
    assert [row['score'] for row in parts.history] == [12, 24, 36]
    losses = [[row['loss'] for row in e.history] for e in (whole, parts)]
    np.testing.assert_allclose(*losses, atol=1e-6)


def test_nothing_that_is_not_finite_is_saved(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile('sgd', 'mse')
    saver = Checkpoint(tmp_path)
    model.fit(np.ones((8, 3)), np.ones((8, 2)), callbacks=[saver], verbose=0)
    bad = np.full((8, 2), np.nan)
    options = {'initial_epoch': 1, 'epochs': 2, 'callbacks': [saver], 'verbose': 0}
    model.fit(np.ones((8, 3)), bad, **options)
    assert np.isnan(model.get_weights()[0]).all()
    assert Checkpoint(tmp_path).resume(model) == 1
    assert np.isfinite(model.get_weights()[0]).all()


def test_another_end_of_training_stays_one(tmp_path):
    """The epoch that was begun before is cut short; that is no reason to go on."""
    surviving.train(tmp_path, stop=5)

    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model, batches = surviving.make_model(), surviving.make_batches()
    saver = Checkpoint(tmp_path)
    history = model.fit(
        saver.stream(batches),
        steps_per_epoch=len(batches),
        shuffle=False,
        initial_epoch=saver.resume(model),
        epochs=4,
        callbacks=[Enough(), saver],
        verbose=0,
    )
    assert (history.epoch, saver.epochs, saver.steps) == ([0], 1, 12)


class Counting(DataGenerator):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoded = []

    def encode(self, row):
        self.encoded.append(row)
        return [row] * (3 + row % 40), self.rng.random()


def same_batches(left, right):
    for a, b in zip(left, right, strict=True):
        for p, q in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True):
            np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize('bucketing', [False, True])
def test_the_stream_goes_on_anywhere(bucketing):
    """Among the first, which are reordered, behind them, in other passes."""
    data = list(range(241))
    make = lambda: Counting(data, 4, bucketing=bucketing, seed=5)  # noqa: E731
    stream = make().stream()
    batches = list(itertools.islice(stream, 200))
    same_batches(batches, itertools.islice(make().forfit(), 200))
    for step in (0, 1, 7, 49, 50, 60, 61, 62, 121, 122, 199):
        position = stream.position(step)
        other = Counting(data, 4, bucketing=bucketing, seed=99).stream(position)
        assert other.first == step
        same_batches(itertools.islice(other, 200 - step), batches[step:])
        same_batches(itertools.islice(stream.since(step), 200 - step), batches[step:])
    assert batches[0][1][0] != batches[61][1][0]  # other random numbers in each pass


def test_skipping_encodes_nothing():
    stream = Counting(range(10**4), 4, seed=5).stream()
    position = stream.position(0) | {'step': 2000}
    other = Counting(range(10**4), 4, seed=5)
    expected = next(itertools.islice(stream, 2000, None))
    same_batches([next(iter(other.stream(position)))], [expected])
    assert len(other.encoded) < 20


def test_streams_of_rows_go_on():
    """Data without len, shuffled in a buffer."""

    class Lines:
        def __iter__(self):
            return iter(range(300))

    stream = Counting(Lines(), 4, buffer_size=50, seed=1).stream()
    batches = list(itertools.islice(stream, 160))
    for step in (3, 51, 80, 155):
        other = Counting(Lines(), 4, buffer_size=50).stream(stream.position(step))
        same_batches(itertools.islice(other, 160 - step), batches[step:])
