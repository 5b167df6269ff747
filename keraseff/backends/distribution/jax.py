"""Distribution under JAX: `keras.distribution`."""

from contextlib import contextmanager

import jax
import keras
import numpy as np
from keras.src.backend.jax import distribution_lib

_BATCH, _MODEL = 'batch', 'model'


def connect(addresses, count, index):
    """See `keraseff.backends.distribution.connect`."""
    if not jax.distributed.is_initialized():
        keras.distribution.initialize(addresses[0], count, index)


def make(how, devices, shards, split):
    """See `keraseff.backends.distribution.make`."""
    if how == 'data':
        return keras.distribution.DataParallel(
            devices=devices, auto_shard_dataset=False
        )
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // shards, shards), (_BATCH, _MODEL), devices
    )
    return _Split(keras.distribution.LayoutMap(mesh), split)


class _Split(keras.distribution.ModelParallel):
    """Splits a variable along the axis that a function of its path and shape says."""

    def __init__(self, layout_map, split):
        super().__init__(
            layout_map=layout_map, batch_dim_name=_BATCH, auto_shard_dataset=False
        )
        self.split = split

    def get_variable_layout(self, variable):
        """The layout of a Keras variable."""
        axis = self.split(variable.path, tuple(variable.shape))
        if getattr(variable, '_layout', None) is not None or axis is None:
            return super().get_variable_layout(variable)
        axes = [None] * len(variable.shape)
        axes[axis] = _MODEL
        return keras.distribution.TensorLayout(axes, self.device_mesh)


@contextmanager
def scope(distribution):
    """See `keraseff.backends.distribution.scope`."""
    before = keras.distribution.distribution()
    use(distribution)
    try:
        yield
    finally:
        use(before)


def use(distribution):
    """See `keraseff.backends.distribution.use`."""
    keras.distribution.set_distribution(distribution)
    # Keras splits every batch alike, which fails at the last one if it is shorter, and
    # wants other rows from each process, where TensorFlow takes the same.
    distribution_lib.distribute_data_input = _KERAS if distribution is None else _batch


_KERAS = distribution_lib.distribute_data_input
_whole = False


def _batch(array, layout, batch_dim_name):
    """A batch on its devices; whole on each where its rows do not come out even."""
    sharding = getattr(layout, 'backend_layout', layout)
    if _whole or len(array) % sharding.mesh.shape[batch_dim_name]:
        whole = jax.sharding.PartitionSpec()
        sharding = jax.sharding.NamedSharding(sharding.mesh, whole)
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)


@contextmanager
def whole_batches():
    """See `keraseff.backends.distribution.whole_batches`."""
    global _whole
    before, _whole = _whole, jax.process_count() > 1
    try:
        yield
    finally:
        _whole = before


def move(model, variables, distribution):
    """See `keraseff.backends.distribution.move`."""
    for variable in variables:
        array = np.asarray(variable.value)
        variable._layout = None
        variable._layout = distribution.get_variable_layout(variable)
        variable.assign(spread(variable, array))


def spread(variable, array):
    """An array on the devices of a variable, of which each receives its part only."""
    sharding = variable._layout.backend_layout
    dtype = jax.numpy.dtype(variable.dtype)
    return jax.make_array_from_callback(
        tuple(variable.shape), sharding, lambda part: np.array(array[part], dtype)
    )


def processes():
    """See `keraseff.backends.distribution.processes`."""
    return jax.process_index(), jax.process_count()


def share(numbers):
    """The int32 array that the first process gives, of the same shape in each."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(numbers))


def bytes_per_device(variables):
    """See `keraseff.backends.distribution.bytes_per_device`."""
    found = {}
    for variable in variables:
        for shard in variable.value.addressable_shards:
            name = f'{shard.device.platform}:{shard.device.id}'
            found[name] = found.get(name, 0) + shard.data.nbytes
    return found


def device_names():
    """See `keraseff.backends.distribution.device_names`."""
    return keras.distribution.list_devices()
