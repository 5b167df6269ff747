"""`Throughput`: samples and tokens a second, in the logs."""

import time

import keras
import numpy as np

from keraseff.callbacks.arguments import check_generator

_OTHERS = (
    'fit is not trained on the batches that Throughput was given; give fit '
    'batches.forfit(), or saver.stream(batches), of the same DataGenerator.'
)


class Throughput(keras.callbacks.Callback):
    """Adds samples_per_second and tokens_per_second to the logs and the progress bar.

    Args:
        batches: the `DataGenerator` whose batches are trained on.

    Each is the mean over the epoch up to now, from the end of its first step, which may
    compile.  Tokens are the numbers other than 0, the padding, in the first input; they
    are counted where inputs are integers (samples, length).

    Raises ValueError for what is no `DataGenerator`, and in `fit` where its batches are
    not those that are trained on.
    """

    def __init__(self, batches):
        super().__init__()
        check_generator('Throughput', batches)
        self.batches = batches
        self._sizes = {}
        # already here: Keras asks for batches before it calls callbacks
        batches.listeners.append(self._note)

    def _note(self, step, batch):
        first = next(iter(keras.tree.flatten(batch[0])))
        array = np.asarray(first)
        counted = array.ndim == 2 and array.dtype.kind in 'iu'
        tokens = int(np.count_nonzero(array)) if counted else None
        self._sizes[step] = len(array), tokens

    def on_train_begin(self, logs=None):
        """Begin to count steps."""
        if self.batches.running is None:
            raise ValueError(_OTHERS)
        self._step = self.batches.running.first

    def on_epoch_begin(self, epoch, logs=None):
        """Begin the epoch's mean."""
        self._begun, self._start, self._speeds = self._step, None, {}
        self._samples = self._tokens = 0

    def on_train_batch_end(self, batch, logs=None):
        """Add what was trained on."""
        now, done = time.perf_counter(), self._begun + batch + 1
        sizes = [self._sizes.pop(step, None) for step in range(self._step, done)]
        if None in sizes:
            raise ValueError(_OTHERS)
        self._step = done
        if self._start is None:
            self._start = now
            return
        self._samples += sum(samples for samples, _ in sizes)
        self._tokens += sum(tokens or 0 for _, tokens in sizes)
        seconds = now - self._start
        self._speeds = {'samples_per_second': self._samples / seconds}
        if self._tokens:
            self._speeds['tokens_per_second'] = self._tokens / seconds
        if logs is not None:
            logs.update(self._speeds)

    def on_epoch_end(self, epoch, logs=None):
        """Enter the epoch's means."""
        if logs is not None:
            logs.update(self._speeds)
