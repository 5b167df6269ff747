"""Distribution under TensorFlow: `tf.distribute`."""

import json
import os
from contextlib import nullcontext
from functools import cache

import keras
import tensorflow as tf


def connect(addresses, count, index):
    """See `keraseff.backends.distribution.connect`."""
    if len(addresses) != count:
        raise ValueError(
            f'TensorFlow wants the host:port of each of the {count} processes; '
            f'{len(addresses)} came.'
        )
    cluster = {'worker': addresses}
    task = {'type': 'worker', 'index': index}
    os.environ['TF_CONFIG'] = json.dumps({'cluster': cluster, 'task': task})


def make(how, devices, shards, split):
    """See `keraseff.backends.distribution.make`."""
    if how == 'model':
        raise ValueError(
            "how='model' splits matrices through keras.distribution, which only JAX "
            "has: set KERAS_BACKEND=jax, or take how='data'."
        )
    return _strategy(*devices)


@cache
def _strategy(*devices):
    """One for the whole process, for those of the same devices get in each other's way.

    Their collective operations are numbered from the same number.
    """
    if 'TF_CONFIG' in os.environ:
        return _Workers()
    return tf.distribute.MirroredStrategy(devices)


class _Workers(tf.distribute.MultiWorkerMirroredStrategy):
    """The strategy, with what Keras asks of it and only the one of one machine has."""

    def reduce(self, reduce_op, value, axis=None):
        """Of a nest, a batch of which Keras wants the shapes, what is here."""
        local = tf.nest.map_structure(
            lambda part: self.experimental_local_results(part)[0], value
        )
        if isinstance(value, tuple | list | dict):
            return local
        # Keras asks for the mean of metrics, which are scalars, along axis 0.
        axis = None if local.shape.rank == 0 else axis
        return super().reduce(reduce_op, value, axis)


def scope(distribution):
    """See `keraseff.backends.distribution.scope`."""
    return distribution.scope()


def use(distribution):
    """See `keraseff.backends.distribution.use`."""
    tf.distribute.experimental_set_strategy(distribution)


def move(model, variables, distribution):
    """See `keraseff.backends.distribution.move`.

    Each of Keras' variables gets another of TensorFlow's within it.
    """
    with distribution.scope():
        for variable in variables:
            variable._initialize(keras.ops.convert_to_numpy(variable))
    model._distribute_strategy = distribution
    optimizer = getattr(model, 'optimizer', None)
    while optimizer is not None:
        optimizer._distribution_strategy = distribution
        known = enumerate(getattr(optimizer, '_trainable_variables', ()))
        optimizer._trainable_variables_indices = {
            optimizer._var_key(variable): i for i, variable in known
        }
        optimizer = getattr(optimizer, 'inner_optimizer', None)


whole_batches = nullcontext


def processes():
    """See `keraseff.backends.distribution.processes`."""
    if 'TF_CONFIG' not in os.environ:
        return 0, 1
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    return cluster.task_id, cluster.cluster_spec().num_tasks('worker')


def bytes_per_device(variables):
    """See `keraseff.backends.distribution.bytes_per_device`."""
    found = {}
    for variable in variables:
        for copy in getattr(variable.value, 'values', [variable.value]):
            name = copy.device
            size = copy.dtype.size * copy.shape.num_elements()
            found[name] = found.get(name, 0) + size
    return found


def device_names():
    """See `keraseff.backends.distribution.device_names`."""
    # Several processes must meet before logical devices are listed.
    several = 'TF_CONFIG' in os.environ
    config = tf.config
    listed = config.list_physical_devices if several else config.list_logical_devices
    return [device.name for device in listed('GPU') or listed('CPU')]
