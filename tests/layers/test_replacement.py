"""The choice between two branches while training."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import gradients
from harness import to_numpy
from keras import ops

from keraseff.layers import BinaryRandomChoice

FIRST = np.zeros((4, 3, 2), 'float32')
SECOND = np.ones((4, 3, 2), 'float32')


def draws(layer, times):
    """What was chosen, 1 for the second, of each row."""
    return np.stack(
        [to_numpy(layer([FIRST, SECOND], training=True))[:, 0, 0] for _ in range(times)]
    )


def test_contract():
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype('float32')

    def call(layer, x):
        # The second stands behind a weight, so that there is something to train.
        return layer([x, x * 2.0])

    check_layer(lambda **kwargs: BinaryRandomChoice(seed=1, **kwargs), x, call=call)


@pytest.mark.every_backend
@pytest.mark.parametrize('per_example', [False, True])
def test_the_rate_is_that_of_the_draws(per_example):
    layer = BinaryRandomChoice(0.3, per_example, seed=4)
    assert_close(layer([FIRST, SECOND]), SECOND)  # inference
    found = draws(layer, 300)
    share = found.mean() if per_example else found[:, 0].mean()
    n = found.size if per_example else len(found)
    assert abs(share - 0.3) < 3.5 * (0.3 * 0.7 / n) ** 0.5
    together = (found == found[:, :1]).all()
    assert together != per_example
    layer.replacement.assign(0.0)
    assert not draws(layer, 20).any()
    layer.replacement.assign(1.0)
    assert draws(layer, 20).all()


@pytest.mark.every_backend
def test_only_the_chosen_branch_has_gradients():
    layer = BinaryRandomChoice(1.0)
    layer.build([FIRST.shape, SECOND.shape])

    def f(a, b):
        with keras.StatelessScope():  # JAX: no seed leaves the traced function
            return ops.sum(layer([a * 3.0, b * 5.0], training=True))

    for rate, expected in ((1.0, (0, 5)), (0.0, (3, 0))):
        layer.replacement.assign(rate)
        a, b = gradients(f, FIRST, SECOND)
        assert (a == expected[0]).all()
        assert (b == expected[1]).all()


@pytest.mark.every_backend
def test_the_mask_is_that_of_the_chosen_branch():
    layer = BinaryRandomChoice(0.0)
    masks = np.array([[1, 1, 0]] * 4, bool), np.array([[1, 0, 0]] * 4, bool)

    def mask(training):
        pair = [ops.convert_to_tensor(a.copy()) for a in (FIRST, SECOND)]
        for tensor, m in zip(pair, masks, strict=True):
            keras.src.backend.set_keras_mask(tensor, ops.convert_to_tensor(m))
        return to_numpy(layer(pair, training=training)._keras_mask)

    np.testing.assert_array_equal(mask(True), masks[0])
    np.testing.assert_array_equal(mask(False), masks[1])
    layer.replacement.assign(1.0)
    np.testing.assert_array_equal(mask(True), masks[1])


def test_wrong_arguments_are_told():
    with pytest.raises(ValueError, match='probability'):
        BinaryRandomChoice(1.5)
    with pytest.raises(ValueError, match=r'\(4, 3, 2\) and \(4, 3\)'):
        BinaryRandomChoice()([FIRST, FIRST[..., 0]])
