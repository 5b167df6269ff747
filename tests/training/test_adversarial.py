"""Changes of the embeddings: their size, their direction, and where they are made."""

import keras
import numpy as np
import pytest
from keras import ops
from tricks import IDS
from tricks import LABELS
from tricks import array
from tricks import build
from tricks import logistic
from tricks import loss_at
from tricks import plain_gradient
from tricks import train
from tricks import weights

from keraseff import regularizers
from keraseff import training
from keraseff.training.objective import Batch
from keraseff.training.objective import Objective
from keraseff.training.objective import minimise

ON = {
    'fgm': training.adversarial_training,
    'pgd': training.projected_gradient_training,
}


@pytest.mark.every_backend
def test_fgm_moves_along_the_gradient_by_epsilon_and_padding_stays():
    model = training.adversarial_training(build(), epsilon=0.7)
    batch = Batch(model, IDS, LABELS)
    (change,) = model.objective.worst(batch)
    change = array(change)
    assert abs(np.linalg.norm(change) - 0.7) < 1e-5
    assert (change[0] == 0).all()
    true = plain_gradient(build)
    true[0] = 0
    cosine = (change * true).sum() / np.linalg.norm(change) / np.linalg.norm(true)
    assert cosine > 0.99999
    loss, y_pred = model.objective(batch)
    assert y_pred.shape == (4, 3)
    assert abs(float(array(loss)) - loss_at(model, change)) < 1e-6
    assert float(array(loss)) > loss_at(model, 0 * change)


def test_the_step_uses_the_gradient_at_the_changed_matrix_alone():
    model = training.adversarial_training(build(), epsilon=0.7)
    (change,) = model.objective.worst(Batch(model, IDS, LABELS))
    moved = build()
    matrix = moved.get_layer('Embedding-Token').embeddings
    matrix.assign(array(matrix) + array(change))
    start = weights(model)
    there = weights(moved)
    train(model, 1)
    train(moved, 1)
    np.testing.assert_allclose(weights(model) - start, weights(moved) - there,
                               atol=1e-6)  # fmt: skip


def test_to_first_order_it_adds_epsilon_times_the_norm_of_the_gradient():
    model = build()
    gradient = plain_gradient(build)
    gradient[0] = 0
    plain = loss_at(model, 0)
    training.adversarial_training(model, epsilon=1e-2)
    loss, _ = model.objective(Batch(model, IDS, LABELS))
    grown = (float(array(loss)) - plain) / 1e-2
    np.testing.assert_allclose(grown, np.linalg.norm(gradient), rtol=2e-2)


def test_both_adds_the_clean_loss_whose_outputs_it_shows():
    model = build(dropout=0.4)
    one = training.adversarial_training(build(dropout=0.4), epsilon=0.5)
    two = training.adversarial_training(build(dropout=0.4), epsilon=0.5, both=True)
    for m in (model, one, two):  # which counts once
        regularizers.apply_to_model(m, regularizers.L2(10.0))
    found = []
    for m in (model, one, two):
        keras.utils.set_random_seed(4)
        batch = Batch(m, IDS, LABELS)
        if m is model:
            shown = batch.predict()
            clean = batch.loss(shown)
        else:
            found.append(m.objective(batch))
    both, y_pred = found[1]
    penalty = float(array(Batch(two, IDS, LABELS).regularisation()))
    kernels = [v for v in two.trainable_variables if v.name == 'kernel']
    np.testing.assert_allclose(
        penalty, 10 * sum((array(v) ** 2).sum() for v in kernels), rtol=1e-6
    )
    total = float(array(clean)) + float(array(found[0][0])) - penalty
    np.testing.assert_allclose(float(array(both)), total, rtol=1e-6)
    np.testing.assert_allclose(array(y_pred), array(shown), atol=1e-7)


