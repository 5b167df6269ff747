"""Distribution under TensorFlow: `tf.distribute`."""

import json
import os

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
    if 'TF_CONFIG' in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.MirroredStrategy(devices)


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
        optimizer = getattr(optimizer, 'inner_optimizer', None)


def processes():
    """See `keraseff.backends.distribution.processes`.

    Every process reads whole batches, of which the strategy leaves it its part.
    """
    return 0, 1


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
    gpus = tf.config.list_logical_devices('GPU')
    return [d.name for d in gpus or tf.config.list_logical_devices('CPU')]
