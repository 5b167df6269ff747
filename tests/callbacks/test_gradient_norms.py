"""Lengths of gradients: those of the tape, in the very step, the others untouched."""

import json

import keras
import numpy as np
import pytest
from harness import gradients
from tricks import IDS
from tricks import LABELS
from tricks import array
from tricks import build
from tricks import weights

from keraseff import training
from keraseff.callbacks import gradient_norms
from keraseff.callbacks.gradient_norms import GradientNormMonitor

X, Y = np.tile(IDS, (6, 1)), np.tile(LABELS, 6)
Y = np.roll(Y, 5)


def fit(model, monitor=None, steps=6, first=0):
    """The history of a fit on some of the batches, in order."""
    rows = slice(4 * first, 4 * (first + steps))
    callbacks = [] if monitor is None else [monitor]
    options = {'batch_size': 4, 'shuffle': False, 'verbose': 0}
    return model.fit(X[rows], Y[rows], callbacks=callbacks, **options).history


def taped(model, rows):
    """{path: |g|} of the compiled loss on some rows."""
    variables = model.trainable_variables

    def loss(*values):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(mapping, collect_losses=True):
            return model.compute_loss(X[rows], Y[rows], model(X[rows], training=True))

    found = gradients(loss, *(array(v) for v in variables))
    return {v.path: np.linalg.norm(g) for v, g in zip(variables, found, strict=True)}


def close(found, expected, rtol=1e-4):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol, atol=1e-7, err_msg=name)


@pytest.mark.every_backend
def test_lengths_are_those_of_the_tape_and_training_goes_as_without():
    model, plain = build(), build()
    monitor = GradientNormMonitor(every=4)
    start = [array(v) for v in plain.trainable_variables]
    lengths = taped(plain, slice(0, 4))
    fit(model, monitor)
    first, second = monitor.records
    assert (first['step'], second['step']) == (1, 5)
    close(first['gradient'], lengths)
    total = np.linalg.norm(list(lengths.values()))
    np.testing.assert_allclose(first['global'], total, rtol=1e-4)
    for (name, length), weight in zip(lengths.items(), start, strict=True):
        found = first['ratio'][name]
        if weight.any():
            ratio = 0.5 * length / np.linalg.norm(weight)
            np.testing.assert_allclose(found, ratio, 1e-3, atol=1e-6)
        else:
            assert found is None, 'a bias begins at zero'
    fit(plain, steps=4)
    close(second['gradient'], taped(plain, slice(16, 20)))
    fit(plain, steps=2, first=4)
    np.testing.assert_allclose(weights(model), weights(plain), atol=1e-6)


@pytest.mark.every_backend
def test_loss_scaling_is_taken_off_and_its_overflow_is_no_alarm():
    exact = taped(build(), slice(0, 4))
    keras.config.set_dtype_policy('mixed_float16')
    model = build()
    monitor = GradientNormMonitor(every=1)
    fit(model, monitor, steps=1)
    assert hasattr(model.optimizer, 'dynamic_scale')
    (record,) = monitor.records
    assert record['not_finite'] == []
    large = {n: g for n, g in exact.items() if g > 0.1}
    assert len(large) >= 4
    close({n: record['gradient'][n] for n in large}, large, rtol=0.02)
    model.optimizer.dynamic_scale.assign(1e30)
    fit(model, monitor, steps=1)
    after = monitor.records[-1]
    assert 'attention/value/kernel' in after['not_finite']
    assert after['gradient']['attention/value/kernel'] is None
    assert after['ratio']['attention/value/kernel'] == 0, 'the step is left out'


@pytest.mark.every_backend
def test_it_sees_the_gradient_of_tricks():
    model = training.adversarial_training(build(), epsilon=0.7)
    before = [array(v).copy() for v in model.trainable_variables]
    monitor = GradientNormMonitor(every=1, per='layer')
    fit(model, monitor, steps=1)
    (record,) = monitor.records
    pairs = zip(model.trainable_variables, before, strict=True)
    squares = {}
    for variable, old in pairs:
        layer = variable.path.rpartition('/')[0]
        square = np.sum((array(variable) - old) ** 2) / 0.25
        squares[layer] = squares.get(layer, 0) + square
    lengths = {name: np.sqrt(square) for name, square in squares.items()}
    close({n: record['gradient'][n] for n in lengths}, lengths, rtol=1e-3)
    plain = GradientNormMonitor(every=1, per='layer')
    fit(build(), plain, steps=1)
    assert abs(plain.records[0]['global'] / record['global'] - 1) > 0.01


def test_a_gradient_that_is_no_number_is_named_and_may_stop_training():
    model = build()
    model.get_layer('scores').bias.assign([0.0, np.nan, 0.0])
    monitor = GradientNormMonitor(every=2, stop=True)
    with pytest.warns(UserWarning, match=r'step 1: .* not finite: Embedding-Token'):
        fit(model, monitor)
    assert len(monitor.records) == 1
    (record,) = monitor.records
    assert record['loss'] is None
    assert record['global'] is None
    assert 'scores/bias' in record['not_finite']


def test_steps_between_looks_measure_nothing(monkeypatch):
    looks = []
    norms = gradient_norms._norms
    monkeypatch.setattr(
        gradient_norms, '_norms', lambda *a: looks.append(1) or norms(*a)
    )
    model = build()
    monitor = GradientNormMonitor(every=5)
    fit(model, monitor)
    assert [r['step'] for r in monitor.records] == [1, 6]
    if keras.backend.backend() == 'torch':
        assert len(looks) == 2
    fit(model)
    assert len(monitor.records) == 2, 'a fit without the callback is a plain one'
    assert 'train_step' not in vars(model)
    assert 'apply' not in vars(model.optimizer)


def test_the_log_goes_on_and_the_picture_is_drawn(tmp_path):
    pytest.importorskip('matplotlib')
    model = build()
    path, picture = tmp_path / 'log' / 'norms.jsonl', tmp_path / 'norms.png'
    for _ in range(2):
        monitor = GradientNormMonitor(path, every=3, per='layer', picture=picture)
        fit(model, monitor)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line['step'] for line in lines] == [1, 4, 7, 10]
    assert lines[2:] == monitor.records
    assert set(lines[0]['gradient']) == {
        'Embedding-Token', 'scores',
        *(f'attention/{n}' for n in ('query', 'key', 'value', 'output')),
    }  # fmt: skip
    assert picture.read_bytes().startswith(b'\x89PNG')
    assert len(picture.read_bytes()) > 5000


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ValueError, match='every=0 must be'):
        GradientNormMonitor(every=0)
    with pytest.raises(ValueError, match="'variable' or 'layer'"):
        GradientNormMonitor(per='matrix')
    monkeypatch.setitem(__import__('sys').modules, 'matplotlib', None)
    with pytest.raises(ImportError, match='pip install matplotlib'):
        GradientNormMonitor(picture='norms.png')
