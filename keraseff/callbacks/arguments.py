"""What callbacks are given, looked at before training begins."""

import tempfile
from pathlib import Path

import keras

from keraseff.backends import distribution
from keraseff.data import DataGenerator


def check_generator(name, batches):
    """Raise ValueError for what is no `DataGenerator`.

    Args:
        name: of what takes it.
    """
    if not isinstance(batches, DataGenerator):
        raise ValueError(
            f'{name}(batches) takes the DataGenerator that is trained on, not a '
            f'{type(batches).__name__}; arrays make one: DataGenerator.encode returns '
            'the row of list(zip(x, y)).'
        )


def check_compiled(model):
    """Raise ValueError for what is no compiled model."""
    if getattr(model, 'optimizer', None) is None:
        kind = type(model).__name__
        raise ValueError(
            f'expected a compiled keras.Model, got a {kind} without an optimizer; '
            'compile the model first.'
        )


def check_new(file):
    """Raise ValueError if the first process sees the state of an earlier training."""
    if distribution.share(b'1' if Path(file).exists() else b''):
        raise ValueError(
            f'{file} is the state of an earlier training, which this one would '
            'overwrite: give fit initial_epoch=saver.resume(model) to go on with it, '
            'or use another directory.'
        )


def check_writable(folder):
    """Make a directory; raise OSError if the first process can write nothing there.

    Of several processes each must call this, and each raises.
    """
    refused = b''
    if distribution.processes()[0] == 0:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            refused = str(error).encode()
    refused = distribution.share(refused).decode()
    if refused:
        raise OSError(
            f'nothing can be saved in {folder} ({refused}); use a directory that can '
            'be made and written.'
        )


def check_whole_weights():
    """Raise ValueError where no process has all numbers of a weight."""
    split = isinstance(
        keras.distribution.distribution(), keras.distribution.ModelParallel
    )
    if split and distribution.processes()[1] > 1:
        raise ValueError(
            "how='model' spreads the weights over several processes, none of which can "
            "save them: use how='data', or one process."
        )
