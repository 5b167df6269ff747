"""`Evaluator` scores every epoch, keeps the best, survives being killed."""

import json
import math
import tempfile
from contextlib import contextmanager
from pathlib import Path

import keras

from keraseff.backends import distribution
from keraseff.callbacks.checkpoint import Checkpoint
from keraseff.callbacks.state import numbers
from keraseff.callbacks.state import shared_bytes
from keraseff.callbacks.state import whole_file

BEST = 'best.weights.h5'


@contextmanager
def averaged_weights(model):
    """Within it, the model has its optimizer's moving averages for weights.

    Those of Keras' `use_ema` or `extend_with_exponential_moving_average`; nothing
    happens where it has none, or was not used yet.
    Polyak and Juditsky, 1992; https://kexue.fm/archives/6575
    """
    optimizer = getattr(model.optimizer, 'inner_optimizer', model.optimizer)
    if not getattr(optimizer, 'use_ema', False) or not optimizer.built:
        yield
        return
    if hasattr(optimizer, 'apply_ema_weights'):
        optimizer.apply_ema_weights()
        try:
            yield
        finally:
            optimizer.reset_old_weights()
        return
    variables = model.trainable_variables
    kept = [numbers(v) for v in variables]
    optimizer.finalize_variable_values(variables)
    for variable in variables:
        # JAX: the average and the weight would share a buffer, and both be donated
        variable.assign(numbers(variable))
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


class Evaluator(Checkpoint):
    """Scores the model after each epoch, keeps the best weights and a state to go on.

    Args:
        score: a function without arguments that returns a number, the higher the
            better, or a dict of numbers of which the first decides; None to `load_best`
            only.
        path: directory for `best.weights.h5`, the weights of the best epoch, and
            `state.npz`: all that training needs to continue after the last epoch.
        every, minutes: saves of the state within epochs, see `Checkpoint`.
        callbacks: others that go on as well, see `Checkpoint`; they find the scores
            among the metrics, so `EarlyStopping('f1', mode='max')` can wait for one.

    The numbers appear in the progress bar and the history.  With an optimizer that has
    `use_ema=True`, or was made by `extend_with_exponential_moving_average`, it is the
    moving averages that are scored and kept.  A score of NaN is never the best.  Both
    files are replaced whole, the state last, so a run that is killed loses at most the
    epoch it was in:

        evaluator = Evaluator(score, path)
        model.fit(..., initial_epoch=evaluator.resume(model), callbacks=[evaluator])
        evaluator.load_best(model)

    With `evaluator.stream(batches)` it goes on in the order that the data would have
    had, as `Checkpoint`, whose state it keeps.

    Of several processes each scores, what the first one finds is what counts, and it
    alone writes; `load_best` is then for all of them to call.
    """

    kept = 'best', 'best_epoch', 'history'

    def __init__(self, score, path, every=None, minutes=None, callbacks=()):
        if score is not None and not callable(score):
            raise ValueError(
                f'score={score!r} must be a function without arguments, or None to '
                'load_best only.'
            )
        super().__init__(path, every, minutes, callbacks)
        self.score = score
        self.best = None
        self.best_epoch = None
        self.history = []

    def on_train_begin(self, logs=None):
        """Refuse to train without a score."""
        if self.score is None:
            raise ValueError('an Evaluator without a score can only load_best')
        super().on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Score, keep the weights if they are the best, and save the state."""
        logs = {} if logs is None else logs
        with averaged_weights(self.model), distribution.whole_batches():
            scores = _agreed(self.score())
            value = next(iter(scores.values()))
            if not math.isnan(value) and (self.best is None or value > self.best):
                self.best, self.best_epoch = value, epoch + 1
                self._save_best()
        logs.update(scores)
        self.history.append({name: float(number) for name, number in logs.items()})
        super().on_epoch_end(epoch, logs)

    def load_best(self, model):
        """Give the model the weights of the best epoch; False if there is none yet."""
        path = self.path / BEST
        if distribution.processes()[1] == 1:
            return path.exists() and _load(model, path, path)
        data = shared_bytes(path)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / BEST).write_bytes(data)
            return bool(data) and _load(model, Path(folder) / BEST, path)

    def _save_best(self):
        if distribution.processes()[0]:
            return  # the first one writes
        with self.writing(self.path / BEST), whole_file(self.path / BEST) as file:
            _without_optimizer(self.model).save_weights(file)


def _agreed(scores):
    """{name: number} of the first of several processes, of which others may differ."""
    named = scores if isinstance(scores, dict) else {'score': scores}
    try:
        mine = json.dumps({name: float(number) for name, number in named.items()})
    except (TypeError, ValueError):
        mine = ''
    if not mine or not named:
        raise ValueError(
            f'score returned {scores!r}; it must return a number, or a dict of numbers '
            'with one at least.'
        )
    return json.loads(distribution.share(mine.encode()))


def _load(model, file, source):
    try:
        _without_optimizer(model).load_weights(file)
    except (OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'{source} can not be read: {reason}') from None
    return True


def _without_optimizer(model):
    """The same layers uncompiled: only so do weight files leave the optimizer out."""
    return keras.Model(model.inputs, model.outputs)
