"""Distribution under TensorFlow: `tf.distribute`."""

import json
import os
from contextlib import nullcontext
from functools import cache

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer


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
        return _workers()
    return tf.distribute.MirroredStrategy(devices)


@cache
def _workers():
    return _Workers()


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


def _apply_gradients(optimizer, grads, variables):
    """Keras' own, which with gradient accumulation works on one device only.

    There each device decides for itself whether to update, and within a decision none
    may wait for the others.  So gradients are summed over the devices before it, and it
    is taken once for all of them.
    """
    device = tf.distribute.get_replica_context()
    alone = device is None or device.num_replicas_in_sync == 1
    alone = alone or tf.__internal__.distribute.strategy_supports_no_merge_call()
    if alone or not optimizer.gradient_accumulation_steps:
        return BaseOptimizer._backend_apply_gradients(optimizer, grads, variables)
    pairs = optimizer._all_reduce_sum_gradients(zip(grads, variables, strict=True))

    def together(strategy, grads):
        local = [strategy.experimental_local_results(g)[0] for g in grads]
        BaseOptimizer._backend_apply_gradients(optimizer, local, variables)

    device.merge_call(together, args=([g for g, _ in pairs],))


def _maybe_merge_call(function, strategy, *args, **kwargs):
    """TensorFlow's own, that may also be called where the devices are together."""
    if tf.distribute.in_cross_replica_context():
        return function(strategy, *args, **kwargs)
    return _TENSORFLOW(function, strategy, *args, **kwargs)


_interim = tf.__internal__.distribute.interim
_TENSORFLOW = _interim.maybe_merge_call
_interim.maybe_merge_call = _maybe_merge_call
TFOptimizer._backend_apply_gradients = _apply_gradients

whole_batches = nullcontext


def processes():
    """See `keraseff.backends.distribution.processes`."""
    if not _workers.cache_info().currsize:
        return 0, 1
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    return cluster.task_id, cluster.cluster_spec().num_tasks('worker')


def share(numbers):
    """The int32 array that the first process gives, of the same shape in each."""

    @tf.function
    def on_device(given):
        device = tf.distribute.get_replica_context()
        first = device.replica_id_in_sync_group == 0
        given = tf.where(first, given, tf.zeros_like(given))
        return device.all_reduce(tf.distribute.ReduceOp.SUM, given)

    found = _workers().run(on_device, args=(tf.constant(numbers),))
    return _workers().experimental_local_results(found)[0].numpy()


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