@pytest.mark.parametrize('per', ['matrix', 'example'])
def test_pgd_stays_in_the_ball_and_finds_no_less_than_fgm(per):
    options = {'epsilon': 2.0, 'per': per}
    fgm = training.adversarial_training(build(), **options)
    pgd = training.projected_gradient_training(
        build(), step_size=0.8, steps=6, **options
    )
    batch = Batch(pgd, IDS, LABELS)
    (change,) = pgd.objective.worst(batch)
    change = array(change)
    norms = np.linalg.norm(change.reshape(1 if per == 'matrix' else 4, -1), axis=1)
    np.testing.assert_allclose(norms, 2.0, rtol=1e-5)
    best = float(array(pgd.objective(batch)[0]))
    assert best >= float(array(fgm.objective(Batch(fgm, IDS, LABELS))[0])) - 1e-6
    one = training.projected_gradient_training(
        build(), epsilon=9.0, step_size=0.5, steps=1, per=per
    )
    same = training.adversarial_training(build(), epsilon=0.5, per=per)
    one, same = (m.objective.worst(Batch(m, IDS, LABELS))[0] for m in (one, same))
    np.testing.assert_allclose(array(one), array(same), atol=1e-7)


def test_each_example_moves_by_epsilon_but_padding_does_not():
    model = training.adversarial_training(build(), epsilon=0.3, per='example')
    (change,) = model.objective.worst(Batch(model, IDS, LABELS))
    change = array(change)
    assert change.shape == (4, 4, 6)
    np.testing.assert_allclose(
        np.linalg.norm(change.reshape(4, -1), axis=1), 0.3, rtol=1e-5
    )
    assert (change[IDS == 0] == 0).all()
    # Examples do not see each other.
    (alone,) = model.objective.worst(Batch(model, IDS[:1], LABELS[:1]))
    np.testing.assert_allclose(array(alone)[0], change[0], atol=1e-5)


class NotFinite(Objective):
    def __call__(self, batch):
        loss, y = self.inner(batch)
        matrix = self.matrix
        return loss + ops.sum(ops.sqrt(matrix * 0.0)), y

    def attach(self, model):
        self.matrix = model.get_layer('Embedding-Token').embeddings


def test_no_change_where_the_gradient_is_not_finite():
    for trick in ON.values():
        model = trick(minimise(build(), NotFinite), epsilon=0.5)
        (change,) = model.objective.worst(Batch(model, IDS, LABELS))
        assert (array(change) == 0).all()


