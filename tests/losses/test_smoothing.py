"""Smoothed labels for class ids, and divergences, against the formulas."""

import keras
import numpy as np
import pytest
from keras import ops

from keraseff.losses import SmoothedCrossentropy
from keraseff.losses import sigmoid_divergence
from keraseff.losses import smoothed_crossentropy
from keraseff.losses import softmax_divergence


def array(x):
    return np.array(ops.convert_to_numpy(x))


@pytest.mark.every_backend
def test_smoothing_mixes_the_right_class_with_all(rng):
    scores = rng.normal(size=(4, 5, 7)).astype('float32')
    ids = rng.integers(0, 7, (4, 5))
    found = array(smoothed_crossentropy(ids, scores, smoothing=0.2))
    # Keras has it for one-hot labels.
    keras_own = keras.losses.categorical_crossentropy(
        np.eye(7)[ids], scores, from_logits=True, label_smoothing=0.2
    )
    np.testing.assert_allclose(found, array(keras_own), rtol=1e-5)
    each = [array(smoothed_crossentropy(0 * ids + j, scores, 0.0)) for j in range(7)]
    right = array(smoothed_crossentropy(ids, scores, 0.0))
    np.testing.assert_allclose(found, 0.8 * right + 0.2 * np.mean(each, 0), rtol=1e-5)
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    options = {'smoothing': 0.2, 'from_logits': False}
    np.testing.assert_allclose(
        array(smoothed_crossentropy(ids[..., None], p, **options)), found, rtol=1e-4
    )


@pytest.mark.every_backend
def test_ignored_ids_and_masks_do_not_count(rng):
    scores = rng.normal(size=(2, 4, 3)).astype('float32')
    ids = np.array([[0, 2, -1, -1], [1, -1, -1, -1]])
    loss = SmoothedCrossentropy(0.1, ignore_class=-1)
    found = float(array(loss(ids, scores)))
    each = array(smoothed_crossentropy(np.maximum(ids, 0), scores, 0.1))
    np.testing.assert_allclose(found, each[ids >= 0].mean(), rtol=1e-6)
    masked = ops.convert_to_tensor(scores)
    masked._keras_mask = ops.convert_to_tensor(ids >= 0)
    plain = SmoothedCrossentropy(0.1)
    np.testing.assert_allclose(array(plain(np.maximum(ids, 0), masked)), found, 1e-6)
    twin = keras.losses.deserialize(keras.losses.serialize(loss))
    np.testing.assert_allclose(array(twin(ids, scores)), found)
    assert np.isnan(array(smoothed_crossentropy(ids, scores))[ids < 0]).all()


def test_wrong_options():
    with pytest.raises(ValueError, match='from 0 to 1'):
        smoothed_crossentropy([0], [[1.0, 2.0]], smoothing=1.5)
    shares = np.array([[0.5, 0.5]])
    with pytest.raises(ValueError, match='goes with ids'):
        smoothed_crossentropy(shares, np.array([[1.0, 2.0]]), ignore_class=-1)


def test_divergences(rng):
    a, b = rng.normal(size=(2, 6, 5)).astype('float32')
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (a, b))
    kl = (p * np.log(p / q)).sum(-1)
    np.testing.assert_allclose(array(softmax_divergence(a, b)), kl, rtol=1e-4)
    np.testing.assert_allclose(
        array(softmax_divergence(p, q, from_logits=False)), kl, rtol=1e-4
    )
    np.testing.assert_allclose(
        array(softmax_divergence(p, q, from_logits=False, temperature=2.0)),
        array(softmax_divergence(a / 2, b / 2)),
        rtol=1e-4,
    )
    p, q = (1 / (1 + np.exp(-x)) for x in (a, b))
    kl = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(-1)
    np.testing.assert_allclose(array(sigmoid_divergence(a, b)), kl, rtol=1e-4)
    np.testing.assert_allclose(
        array(sigmoid_divergence(p, q, from_logits=False)), kl, rtol=1e-4
    )
    assert np.abs(array(softmax_divergence(a, a))).max() < 1e-6
