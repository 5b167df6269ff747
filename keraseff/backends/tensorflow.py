"""What is written for TensorFlow alone."""

from contextlib import nullcontext

import keras
import tensorflow as tf


def empty(shape, dtype):
    """A tensor whose memory is not touched before it is written."""
    return tf.raw_ops.Empty(shape=shape, dtype=tf.as_dtype(dtype))


def dense(gradient):
    """See `keraseff.backends.dense`; Keras leaves `tf.IndexedSlices` as they are."""
    return tf.convert_to_tensor(gradient)


def differentiate(function, values, again):
    """See `keraseff.backends.differentiate`; another tape around differentiates it."""
    with tf.GradientTape() as tape:
        tape.watch(values)
        value, aux = function(*values)
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(value, values, unconnected_gradients=zero)
    return aux, [tf.convert_to_tensor(g) for g in gradients]  # some are sparse


def set_objective(model, objective, constants):
    """See `keraseff.backends.set_objective`."""

    def train_step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss, y_pred = objective(x, y, sample_weight)
            scaled = model.optimizer.scale_loss(loss)
        whole = loss * tf.cast(
            tf.distribute.get_strategy().num_replicas_in_sync, loss.dtype
        )
        _count(model, x, whole)
        variables = model.trainable_variables
        gradients = tape.gradient(scaled, variables)
        model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    model.train_step = train_step


repeatable = nullcontext
without_gradients = nullcontext


def _count(model, x, loss):
    first = next(i for i in keras.tree.flatten(x) if i is not None)
    model._loss_tracker.update_state(loss, sample_weight=tf.shape(first)[0])


def random_state():
    """See `keraseff.backends.random_state`; Keras draws nothing from TensorFlow's."""
    return {}


def set_random_state(state):
    """See `keraseff.backends.set_random_state`."""


def fit_input(stream):
    """See `keraseff.backends.fit_input`.

    A dataset, for of a generator Keras would take an axis that is equal in the first
    two batches for fixed, and the two after a continuation are any.
    """
    head, axes = stream.ahead()

    def spec(path, *parts):
        first = parts[0]
        if isinstance(first, dict):
            return {k: spec((*path, k), *(p[k] for p in parts)) for k in first}
        if isinstance(first, tuple):
            pairs = enumerate(zip(*parts, strict=True))
            return tuple(spec((*path, i), *column) for i, column in pairs)
        free = axes.get(path, set()) | {0}
        sizes = enumerate(zip(*(p.shape for p in parts), strict=True))
        shape = [None if i in free or len({*n}) > 1 else n[0] for i, n in sizes]
        return tf.TensorSpec(shape, first.dtype)

    # not the iterator itself: it may be asked for twice
    return tf.data.Dataset.from_generator(
        lambda: iter(stream), output_signature=spec((), *head)
    ).prefetch(tf.data.AUTOTUNE)


def recomputed(function, values):
    """See `keraseff.backends.recomputed`."""
    others = []

    def floats(*values):
        found, rest = function(*values)
        others.append(rest)
        return found

    found = tf.recompute_grad(floats)(*values)
    return found, others[0]


def devices():
    """See `keraseff.backends.devices`."""
    devices = tf.config.list_physical_devices('GPU')
    details = map(tf.config.experimental.get_device_details, devices)
    return [d.get('device_name', 'GPU') for d in details] or ['cpu']


def compiled(function):
    """See `keraseff.backends.compiled`."""
    return tf.function(function, reduce_retracing=True)
