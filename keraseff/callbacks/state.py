"""The state of a training: what there is, the file it is in, how it comes back."""

import io
import json
import os
import random
import zipfile
import zlib
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np

from keraseff import backends
from keraseff.backends import distribution


def variables_of(model, metrics=False):
    """{name: variable} of all that training changes.

    Args:
        model: a compiled model; its optimizer is built if it is not.
        metrics: whether the sums that metrics keep within an epoch are among them.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    groups = {'model': model.variables, 'optimizer': model.optimizer.variables}
    if metrics:
        groups['metrics'] = model.metrics_variables
    return {
        f'{group}.{i}': variable
        for group, variables in groups.items()
        for i, variable in enumerate(variables)
    }


def numbers(variable):
    """A variable's numbers as a numpy array of their own."""
    # without np.array, JAX and TensorFlow may give a view that later steps overwrite
    array = np.array(keras.ops.convert_to_numpy(variable))
    # bfloat16 and the like are unknown to numpy's files; float32 holds them exactly
    return array.astype('float32') if array.dtype.kind == 'V' else array


def arrays_of(model, metrics=False):
    """{name: array} of `variables_of`; in `fit`, too, between two steps."""
    if hasattr(model, 'jax_state_sync'):
        model.jax_state_sync()  # in `fit` JAX's variables are elsewhere
    return {name: numbers(v) for name, v in variables_of(model, metrics).items()}


def assign(variables, arrays, source):
    """Give variables the arrays of the same names; nothing is assigned if one differs.

    Args:
        variables: {name: variable}.
        arrays: {name: array}.
        source: where they are from, for the message.

    Raises ValueError if names or shapes differ.
    """
    shapes = {name: tuple(v.shape) for name, v in variables.items()}
    found = {name: array.shape for name, array in arrays.items()}
    if found != shapes:
        wrong = [n for n in {**shapes, **found} if found.get(n) != shapes.get(n)]
        path = getattr(variables.get(wrong[0]), 'path', None)
        raise ValueError(
            f'{source} is the state of another model: {wrong[0]} '
            f'{f"({path}) " if path else ""}has shape {found.get(wrong[0])} there and '
            f'{shapes.get(wrong[0])} here, and {len(wrong) - 1} more differ. '
            'Use another directory.'
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def random_state():
    """{name: array}: the random states of Python, numpy, Keras and the framework."""
    version, words, gauss = random.getstate()
    kind, keys, position, cached, value = np.random.get_state()
    about = {'python': [version, gauss], 'numpy': [kind, position, cached, value]}
    return {
        'python': np.array(words, 'uint64'),
        'numpy': keys,
        'about': np.array(json.dumps(about)),
        **backends.random_state(),
    }


def set_random_state(arrays):
    """Go back to what `random_state` gave."""
    arrays = dict(arrays)
    about = json.loads(str(arrays.pop('about')))
    version, gauss = about['python']
    random.setstate((version, tuple(arrays.pop('python').tolist()), gauss))
    kind, *rest = about['numpy']
    np.random.set_state((kind, arrays.pop('numpy'), *rest))
    backends.set_random_state(arrays)


@contextmanager
def whole_file(path):
    """A path to write to, which takes the place of `path` when all of it is on disk.

    What is there before stays there if the block fails or the process is killed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # one name, so that those who are killed leave no more than one behind
    unfinished = path.with_name(f'unfinished.{path.name}')
    try:
        yield unfinished
        _to_disk(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    if os.name == 'posix':
        _to_disk(path.parent)


def _to_disk(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_state(file, about, arrays):
    """Write a dict that JSON can hold and named arrays; the file changes at once."""
    with whole_file(file) as unfinished:
        np.savez(unfinished, about=np.array(json.dumps(about)), **arrays)


def shared_bytes(file):
    """What is in a file of the first of several processes, in each; b'' if none is."""
    file = Path(file)
    mine = distribution.processes()[0] == 0 and file.exists()
    return distribution.share(file.read_bytes() if mine else b'')


def read_shared(file):
    """`read_state` of the first of several processes, in each; None: no such file."""
    if distribution.processes()[1] == 1:
        return read_state(file) if Path(file).exists() else None
    data = shared_bytes(file)
    return read_state(file, data) if data else None


def read_state(file, data=None):
    """(about, arrays) as written, or from the bytes of the file.

    Raises ValueError if the file is damaged, of which checksums tell, or foreign.
    """
    try:
        # Opened here, for numpy leaves a damaged file open.
        opened = Path(file).open('rb') if data is None else io.BytesIO(data)
        with opened as raw, np.load(raw) as state:
            arrays = {name: state[name] for name in state.files}
            return json.loads(str(arrays.pop('about'))), arrays
    except (
        OSError, KeyError, ValueError, AttributeError, TypeError, EOFError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(
            f'{file} is damaged, or no state of a training ({error}); '
            'take it away to begin anew.'
        ) from None