def test_several_matrices_each_by_epsilon():
    a, b = (keras.Input((3,), dtype='int32') for _ in range(2))
    x = keras.layers.Embedding(5, 4, name='left')(a)
    y = keras.layers.Embedding(6, 4, name='right')(b)
    z = keras.layers.Dense(3)(keras.layers.Flatten()(x * y))
    model = keras.Model([a, b], z)
    model.compile('sgd', keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    training.adversarial_training(model, ['left', 'right'], epsilon=0.4)
    batch = Batch(model, [IDS[:, :3] % 5, IDS[:, 1:] % 6], LABELS)
    changes = [array(c) for c in model.objective.worst(batch)]
    assert [c.shape for c in changes] == [(5, 4), (6, 4)]
    np.testing.assert_allclose([np.linalg.norm(c) for c in changes], 0.4, rtol=1e-5)


def test_what_is_not_there_is_named():
    with pytest.raises(ValueError, match="Did you mean 'Embedding-Token'"):
        training.adversarial_training(build(), 'Embedding-Tokens')
    with pytest.raises(ValueError, match='is no embedding layer .*: Embedding-Token'):
        training.adversarial_training(build(), 'attention')
    with pytest.raises(ValueError, match="choose one of 'matrix', 'example'"):
        training.adversarial_training(build(), per='token')
    model = build(loss='mse')
    with pytest.raises(ValueError, match='say from_logits'):
        training.virtual_adversarial_training(model)


def test_a_layer_that_looks_up_two_texts_has_no_vectors_of_one():
    a, b = (keras.Input((3,), dtype='int32') for _ in range(2))
    layer = keras.layers.Embedding(10, 4, name='both')
    x = keras.layers.Dense(3)(keras.layers.Flatten()(layer(a) * layer(b)))
    model = keras.Model([a, b], x)
    model.compile('sgd', keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batch = Batch(model, [IDS[:, :3], IDS[:, 1:]], LABELS)
    training.adversarial_training(model, 'both', per='matrix')
    assert np.linalg.norm(array(model.objective.worst(batch)[0])) > 0.49
    training.adversarial_training(training.train_plainly(model), 'both', per='example')
    with pytest.raises(ValueError, match="use per='matrix'"):
        model.objective(batch)


@pytest.mark.every_backend
def test_vat_finds_the_top_eigenvector_of_the_fisher_matrix():
    model, ids = logistic(rows=1)
    training.virtual_adversarial_training(
        model, xi=1e-2, iters=30, epsilon=1.0, per='example'
    )
    batch = Batch(model, ids, np.zeros(1, 'int32'))
    trick = model.objective
    target = batch.predict(training=False)
    (found,) = trick.directions(batch, ops.stop_gradient(target))
    kernel = model.get_weights()[1]
    scores = array(target)[0]
    p = np.exp(scores - scores.max())
    p /= p.sum()
    fisher = kernel @ (np.diag(p) - np.outer(p, p)) @ kernel.T
    top = np.linalg.eigh(fisher)[1][:, -1]
    found = array(found).ravel()
    assert abs(found @ top) > 0.999
    # For small changes KL is dᵀ F d / 2.
    trick.epsilon = 0.01
    extra = float(array(trick(batch)[0])) - float(array(batch.loss(target)))
    np.testing.assert_allclose(extra, 0.5e-4 * (top @ fisher @ top), rtol=2e-2)


def test_vat_needs_no_labels():
    rng = np.random.default_rng(0)
    found = []
    for other in (0, 1):
        model = training.virtual_adversarial_training(build(), epsilon=3.0)
        labels = LABELS.copy()
        labels[2:] = other
        weight = np.array([2.0, 2, 0, 0])
        train(model, 3, IDS, labels, sample_weight=weight)
        found.append(weights(model))
    np.testing.assert_array_equal(*found)
    # The unlabelled rows do count.
    model = training.virtual_adversarial_training(build(), epsilon=3.0)
    x = IDS.copy()
    x[2:] = rng.integers(1, 10, x[2:].shape)
    train(model, 3, x, LABELS, sample_weight=weight)
    assert np.abs(weights(model) - found[0]).max() > 1e-4
    # And weigh nothing where they shall not.
    found = []
    for rows in (IDS, x):
        model = training.virtual_adversarial_training(
            build(), epsilon=3.0, weighted=True, per='example'
        )
        train(model, 3, rows, LABELS, sample_weight=weight)
        found.append(weights(model))
    np.testing.assert_allclose(*found, atol=1e-6)


def test_joined_batches_have_the_labelled_rows_mean_loss():
    x, y = IDS[:2, :3], LABELS[:2]
    joined = list(
        training.join_unlabelled([([x, 0 * x], y)] * 3, [[IDS, 0 * IDS], [x, x]])
    )
    (ids, zeros), labels, weight = joined[0]
    assert ids.shape == zeros.shape == (6, 4)
    np.testing.assert_array_equal(ids[:2, :3], x)
    np.testing.assert_array_equal(ids[2:], IDS)
    np.testing.assert_array_equal(labels, [0, 1, 0, 0, 0, 0])
    assert joined[1][0][0].shape == (4, 3)
    assert joined[2][0][0].shape == (6, 4)
    model = build()
    alone = model.test_on_batch(x, y)
    both = model.test_on_batch(ids, labels, sample_weight=weight)
    np.testing.assert_allclose(both, alone, rtol=1e-6)
    # Labels of the unlabelled are not looked at; weights of the others count.
    batch = ([x, 0 * x], y, np.array([0.5, 2.0]))
    (again,) = training.join_unlabelled([batch], [([IDS, 0 * IDS], LABELS)])
    np.testing.assert_array_equal(again[0][0], ids)
    np.testing.assert_allclose(again[2], [1.5, 6, 0, 0, 0, 0])
    alone = model.test_on_batch(x, y, sample_weight=batch[2])
    both = model.test_on_batch(ids, labels, sample_weight=again[2])
    np.testing.assert_allclose(both, alone, rtol=1e-6)
    with pytest.raises(ValueError, match='come as list of 1 arrays.* list of 2'):
        list(training.join_unlabelled([batch], [[IDS]]))
    with pytest.raises(ValueError, match='no unlabelled rows'):
        list(training.join_unlabelled([(x, y)], []))
