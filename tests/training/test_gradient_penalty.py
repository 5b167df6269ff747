"""Penalties on gradients, against differences of plain losses."""

import keras
import numpy as np
import pytest
from keras import ops
from tricks import IDS
from tricks import LABELS
from tricks import array
from tricks import build
from tricks import logistic
from tricks import plain_gradient
from tricks import train
from tricks import weights

from keraseff import training
from keraseff.training.objective import Batch


def penalised(model, y=LABELS):
    return float(array(model.objective(Batch(model, IDS, y))[0]))


@pytest.mark.parametrize(
    'from_logits', [pytest.param(True, marks=pytest.mark.every_backend), False]
)
def test_gradient_penalty_and_its_own_gradient(from_logits):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)

    def make():
        model = build(loss=loss, rate=1.0)
        if from_logits:
            return model
        shares = keras.layers.Softmax(dtype='float32')(model.output)
        model = keras.Model(model.input, shares)
        model.compile(keras.optimizers.SGD(1.0), loss)
        return model

    model = make()
    plain = model.test_on_batch(IDS, LABELS)
    norm = (plain_gradient(make) ** 2).sum()
    training.gradient_penalty(model, epsilon=3.0)
    np.testing.assert_allclose(penalised(model) - plain, 1.5 * norm, rtol=1e-4)
    # The step of SGD is the gradient of that number.
    start = [w.copy() for w in model.get_weights()]
    train(model, 1)
    step = [a - b for a, b in zip(start, model.get_weights(), strict=True)]
    size = np.sqrt(sum((s**2).sum() for s in step))
    ends = []
    for sign in (1, -1):
        model.set_weights(
            [w + sign * 0.02 * s / size for w, s in zip(start, step, strict=True)]
        )
        ends.append(penalised(model))
    np.testing.assert_allclose((ends[0] - ends[1]) / 0.04, size, rtol=1e-2)


def test_per_example_it_is_the_mean_over_what_is_looked_up():
    model = training.gradient_penalty(build(), epsilon=2.0, per='example')
    whole = penalised(model) - model.test_on_batch(IDS, LABELS)
    alone = []
    for i in range(4):
        one = training.gradient_penalty(build(), epsilon=2.0, per='example')
        batch = Batch(one, IDS[i : i + 1], LABELS[i : i + 1])
        loss = one.test_on_batch(batch.x, batch.y)
        alone.append(float(array(one.objective(batch)[0])) - loss)
    # The loss is a mean of 4, its gradient at each example a quarter.
    np.testing.assert_allclose(whole, np.sum(alone) / 16, rtol=1e-4)


@pytest.mark.parametrize('kind', ['squares', 'kl'])
def test_jacobian_penalty_is_what_noise_does_to_the_outputs(kind):
    model, ids = logistic()
    y = np.zeros(5, 'int32')
    vectors, kernel = model.get_weights()
    scores = vectors[:5] @ kernel
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    if kind == 'squares':
        true = 2 * (kernel**2).sum()
    else:
        fisher = [kernel @ (np.diag(q) - np.outer(q, q)) @ kernel.T for q in p]
        true = np.mean([np.trace(f) for f in fisher])
    training.jacobian_penalty(model, epsilon=0.1, kind=kind, samples=60, per='example')
    batch = Batch(model, ids, y)
    plain = float(array(batch.loss(batch.predict())))
    found = float(array(model.objective(batch)[0])) - plain
    np.testing.assert_allclose(found, 0.05 * true, rtol=0.15)


def test_the_probe_does_not_overflow_in_float16():
    plain = train(training.jacobian_penalty(build(rate=0.1)), 1)
    keras.config.set_dtype_policy('mixed_float16')
    model = build(rate=0.1)
    model.compile('adam', model.loss)  # with a loss scale of 2 ** 15
    losses = train(training.jacobian_penalty(model), 3)
    np.testing.assert_allclose(losses[:1], plain, rtol=1e-2)
    assert np.isfinite(losses).all()


def test_signs_differ_from_step_to_step():
    model = training.jacobian_penalty(build(rate=0.0), epsilon=1.0)
    losses = train(model, 3)
    assert len({round(x, 6) for x in losses}) == 3
    np.testing.assert_array_equal(weights(model), weights(build()))


def test_noise_and_the_laplacian():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(5, 5)).astype('float32')
    curve = root @ root.T
    x = rng.normal(size=5).astype('float32')

    def quadratic(x):
        return ops.sum(x * ops.matmul(ops.convert_to_tensor(curve), x)) / 2

    found = float(array(training.laplacian(quadratic, x, samples=200)))
    np.testing.assert_allclose(found, np.trace(curve), rtol=0.1)
    exact = training.laplacian(lambda x: ops.sum(x**4), x)  # diagonal
    np.testing.assert_allclose(array(exact), (12 * x**2).sum(), rtol=1e-5)
    # The mean over noise, of a quadratic: all of it, to any order.
    noise = 0.7 * rng.normal(size=(200_000, 5))
    moved = x + noise
    mean = np.einsum('ni,ij,nj->n', moved, curve, moved).mean() / 2
    start = x @ curve @ x / 2
    np.testing.assert_allclose(mean, start + 0.49 / 2 * np.trace(curve), rtol=1e-2)


def test_noisy_embeddings_have_the_mean_loss_of_the_expansion():
    ids = keras.Input((1,), dtype='int32')
    layer = keras.layers.Embedding(3, 4, name='Embedding-Token')
    model = keras.Model(ids, layer(ids)[:, 0])
    model.compile(keras.optimizers.SGD(0.0), 'mse')  # the mean of 4 squares
    x, y = np.array([[1], [2]]), np.ones((2, 4), 'float32')
    plain = model.test_on_batch(x, y)
    training.noisy_embeddings(model, sigma=0.5)
    losses = train(model, 200, x, y)
    assert np.std(losses) > 0.05
    # The Laplacian of the mean square of one vector is 2.
    np.testing.assert_allclose(np.mean(losses) - plain, 0.25, rtol=0.15)


def test_options_that_do_not_exist():
    with pytest.raises(ValueError, match="choose 'squares' or 'kl'"):
        training.jacobian_penalty(build(), kind='both')
