"""`Checkpoint` keeps all that training needs to go on after it was killed."""

import math
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import keras

from keraseff import backends
from keraseff.backends import distribution
from keraseff.callbacks.arguments import check_compiled
from keraseff.callbacks.arguments import check_generator
from keraseff.callbacks.arguments import check_new
from keraseff.callbacks.arguments import check_whole_weights
from keraseff.callbacks.arguments import check_writable
from keraseff.callbacks.companions import Companions
from keraseff.callbacks.state import arrays_of
from keraseff.callbacks.state import assign
from keraseff.callbacks.state import random_state
from keraseff.callbacks.state import read_shared
from keraseff.callbacks.state import set_random_state
from keraseff.callbacks.state import variables_of
from keraseff.callbacks.state import write_state
from keraseff.optimizers.arguments import check_count

STATE = 'state.npz'
FAILURES = 3  # saves that may fail one after the other


class _EndOfEpoch:
    """What `model.stop_training` is while an epoch that was begun before ends."""


class Checkpoint(keras.callbacks.Callback):
    """Saves the state of training, so that it can go on after any end.

    Args:
        path: directory for `state.npz`: weights, all of the optimizer's numbers, the
            random states, the running metrics, the place in the data.
        every: steps between two saves; None saves at the end of each epoch only, where
            it is saved in any case.
        minutes: time between two saves, together with `every` or instead.
        callbacks: others that go on with what they keep, as `EarlyStopping` with its
            patience and its best weights; those in `companions.KEPT`, and classes that
            name their attributes in `kept`.  They are called from here, before
            anything is saved, so `fit` is not given them.

    A run that was killed goes on, in the middle of an epoch too, with the losses that
    it would have had:

        saver = Checkpoint(path, every=200)
        model.fit(
            saver.stream(batches), steps_per_epoch=len(batches), shuffle=False,
            initial_epoch=saver.resume(model), epochs=10, callbacks=[saver],
        )

    where `batches` is a `DataGenerator`, made as in the first run (for arrays, one of
    `list(zip(x, y))` whose `encode` returns the row).  Arrays that are given to `fit`
    itself begin again with the epoch, so `every` must be None for them; PyTorch and JAX
    then shuffle as they would have, TensorFlow otherwise.

    The file is written under another name, brought to the disk and renamed: a process
    killed meanwhile, or a full disk, leaves the last one whole.  A save that the disk
    refuses warns, and training goes on; the third in a row raises its OSError.  Nothing
    is saved where the loss is not finite.

    A run that one of `callbacks` had ended does no further epoch.  Put it behind others
    that change the optimizer at the end of an epoch; what those keep begins anew.

    Of several processes that train one model the first reads and writes the file, and
    the others are given what is in it, so they need not see its disk.

    Raises, when `fit` begins, ValueError where `path` holds a state that was not
    resumed or the model is split over several processes, OSError where nothing can be
    written.
    """

    kept = ()  # names of attributes, of values for JSON, that are saved too

    def __init__(self, path, every=None, minutes=None, callbacks=()):
        super().__init__()
        if every is not None:
            check_count(every=every)
        if minutes is not None and not minutes > 0:
            raise ValueError(f'minutes={minutes} must be more than 0')
        self.path = Path(path)
        self.every = every
        self.minutes = minutes
        self.companions = Companions(callbacks)
        self.epochs = 0  # that are done
        self.step = 0  # steps done in the epoch after them
        self.steps = 0  # done in all
        self._stream = None
        self._restored = None
        self._owned = False  # whether the file may be replaced
        self._saved_step, self._saved_time = 0, time.monotonic()
        self._failures = 0

    @property
    def file(self):
        """The file that holds the state."""
        return self.path / STATE

    def resume(self, model):
        """Restore weights, optimizer, counts, if `path` holds a state.

        Call it on a compiled model.  Returns the number of epochs already done, which
        is `fit`'s `initial_epoch`.  The learning rate, unless a schedule gives it, is
        then the state's, not that of `compile`; for another, assign
        `model.optimizer.learning_rate` afterwards.

        Raises ValueError if the model is not compiled, or the state is damaged or
        another model's.
        """
        check_compiled(model)
        state = read_shared(self.file)
        if state is None:
            self._owned = True
            return 0
        about, arrays = state
        groups = {'metrics': {}, 'random': {}, 'callbacks': {}, '': {}}
        for name, array in arrays.items():
            group, _, rest = name.partition('.')
            own = group in groups
            groups[group if own else ''][rest if own else name] = array
        kept = about.get('callbacks')
        self.companions.restore(kept, groups['callbacks'], self.file)
        assign(variables_of(model), groups[''], self.file)
        self._owned = True
        for name in ('epochs', 'step', 'steps', *self.kept):
            setattr(self, name, about.get(name, getattr(self, name)))
        # `fit` sets metrics to zero, and draws random numbers, before its first step
        self._restored = groups
        return self.epochs

    def stream(self, batches, random=True):
        """The batches of a `DataGenerator` from where the state in `path` was saved.

        Args:
            batches: the generator; with `fit`'s `steps_per_epoch` and `shuffle=False`.
            random: whether its rows are shuffled.

        Only rows, no batches, are made of what lies before, where the generator has an
        `encode`.  Raises ValueError if the state is damaged, or one in other data.
        """
        check_generator('stream', batches)
        position = None
        state = read_shared(self.file)
        if state is not None:
            position = state[0].get('position')
            if position is None:
                raise ValueError(
                    f'{self.file} was saved by a training that was not given '
                    'stream(batches), and knows no place in them'
                )
        try:
            self._stream = batches.stream(position, random)
        except ValueError as error:
            raise ValueError(f'{self.file}: {error}') from None
        return backends.fit_input(self._stream)

    def on_train_begin(self, logs=None):
        """Refuse what could not go on; do nothing if nothing is left to do."""
        if self._stream is None and (self.every or self.minutes or self.step):
            raise ValueError(
                'in the middle of an epoch only a generator can go on: give fit '
                'saver.stream(batches), or make the Checkpoint without every and '
                'minutes, in a new directory'
            )
        if self._stream is not None and not self.params.get('steps'):
            raise ValueError('give fit steps_per_epoch: the batches have no end')
        if self._stream is not None and self._stream.first > self.steps:
            raise ValueError(
                'the batches go on where a state was saved, and the model does not: '
                'give fit initial_epoch=saver.resume(model)'
            )
        check_whole_weights()
        if not self._owned:
            check_new(self.file)
        check_writable(self.path)
        self._owned = True
        if self._restored is None:
            self.step = 0  # of an epoch that was broken off in this process
        self._saved_step, self._saved_time = self.steps, time.monotonic()
        if self.companions.begin(self.model, self.params, logs):
            self.model._initial_epoch = self.params['epochs']  # of Keras, for this

    def on_train_end(self, logs=None):
        """That of the companions."""
        self.companions.call('on_train_end', logs)
        self.model._initial_epoch = None

    def on_epoch_begin(self, epoch, logs=None):
        """Go on with the metrics that were saved."""
        self.companions.call('on_epoch_begin', epoch, logs)
        self._before, self._begun = self.step, self.steps
        if self._restored is None:
            return
        if self.step:
            # TensorFlow makes the metrics' variables in the first step
            batch = next(iter(self._stream.since(self.steps)))
            self.model._symbolic_build(data_batch=batch)
            found = variables_of(self.model, metrics=True)
            found = {n: v for n, v in found.items() if n.startswith('metrics.')}
            saved = {f'metrics.{n}': a for n, a in self._restored['metrics'].items()}
            assign(found, saved, self.file)
        if self._stream is None:
            # arrays are shuffled now; batches of a stream have been made already
            self._restore_random_state()

    def on_train_batch_begin(self, batch, logs=None):
        """Go on with the random states that were saved."""
        self.companions.call('on_train_batch_begin', batch, logs)
        if self._restored is not None:
            self._restore_random_state()

    def _restore_random_state(self):
        states, self._restored = self._restored['random'], None
        if states:
            set_random_state(states)

    def on_train_batch_end(self, batch, logs=None):
        """Save if it is time; end an epoch that had been begun before."""
        self.companions.call('on_train_batch_end', batch, logs)
        self.step = self._before + batch + 1
        self.steps = self._begun + batch + 1
        steps = self.params.get('steps')
        if steps and self.step >= steps:
            if self._before and not self.model.stop_training:
                self.model.stop_training = _EndOfEpoch
        elif self._due() and math.isfinite((logs or {}).get('loss', 0.0)):
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        """Save."""
        logs = {} if logs is None else logs
        self.companions.end_epoch(self.model, epoch, logs)
        self.epochs, self.step = epoch + 1, 0
        if math.isfinite(logs.get('loss', 0.0)):
            self.save()
        if self.model.stop_training is _EndOfEpoch:
            self.model.stop_training = False

    def _due(self):
        steps, now = self.steps - self._saved_step, time.monotonic()
        return (self.every is not None and steps >= self.every) or (
            self.minutes is not None and now - self._saved_time >= 60 * self.minutes
        )

    def save(self):
        """Save now; within `fit`, between two steps."""
        names = 'epochs', 'step', 'steps', *self.kept
        about = {name: getattr(self, name) for name in names}
        if self._stream is not None:
            about['position'] = self._stream.position(self.steps)
        arrays = arrays_of(self.model, metrics=self.step > 0)
        arrays |= {f'random.{n}': a for n, a in random_state().items()}
        about['callbacks'], kept = self.companions.state()
        arrays |= {f'callbacks.{n}': a for n, a in kept.items()}
        self._saved_step, self._saved_time = self.steps, time.monotonic()
        if distribution.processes()[0]:
            return  # the first one writes
        with self.writing(self.file):
            write_state(self.file, about, arrays)

    @contextmanager
    def writing(self, file):
        """A scope in which a full disk only warns, unless it is so several times."""
        try:
            yield
            self._failures = 0
        except OSError as error:
            self._failures += 1
            if self._failures >= FAILURES:
                raise
            warnings.warn(
                f'{file} could not be saved ({error}); the one before is kept, and '
                f'training goes on until {FAILURES} in a row fail',
                stacklevel=2,
            )
