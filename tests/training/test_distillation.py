"""A student beside its teacher."""

import keras
import numpy as np
import pytest
from keras import ops
from tricks import IDS
from tricks import LABELS
from tricks import array
from tricks import build
from tricks import train
from tricks import weights

from keraseff import regularizers
from keraseff import training
from keraseff.losses.consistency import DIVERGENCES
from keraseff.training.objective import Batch


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def middle(model, x):
    inside = keras.Model(model.input, model.get_layer('attention').output)
    return array(inside(x))


def test_the_loss_is_the_formula():
    teacher, model = build(seed=7, size=8, dropout=0.9), build()
    batch = Batch(model, IDS, LABELS)
    plain = float(array(batch.loss(batch.predict())))
    t = log_softmax(array(teacher(IDS)) / 3)  # no dropout
    s = log_softmax(array(model(IDS)) / 3)
    soft = 9 * (np.exp(t) * (t - s)).sum(-1).mean()
    projection = np.random.default_rng(0).normal(size=(6, 8)).astype('float32')
    hidden = (middle(model, IDS) @ projection - middle(teacher, IDS)) ** 2
    hidden = hidden.mean(-1)[IDS != 0].mean()
    training.distill(
        model, teacher, temperature=3.0, alpha=0.25, hidden={'attention': 'attention'},
        projections=[projection], hidden_weight=0.5,
    )  # fmt: skip
    batch = Batch(model, IDS, LABELS)
    model.objective.prepare(batch)
    found, _ = model.objective(batch)
    expected = 0.75 * plain + 0.25 * soft + 0.5 * hidden
    np.testing.assert_allclose(float(array(found)), expected, rtol=1e-5)


def test_the_student_learns_the_teacher_who_learns_nothing(tmp_path):
    teacher, model = build(seed=7, size=8), build()
    teacher.set_weights([2 * w for w in teacher.get_weights()])
    model.compile(keras.optimizers.Adam(0.03), model.loss)
    before = weights(teacher)
    number = len(model.get_weights())
    training.distill(
        model, teacher, alpha=1.0, hidden={'attention': 'attention'},
        projections='learned', hidden_weight=0.1,
    )  # fmt: skip
    projection = model.objective.projections[0]
    start = array(projection.kernel)
    # Labels and weights have no part in it.
    train(model, 60, IDS, 0 * LABELS, sample_weight=np.zeros(4))
    np.testing.assert_array_equal(weights(teacher), before)
    assert np.abs(array(projection.kernel) - start).max() > 1e-3
    shares = [np.exp(log_softmax(array(m(IDS)))) for m in (model, teacher)]
    assert np.abs(shares[0] - shares[1]).max() < 0.1
    outputs = array(model(IDS))
    model.save(tmp_path / 'within.keras')
    within = keras.models.load_model(tmp_path / 'within.keras', compile=False)
    np.testing.assert_allclose(array(within(IDS)), outputs, atol=1e-6)
    slots = [v.path for v in model.optimizer.variables]
    training.train_plainly(model)
    assert len(model.get_weights()) == number
    assert len(model.optimizer.variables) == len(slots) - 2
    assert int(array(model.optimizer.iterations)) == 60
    model.save(tmp_path / 'student.keras')
    loaded = keras.models.load_model(tmp_path / 'student.keras')
    assert len(loaded.get_weights()) == number
    np.testing.assert_allclose(array(loaded(IDS)), outputs, atol=1e-6)
    np.testing.assert_allclose(train(loaded), train(model), atol=1e-5)


def test_a_checkpoint_within_training_holds_the_student_whole(tmp_path):
    model = build()
    training.distill(model, build(seed=7, size=8), hidden={'attention': 'attention'},
                     projections='learned')  # fmt: skip
    train(model, 2)
    model.save_weights(tmp_path / 'half.weights.h5')
    losses = train(model, 2)
    again = build(seed=9)
    training.distill(again, build(seed=7, size=8), hidden={'attention': 'attention'},
                     projections='learned')  # fmt: skip
    again.load_weights(tmp_path / 'half.weights.h5')
    np.testing.assert_allclose(train(again, 2), losses, rtol=1e-6)


