"""Several devices and machines, through what each framework has for them."""

from importlib import import_module

import keras
import numpy as np

_PART = 2**26  # numbers that are sent at once


def connect(addresses, count, index):
    """Make this process one of several, before anything else is computed.

    Args:
        addresses: list of 'host:port', of every process; JAX needs the first only.
        count: number of processes.
        index: which of them this one is.
    """
    _backend().connect(list(addresses), count, index)


def make(how, devices, shards=None, split=None):
    """What the framework calls a distribution or a strategy.

    Args:
        how: 'data', each device a part of the batch; 'model', a part of each matrix.
        devices: list that `devices` gave.
        shards: number of devices over which a matrix is split, of how='model'.
        split: (path of a variable, shape) -> its axis that is split, or None.
    """
    return _backend().make(how, devices, shards, split)


def scope(distribution):
    """A scope in which variables are made, and models run, under it."""
    return _backend().scope(distribution)


def use(distribution):
    """Be in its scope for the rest of the program; None leaves it."""
    _backend().use(distribution)


def move(model, distribution):
    """Spread the variables of a model that was made before, and of its optimizer."""
    variables = {id(v): v for v in _variables(model)}
    _backend().move(model, list(variables.values()), distribution)
    for name in ('train_function', 'test_function', 'predict_function'):
        setattr(model, name, None)


def whole_batches():
    """A scope in which each of several processes computes a batch as a whole.

    Only so can it look at the outputs, of which JAX else gives it its own.
    """
    return _backend().whole_batches()


def processes():
    """(index of this process, their number)."""
    return _backend().processes()


def share(data):
    """The bytes that the first process gives; each must call this, with its own."""
    index, count = processes()
    if count == 1:
        return data
    size = _backend().share(np.array([len(data) >> 24, len(data) % 2**24], 'int32'))
    size = (int(size[0]) << 24) + int(size[1])
    numbers = np.zeros(-(-size // 4), 'int32')
    if index == 0:
        numbers.view('uint8')[:size] = np.frombuffer(data, 'uint8')
    for start in range(0, len(numbers), _PART):
        part = slice(start, start + _PART)
        numbers[part] = _backend().share(numbers[part])
    return numbers.tobytes()[:size]


def bytes_per_device(variables):
    """{name of a device: bytes of the variables that lie there}."""
    return _backend().bytes_per_device(variables)


def devices(wanted=None):
    """The framework's names of devices.

    Args:
        wanted: a list of names, the number of the first ones, or None for all.

    Raises ValueError if there are not as many, or a name is none of theirs.
    """
    known = _backend().device_names()
    if wanted is None:
        return known
    if isinstance(wanted, int):
        if 1 <= wanted <= len(known):
            return known[:wanted]
    elif wanted:
        named = {_bare(name): name for name in known}
        if all(_bare(name) in named for name in wanted):
            return [named[_bare(name)] for name in wanted]
    raise ValueError(
        f'devices={wanted!r}: {keras.config.backend()} sees {len(known)}: '
        f'{", ".join(known) or "none"}.'
    )


def _bare(name):
    """'/GPU:0', 'gpu:0' and '/device:GPU:0' are one."""
    return ':'.join(str(name).lower().split(':')[-2:]).strip('/').replace('cuda', 'gpu')


def _variables(model):
    found = [*model.variables]
    if getattr(model, 'compiled', False):
        found += [*model.metrics_variables]
    optimizer = getattr(model, 'optimizer', None)
    if optimizer is not None:
        found += [*optimizer.variables]
    return found


def _backend():
    return import_module(f'keraseff.backends.distribution.{keras.config.backend()}')
