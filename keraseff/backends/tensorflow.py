"""What is written for TensorFlow alone."""

import tensorflow as tf


def empty(shape, dtype):
    """A tensor whose memory is not touched before it is written."""
    return tf.raw_ops.Empty(shape=shape, dtype=tf.as_dtype(dtype))
