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
        return keras.distribution.DataParallel(devices=devices)
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // shards, shards), (_BATCH, _MODEL), devices
    )
    return _Split(keras.distribution.LayoutMap(mesh), split)


class _Split(keras.distribution.ModelParallel):
    """Splits a variable along the axis that a function of its path and shape says."""

    def __init__(self, layout_map, split):
        super().__init__(layout_map=layout_map, batch_dim_name=_BATCH)
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
    # Keras splits every batch alike and fails at the last, if that is shorter.
    distribution_lib.distribute_data_input = _KERAS if distribution is None else _batch


_KERAS = distribution_lib.distribute_data_input


def _batch(array, layout, batch_dim_name):
    """A batch on its devices; whole on each where its rows do not come out even."""
    sharding = getattr(layout, 'backend_layout', layout)
    parts = sharding.mesh.shape[batch_dim_name]
    if sharding.is_fully_addressable and len(array) % parts:
        whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
        return jax.device_put(array, whole)
    return _KERAS(array, sharding, batch_dim_name)


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
    now = keras.distribution.distribution()
    if now is None:
        return 0, 1
    return now.data_shard_id, min(now.num_processes, now.num_model_replicas)


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
