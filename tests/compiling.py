"""One compilation for many comparisons."""

import keras
from harness import to_numpy
from keras import ops


def compiled(f, *arrays):
    """f(*tensors) as numpy, f compiled as a whole where the backend compiles.

    On JAX each operation of each shape is compiled by itself otherwise, and with
    TensorFlow this shows that XLA takes it.
    """
    backend = keras.backend.backend()
    if backend == 'jax':
        import jax

        return to_numpy(jax.jit(f)(*arrays))
    tensors = [ops.convert_to_tensor(a) for a in arrays]
    if backend == 'tensorflow':
        import tensorflow as tf

        f = tf.function(f, jit_compile=True)
    return to_numpy(f(*tensors))
