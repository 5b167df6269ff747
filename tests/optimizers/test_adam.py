"""Adam against its formula, whatever the weight and its gradient are."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy
from keras import ops
from reference import optimizers as slow

from keraseff.optimizers import Adam

GRADIENTS = np.random.default_rng(0).normal(size=(6, 4, 3)).astype('float32')
START = np.random.default_rng(1).normal(size=(4, 3)).astype('float32')


def expected(start=START, gradients=GRADIENTS, correct=True):
    p, step = start.astype('float64'), slow.Adam(bias_correction=correct)
    for g in gradients:
        p = step(p, g.astype('float64'), 0.01)
    return p


def found(weight, gradients, correct=True):
    optimizer = Adam(0.01, bias_correction=correct)
    for g in gradients:
        optimizer.apply([g], [weight])
    assert int(optimizer.iterations) == len(gradients)
    return to_numpy(ops.cast(weight, 'float32'))


def turned(array):
    """The same numbers, which PyTorch keeps in the order of the columns."""
    return ops.transpose(ops.convert_to_tensor(np.ascontiguousarray(array.T)))


@pytest.mark.parametrize('correct', [True, False])
@pytest.mark.parametrize(
    ('dtype', 'of_gradient', 'atol'),
    [
        ('float32', 'float32', 1e-6),
        ('float32', 'float16', 2e-4),
        ('float32', 'bfloat16', 2e-3),
        ('float16', 'float32', 5e-3),
        ('float16', 'float16', 5e-3),
        ('bfloat16', 'bfloat16', 5e-2),
    ],
)
def test_dtypes(dtype, of_gradient, atol, correct):
    weight = keras.Variable(START, dtype=dtype)
    gradients = [ops.cast(ops.convert_to_tensor(g), of_gradient) for g in GRADIENTS]
    result = found(weight, gradients, correct)
    assert_close(result, expected(correct=correct), atol=atol)
    assert np.abs(result - START).max() > 0.01  # it moves, farther than it is off


@pytest.mark.parametrize('of_weight', [ops.convert_to_tensor, turned])
@pytest.mark.parametrize('of_gradient', [ops.convert_to_tensor, turned])
def test_layouts_in_memory(of_weight, of_gradient):
    weight = keras.Variable(of_weight(START))
    gradients = [of_gradient(g) for g in GRADIENTS]
    assert_close(found(weight, gradients), expected(), atol=1e-6)


def test_scalars_and_nothing():
    for index in ((0, 0), (slice(0), slice(None))):
        gradients = [ops.convert_to_tensor(np.array(g[index])) for g in GRADIENTS]
        result = found(keras.Variable(START[index]), gradients)
        wanted = expected(START[index], [g[index] for g in GRADIENTS])
        assert result.shape == wanted.shape
        assert_close(result, wanted, atol=1e-6)


def test_loss_scaling():
    """A step that overflows is none; the others have the gradients before scaling."""
    weight = keras.Variable(START)
    optimizer = keras.optimizers.LossScaleOptimizer(Adam(0.01), initial_scale=8.0)
    for g in (*GRADIENTS[:3] * 8, np.full((4, 3), np.inf), *GRADIENTS[3:] * 4):
        optimizer.apply([ops.convert_to_tensor(g.astype('float32'))], [weight])
    assert_close(to_numpy(ops.convert_to_tensor(weight)), expected(), atol=1e-6)