def test_a_trick_around_or_inside_sees_the_same_loss():
    teacher = build(seed=7)
    inside, outside = build(), build()
    training.adversarial_training(training.distill(inside, teacher), epsilon=0.5)
    training.distill(training.adversarial_training(outside, epsilon=0.5), teacher)
    np.testing.assert_allclose(train(inside), train(outside), rtol=1e-6)
    np.testing.assert_allclose(weights(inside), weights(outside), atol=1e-6)


def with_softmax(model):
    shares = keras.layers.Softmax(dtype='float32')(model.output)
    shared = keras.Model(model.input, shares)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=False)
    shared.compile(keras.optimizers.SGD(0.5), loss)
    return shared


def decided():
    teacher = build(seed=7)
    teacher.set_weights([2 * w for w in teacher.get_weights()])
    return teacher


def test_scores_and_probabilities_teach_alike():
    pairs = [
        (student(build()), teacher)
        for student in (lambda model: model, with_softmax)
        for teacher in (decided(), with_softmax(decided()))
    ]
    losses = [train(training.distill(*pair, temperature=3.0)) for pair in pairs]
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-5)
    # What the last layer does not tell has to be said.
    hidden = keras.layers.Lambda(lambda x: keras.ops.softmax(x))
    teacher = decided()
    teacher = keras.Model(teacher.input, hidden(teacher.output))
    told = training.distill(
        build(), teacher, temperature=3.0, teacher_from_logits=False
    )
    np.testing.assert_allclose(train(told), losses[0], rtol=1e-5)
    guessed = training.distill(build(), teacher, temperature=3.0)
    assert abs(train(guessed, 1)[0] - losses[0][0]) > 1e-2


@pytest.mark.parametrize('kind', DIVERGENCES)
def test_a_divergence_of_probabilities_from_scores(kind):
    rng = np.random.default_rng(0)
    target, scores = rng.normal(size=(2, 5, 3)).astype('float32')
    if kind == 'softmax':
        p = np.exp(log_softmax(target))
    else:
        p = 1 / (1 + np.exp(-target))
    for temperature in (1.0, 2.0):
        options = {'temperature': temperature}
        expected = DIVERGENCES[kind](target, scores, **options)
        found = DIVERGENCES[kind](p, scores, target_from_logits=False, **options)
        np.testing.assert_allclose(array(found), array(expected), atol=1e-5)


def test_regularizers_count_whole():
    plain, model = build(), build()
    regularizers.apply_to_model(model, regularizers.L2(0.5))
    (expected,), (found,) = (
        train(training.distill(m, build(seed=7), alpha=0.75), 1) for m in (plain, model)
    )
    kernels = [v for v in build().trainable_variables if v.name == 'kernel']
    added = 0.5 * sum((array(v) ** 2).sum() for v in kernels)
    np.testing.assert_allclose(found - expected, added, rtol=1e-5)


@pytest.mark.every_backend
def test_the_teacher_is_no_constant_of_the_compiled_step():
    """Other numbers in the teacher are seen by a step that is compiled already."""
    teacher = build(seed=7)
    model = training.distill(build(rate=0.0), teacher, alpha=1.0)
    first = train(model, 1)
    teacher.set_weights([2 * w for w in teacher.get_weights()])
    changed = train(model, 1)
    fresh = train(training.distill(build(rate=0.0), teacher, alpha=1.0), 1)
    assert abs(first[0] - changed[0]) > 1e-3
    np.testing.assert_allclose(changed, fresh, rtol=1e-6)


def test_what_does_not_fit_is_said():
    teacher = build(seed=7, size=8)
    hidden = {'attention': 'attention'}
    with pytest.raises(ValueError, match='6 channels .* teacher 8'):
        training.distill(build(), teacher, hidden=hidden)
    with pytest.raises(ValueError, match=r'shape \(8, 6\)'):
        training.distill(
            build(), teacher, hidden=hidden, projections=[np.ones((8, 6), 'float32')]
        )
    with pytest.raises(ValueError, match="Did you mean 'attention'"):
        training.distill(build(), teacher, hidden={'atention': 'attention'})
    other = keras.Model(teacher.input, teacher.get_layer('attention').output)
    with pytest.raises(ValueError, match='last axes'):
        training.distill(build(), other)
    trained = build()
    train(trained, 1)
    with pytest.raises(ValueError, match='call model.compile again'):
        training.distill(trained, teacher, hidden=hidden, projections='learned')
    assert ops.is_tensor(teacher(IDS))
