"""Callbacks: `Evaluator` scores every epoch, keeps the best, survives being killed."""

import json
import os
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

STATE = 'state.npz'
BEST = 'best.weights.h5'


@contextmanager
def averaged_weights(model):
    """Within it, the model has its optimizer's moving averages for weights.

    Nothing happens where the optimizer was made without `use_ema`, or not used yet.
    Polyak and Juditsky, 1992; https://kexue.fm/archives/6575
    """
    optimizer = model.optimizer
    if not getattr(optimizer, 'use_ema', False) or not optimizer.built:
        yield
        return
    variables = model.trainable_variables
    kept = [_copy(v) for v in variables]
    optimizer.finalize_variable_values(variables)
    for variable in variables:
        # JAX: the average and the weight would share a buffer, and both be donated
        variable.assign(_copy(variable))
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


class Evaluator(keras.callbacks.Callback):
    """Scores the model after each epoch, keeps the best weights and a state to go on.

    Args:
        score: a function without arguments that returns a number, the higher the
            better, or a dict of numbers of which the first decides.
        path: directory for `best.weights.h5`, the weights of the best epoch, and
            `state.npz`: all that training needs to continue after the last epoch.

    The numbers appear in the progress bar and the history.  With an optimizer that has
    `use_ema=True` it is the moving averages that are scored and kept.  Both files are
    replaced whole, the state last, so a run that is killed loses at most the epoch it
    was in:

        evaluator = Evaluator(score, path)
        model.fit(..., initial_epoch=evaluator.resume(model), callbacks=[evaluator])
        evaluator.load_best(model)
    """

    def __init__(self, score, path):
        super().__init__()
        self.score = score
        self.path = Path(path)
        self.epochs = 0
        self.best = None
        self.best_epoch = None
        self.history = []

    def resume(self, model):
        """Restore weights, optimizer and history, if `path` holds a state.

        Call it on a compiled model.  Returns the number of epochs already done.
        Raises ValueError if the state is damaged, or another model's.
        """
        file = self.path / STATE
        if not file.exists():
            return 0
        try:
            # Opened here, for numpy leaves a damaged file open.
            with file.open('rb') as raw, np.load(raw) as state:
                arrays = {name: state[name] for name in state.files}
                about = json.loads(str(arrays.pop('about')))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f'{file} is damaged ({error}); take it away to begin anew.'
            ) from None
        _restore(_variables(model), arrays, file)
        for name in ('epochs', 'best', 'best_epoch', 'history'):
            setattr(self, name, about[name])
        return self.epochs

    def on_epoch_end(self, epoch, logs=None):
        """Score, keep the weights if they are the best, and save the state."""
        logs = {} if logs is None else logs
        with averaged_weights(self.model):
            scores = self.score()
            if not isinstance(scores, dict):
                scores = {'score': scores}
            value = float(next(iter(scores.values())))
            if self.best is None or value > self.best:
                self.best, self.best_epoch = value, epoch + 1
                self._save_best()
        logs.update({name: float(number) for name, number in scores.items()})
        self.history.append({name: float(number) for name, number in logs.items()})
        self.epochs = epoch + 1
        self._save_state()

    def load_best(self, model):
        """Give the model the weights of the best epoch; False if there is none yet."""
        if not (self.path / BEST).exists():
            return False
        try:
            _without_optimizer(model).load_weights(self.path / BEST)
        except (OSError, KeyError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f'{self.path / BEST} can not be read: {reason}') from None
        return True

    def _save_best(self):
        self.path.mkdir(parents=True, exist_ok=True)
        unfinished = self.path / f'unfinished.{BEST}'
        _without_optimizer(self.model).save_weights(unfinished)
        os.replace(unfinished, self.path / BEST)

    def _save_state(self):
        self.path.mkdir(parents=True, exist_ok=True)
        names = 'epochs', 'best', 'best_epoch', 'history'
        about = json.dumps({name: getattr(self, name) for name in names})
        arrays = {name: _copy(v) for name, v in _variables(self.model).items()}
        unfinished = self.path / f'unfinished.{STATE}'
        np.savez(unfinished, about=np.array(about), **arrays)
        os.replace(unfinished, self.path / STATE)


def _without_optimizer(model):
    """The same layers uncompiled: only so do weight files leave the optimizer out."""
    return keras.Model(model.inputs, model.outputs)


def _variables(model):
    """Everything that training changes: weights, dropout's seeds, the optimizer's."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    groups = {'model': model.variables, 'optimizer': model.optimizer.variables}
    return {
        f'{group}.{i}': variable
        for group, variables in groups.items()
        for i, variable in enumerate(variables)
    }


def _restore(variables, state, file):
    shapes = {name: tuple(v.shape) for name, v in variables.items()}
    found = {name: array.shape for name, array in state.items()}
    if found != shapes:
        wrong = [n for n in {**shapes, **found} if found.get(n) != shapes.get(n)]
        raise ValueError(
            f'{file} is the state of another model: {wrong[0]} has shape '
            f'{found.get(wrong[0])} there and {shapes.get(wrong[0])} here, and '
            f'{len(wrong) - 1} more differ. Use another directory.'
        )
    for name, variable in variables.items():
        variable.assign(state[name])


def _copy(variable):
    # without np.array, JAX and TensorFlow may give a view that later steps overwrite
    return np.array(keras.ops.convert_to_numpy(variable))
