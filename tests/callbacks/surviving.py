"""Trains a tiny model, writing the loss of each step; to be killed and started again.

python surviving.py, which reads lines: [folder, log, the save to die in or null], and
writes two for each: the number of the process that trains, and how it ended.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import keras
import numpy as np

from keraseff.callbacks import Checkpoint
from keraseff.callbacks import state
from keraseff.data import DataGenerator


class Batches(DataGenerator):
    bucketing = True

    def encode(self, row):
        ids, label = row
        return np.where(self.rng.random(len(ids)) > 0.1, ids, 30), label


def make_batches(count=46, longest=32, batch_size=4, seed=3):
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, longest, count)
    return Batches(
        [(rng.integers(1, 30, n), n % 3) for n in lengths], batch_size, seed=seed
    )


def make_model(steps_per_execution=1):
    """Everything that has a state: dropout, statistics, accumulators, averages."""
    keras.utils.set_random_seed(1)
    x = keras.Input((None,), dtype='int32')
    h = keras.layers.Embedding(31, 8, mask_zero=True)(x)
    h = keras.layers.Dropout(0.3)(h)
    h = keras.layers.GlobalAveragePooling1D()(h)
    h = keras.layers.BatchNormalization()(h)
    model = keras.Model(x, keras.layers.Dense(3)(h))
    rate = keras.optimizers.schedules.CosineDecay(0.01, 40)
    model.compile(
        keras.optimizers.Adam(rate, use_ema=True, gradient_accumulation_steps=2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=['accuracy'],
        steps_per_execution=steps_per_execution,
        jit_compile=keras.backend.backend() == 'jax',
    )
    return model


class Log(keras.callbacks.Callback):
    """[(step, loss, accuracy)], and in a file."""

    def __init__(self, saver, file=None, stop=None):
        super().__init__()
        self.saver, self.file, self.stop, self.rows = saver, file, stop, []

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append((self.saver.steps, logs['loss'], logs['accuracy']))
        if self.file:
            with open(self.file, 'a') as file:
                print(*self.rows[-1], file=file)
        if self.saver.steps == self.stop:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append((f'epoch {epoch}', logs['loss'], logs['accuracy']))


def train(folder, log=None, stop=None, epochs=4, every=3, execution=1, **data):
    """The rows of the log; training is broken off after step `stop`."""
    saver, batches = Checkpoint(folder, every=every), make_batches(**data)
    model = make_model(execution)
    watch = Log(saver, log, stop)
    try:
        model.fit(
            saver.stream(batches),
            steps_per_epoch=len(batches),
            shuffle=False,
            initial_epoch=saver.resume(model),
            epochs=epochs,
            callbacks=[saver, watch],
            verbose=0,
        )
    except KeyboardInterrupt:
        pass
    return watch.rows


def die_in(victim):
    """Have this process killed in a save, when half of the file is there."""
    saves, to_disk = [], state._to_disk

    def dies(path):
        if path.name.startswith('unfinished'):
            saves.append(path)
            if len(saves) == victim:
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        to_disk(path)

    state._to_disk = dies


def child(folder, log, victim):
    """Train; nothing of the parent's may be written twice."""
    code = 1
    try:
        die_in(victim)
        train(Path(folder), log)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == '__main__':
    # Keras is imported once, which takes longer than to train, and TensorFlow with the
    # first seed; the parent computes nothing, so that each child starts for itself.
    keras.utils.set_random_seed(1)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            child(*json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
