"""One model on several devices, or on several machines.

    with distribution('data'):  # a part of each batch for each device
        model = build_transformer_model(config, checkpoint)
        model.compile(...)
        model.fit(...)

    distribute(model)  # as well: spread what is there, for the rest of the program

Nothing else of the program changes, batches included: of several processes each is
given the same whole ones.  JAX trains so through `keras.distribution`, to the numbers
of one device; TensorFlow through `tf.distribute`, which takes the mean of the devices'
losses, so batches should divide evenly, and tricks that look at a whole batch (the norm
of FGM) look at a device's part.
"""

import os
from contextlib import contextmanager
from functools import partial

import keras

from keraseff.backends import distribution as _backend
from keraseff.models.layouts import split_axis

WAYS = 'none', 'data', 'model'
_ADDRESSES = 'KERAS_DISTRIBUTION_JOB_ADDRESSES'
_COUNT = 'KERAS_DISTRIBUTION_NUM_PROCESSES'
_INDEX = 'KERAS_DISTRIBUTION_PROCESS_ID'


@contextmanager
def distribution(how='data', devices=None, shards=None):
    """A scope in which models are made, loaded and trained on several devices.

    Args:
        how: 'data', each device has the whole model and a part of each batch; 'model',
            each has a part of each matrix as well (JAX only); 'none'.
        devices: a list of names, a number, or None for all, those of other machines
            included (see `connect`).
        shards: with 'model', the number of devices that share a matrix, all by
            default; it divides their number, and the batch is split over the rest.

    Weights are made, and read from a checkpoint, where they belong: no device ever
    holds more than its share and one tensor.  A matrix whose size `shards` does not
    divide stays whole.

    Raises ValueError for what the backend does not have, saying which one has.
    """
    made = _made(how, devices, shards)
    if made is None:
        yield
        return
    with _backend.scope(made):
        yield


def distribute(model=None, how='data', devices=None, shards=None):
    """Be in `distribution(...)` for the rest of the program, and spread a model.

    Args:
        model: a `keras.Model` or a built `Transformer`, compiled or not, of which the
            weights are spread where they are; or a function without arguments that
            makes one, so that it is never whole on one device; or None.
        how, devices, shards: see `distribution`.

    Returns the model.  On several machines under TensorFlow the strategy must come
    before the first tensor, so give a function or None.
    """
    made = _made(how, devices, shards)
    built = getattr(model, 'model', model)
    makes = callable(model) and not isinstance(built, keras.Model)
    if made is not None:
        _backend.use(made)
        if isinstance(built, keras.Model):
            _backend.move(built, made)
    return model() if makes else model


def stop_distributing():
    """End what `distribute` began; models made meanwhile stay where they are."""
    _backend.use(None)


def _made(how, devices, shards):
    if how not in WAYS:
        raise ValueError(f'how={how!r} is none of: {", ".join(WAYS)}.')
    if how == 'none':
        return None
    connect()
    devices = _backend.devices(devices)
    shards = len(devices) if shards is None else shards
    if how == 'model' and (shards < 1 or len(devices) % shards):
        raise ValueError(
            f'shards={shards}: {len(devices)} devices cannot be put into groups of so '
            'many; take a number that divides theirs.'
        )
    return _backend.make(how, devices, shards, partial(split_axis, shards=shards))


def connect(addresses=None, count=None, index=None):
    """Make this process one of several that train one model; before anything else.

    Args:
        addresses: 'host:port,host:port,…' of all processes, the same in each; by
            default what the environment has as KERAS_DISTRIBUTION_JOB_ADDRESSES.
        count: their number, by default KERAS_DISTRIBUTION_NUM_PROCESSES, or as many as
            there are addresses.
        index: which of them this is, by default KERAS_DISTRIBUTION_PROCESS_ID.

    Nothing happens where neither says anything; `distribution` calls it.

    Raises ValueError if the index is missing or too large.
    """
    addresses = addresses or os.environ.get(_ADDRESSES)
    if not addresses:
        return
    addresses = addresses.split(',')
    count = int(count or os.environ.get(_COUNT) or len(addresses))
    index = os.environ.get(_INDEX) if index is None else index
    if index is None or not 0 <= int(index) < count:
        raise ValueError(
            f'{_INDEX}={index}: say which of the {count} processes this is, from 0.'
        )
    _backend.connect(addresses, count, int(index))


def processes():
    """(index of this process, number of those that train one model)."""
    return _backend.processes()


def whole_batches():
    """A scope in which `model.predict` works in each of several processes.

    Under JAX a process sees only its own part of the outputs else; within, each
    computes all of them.  One process, and TensorFlow, need none.
    """
    return _backend.whole_batches()


def layout_map(model, mesh, axis='model'):
    """The weights of a model that a mesh splits, for `keras.distribution` itself.

    Args:
        model: a built `keras.Model` of any family.
        mesh: a `keras.distribution.DeviceMesh`.
        axis: the name of that axis of the mesh over which matrices are split.

    Returns a `keras.distribution.LayoutMap`.
    """
    shards = mesh.shape[list(mesh.axis_names).index(axis)]
    found = keras.distribution.LayoutMap(mesh)
    for variable in model.variables:
        split = split_axis(variable.path, tuple(variable.shape), shards)
        if split is not None:
            axes = [None] * len(variable.shape)
            axes[split] = axis
            found[variable.path] = tuple(axes)
    return found


def bytes_per_device(model):
    """{name of a device of this machine: bytes of the model's weights there}."""
    return _backend.bytes_per_device(model.variables)
