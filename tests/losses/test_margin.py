"""Cross-entropy with a margin against the formula as it is written."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import gradients
from harness import save_and_reopen
from harness import to_numpy
from keras import ops

from keraseff.losses import MarginSoftmaxLoss
from keraseff.losses import margin_softmax_crossentropy


def case(rng, rows=6, c=5):
    return rng.uniform(-1, 1, (rows, c)).astype('float32'), rng.integers(0, c, rows)


def formula(ids, cosines, scale, margin):
    """-log(e^{s (c_t - m)} / (e^{s (c_t - m)} + Σ_{j≠t} e^{s c_j})), row by row."""
    out = []
    for t, row in zip(ids, cosines.astype('float64'), strict=True):
        right = np.exp(scale * (row[t] - margin))
        out.append(-np.log(right / (right + np.exp(scale * np.delete(row, t)).sum())))
    return np.array(out)


def test_loss_is_the_formula(rng):
    cosines, ids = case(rng)
    expected = formula(ids, cosines, 30, 0.35)
    assert_close(margin_softmax_crossentropy(ids, cosines), expected, rtol=1e-5)
    assert_close(margin_softmax_crossentropy(ids[:, None], cosines), expected)
    shares = np.eye(5, dtype='float32')[ids]
    assert_close(margin_softmax_crossentropy(shares, cosines), expected)
    cube = margin_softmax_crossentropy(ids.reshape(2, 3), cosines.reshape(2, 3, 5))
    assert_close(cube, expected.reshape(2, 3))
    other = margin_softmax_crossentropy(ids, cosines, scale=5.0, margin=0.1)
    assert_close(other, formula(ids, cosines, 5, 0.1), rtol=1e-5)
    half = margin_softmax_crossentropy(ids, cosines.astype('float16'))
    assert to_numpy(half).dtype == np.float32
    assert_close(half, expected, atol=0.03)


def test_without_margin_it_is_the_scaled_cross_entropy(rng):
    cosines, ids = case(rng)

    def plain(x):
        return keras.losses.sparse_categorical_crossentropy(
            ids, 30 * x, from_logits=True
        )

    def ours(x, margin=0.0):
        return margin_softmax_crossentropy(ids, x, margin=margin)

    assert_close(ours(cosines), plain(cosines), rtol=1e-4)
    (a,) = gradients(lambda x: ops.sum(ours(x)), cosines)
    (b,) = gradients(lambda x: ops.sum(plain(x)), cosines)
    assert_close(a, b, atol=1e-4)
    assert (to_numpy(ours(cosines, 0.35)) > to_numpy(ours(cosines))).all()


@pytest.mark.every_backend
def test_gradients_are_finite_differences(rng):
    cosines, ids = case(rng)
    (found,) = gradients(
        lambda x: ops.sum(margin_softmax_crossentropy(ids, x, scale=5.0)), cosines
    )
    wide, h = cosines.astype('float64'), 1e-6
    for j, step in enumerate(h * np.eye(5)):
        up, down = (formula(ids, wide + s * step, 5, 0.35) for s in (1, -1))
        np.testing.assert_allclose(found[:, j], (up - down) / (2 * h), atol=1e-4)


def test_scores_far_apart_stay_finite():
    cosines = np.array([[1, -1, -1], [-1, 1, 1], [1, -np.inf, 0]], 'float32')
    ids = np.array([0, 0, 0])
    found = to_numpy(margin_softmax_crossentropy(ids, cosines, scale=1000.0))
    np.testing.assert_allclose(found, [0, 2350 + np.log(2), 0], rtol=1e-6)
    (slope,) = gradients(
        lambda x: ops.sum(margin_softmax_crossentropy(ids, x, scale=1000.0)), cosines
    )
    assert np.isfinite(slope).all()


def test_the_class_is_the_mean_of_the_function_and_is_saved(rng):
    cosines, ids = case(rng)
    loss = MarginSoftmaxLoss(scale=7.0, margin=0.2)
    each = to_numpy(margin_softmax_crossentropy(ids, cosines, 7.0, 0.2))
    assert float(loss(ids, cosines)) == pytest.approx(each.mean(), rel=1e-5)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert again.get_config() == loss.get_config()
    assert again.get_config()['margin'] == 0.2
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5)])
    model.compile('sgd', loss)
    before = model.evaluate(cosines, ids, verbose=0)
    reopened = save_and_reopen(model)
    assert reopened.loss.options == {'scale': 7.0, 'margin': 0.2}
    assert reopened.evaluate(cosines, ids, verbose=0) == pytest.approx(before, rel=1e-5)
    model.fit(cosines, ids, epochs=3, verbose=0)
    assert model.evaluate(cosines, ids, verbose=0) < before
