"""What all tricks of training have in common."""

import keras
import numpy as np
import pytest
from tricks import IDS
from tricks import LABELS
from tricks import build
from tricks import train
from tricks import weights

from keraseff import regularizers
from keraseff import training
from keraseff.training.objective import Batch
from keraseff.training.objective import Objective
from keraseff.training.objective import PlainObjective
from keraseff.training.objective import differentiate
from keraseff.training.objective import minimise
from keraseff.training.objective import replaced

NEUTRAL = {
    'fgm': lambda m: training.adversarial_training(m, epsilon=0.0),
    'example': lambda m: training.adversarial_training(m, epsilon=0.0, per='example'),
    'pgd': lambda m: training.projected_gradient_training(m, epsilon=0.0, steps=2),
    'vat': lambda m: training.virtual_adversarial_training(m, alpha=0.0),
    'penalty': lambda m: training.gradient_penalty(m, epsilon=0.0),
    'jacobian': lambda m: training.jacobian_penalty(m, epsilon=0.0),
    'r_drop': lambda m: training.r_drop(m, alpha=0.0),
    'noise': lambda m: training.noisy_embeddings(m, sigma=0.0),
    'distill': lambda m: training.distill(m, build(seed=7), alpha=0.0),
}


def regularised(**options):
    """Every weight but biases has a part in the loss."""
    model = build(dropout=0.3, **options)
    regularizers.apply_to_model(model, regularizers.L2(0.01), 'kernel$|embeddings$')
    return model


@pytest.fixture(scope='module')
def plain():
    model = regularised()
    keras.utils.set_random_seed(1)
    return train(model), weights(model)


def marked():
    alike = {'example', 'pgd', 'noise'}  # other tests on every backend go their way
    every = pytest.mark.every_backend
    return [pytest.param(n, marks=() if n in alike else every) for n in NEUTRAL]


@pytest.mark.parametrize('name', marked())
def test_a_trick_of_strength_0_is_plain_training(name, plain):
    model = NEUTRAL[name](regularised())
    keras.utils.set_random_seed(1)
    np.testing.assert_allclose(train(model), plain[0], atol=1e-6)
    np.testing.assert_allclose(weights(model), plain[1], atol=1e-6)


def test_the_same_trick_again_takes_its_place():
    model, once = build(), build()
    training.r_drop(training.adversarial_training(model, epsilon=0.1))
    with pytest.warns(UserWarning, match='had a FGM already'):
        training.adversarial_training(model, epsilon=0.3)
    training.adversarial_training(training.r_drop(once), epsilon=0.3)
    names = [type(t).__name__ for t in training.tricks_of(model)]
    assert names == ['FGM', 'RDrop']
    with pytest.raises(ValueError, match='Did you mean'):
        training.adversarial_training(model, 'Embedding-Tokens')
    with pytest.warns(UserWarning, match='had a RDrop already'):
        training.r_drop(training.adversarial_training(training.r_drop(build())))
    for one in (model, once):
        one.compile(keras.optimizers.SGD(0.1), one.loss)
    assert [t.epsilon for t in training.tricks_of(model)[:1]] == [0.3]
    np.testing.assert_array_equal(train(model), train(once))
    assert not training.tricks_of(training.train_plainly(model))


WRONG = {
    'epsilon=-0.1': lambda m: training.adversarial_training(m, epsilon=-0.1),
    'epsilon=nan': lambda m: training.projected_gradient_training(m, epsilon=np.nan),
    "epsilon='1'": lambda m: training.virtual_adversarial_training(m, epsilon='1'),
    'epsilon=-1': lambda m: training.gradient_penalty(m, epsilon=-1),
    'epsilon=None': lambda m: training.jacobian_penalty(m, epsilon=None),
    'sigma=-1': lambda m: training.noisy_embeddings(m, sigma=-1),
    'alpha=-1': lambda m: training.r_drop(m, alpha=-1),
    'alpha=2': lambda m: training.distill(m, build(), alpha=2),
    'temperature=0': lambda m: training.distill(m, build(), temperature=0),
    'steps=1.5': lambda m: training.projected_gradient_training(m, steps=1.5),
    'threshold=2': lambda m: training.SelfTrainer(threshold=2),
    'schedule=7': lambda m: training.ReplacementScheduler(7),
    'rank=0': lambda m: training.add_lora(m, 'attention', rank=0),
    'rank=1.5': lambda m: training.add_lora(m, 'attention', rank=1.5),
}


def test_numbers_that_make_no_sense_are_named():
    model = build()
    for words, trick in WRONG.items():
        with pytest.raises(ValueError, match=f'{words} must be a (whole )?number'):
            trick(model)
    assert not training.tricks_of(model)


def test_a_model_that_is_not_built_or_not_functional_is_told_so():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.emb = keras.layers.Embedding(10, 3, name='Embedding-Token')

        def call(self, x):
            return keras.ops.mean(self.emb(x), axis=1)

    model = Own()
    model.compile('sgd', build().loss)
    with pytest.raises(ValueError, match='call it on a batch first'):
        training.adversarial_training(model)
    with pytest.raises(ValueError, match='on a batch first'):
        training.add_lora(model, 'emb')
    model(IDS)
    assert np.isfinite(train(training.adversarial_training(model))).all()
    with pytest.raises(ValueError, match='student.* is no functional model'):
        training.distill(model, build())
    with pytest.raises(ValueError, match='teacher.* is no functional model'):
        training.distill(build(), model)
    with pytest.raises(ValueError, match='expected a keras.Model or .*Transformer'):
        training.quantize('model')


@pytest.mark.parametrize(
    'policy',
    [pytest.param('mixed_float16', marks=pytest.mark.every_backend), 'mixed_bfloat16'],
)
def test_tricks_compose_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    teacher = build(seed=7, size=8)
    model = build(dropout=0.1, rate=0.1)
    if policy == 'mixed_float16':
        inner = keras.optimizers.SGD(0.1)
        optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**20)
        model.compile(optimizer, model.loss)
    training.distill(model, teacher, hidden={'attention': 'attention'},
                     projections='learned')  # fmt: skip
    training.adversarial_training(training.r_drop(model), epsilon=0.1)
    start = weights(model)
    losses = train(model, 25)
    names = [type(t).__name__ for t in training.tricks_of(model)]
    assert names == ['FGM', 'RDrop', 'Distillation']
    end = weights(model)
    assert np.isfinite(end).all()
    assert np.abs(end - start).max() > 0.03
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_padding_has_no_influence():
    longer = np.pad(IDS, [(0, 0), (0, 3)])
    teacher = build(seed=7)
    tricks = {
        'fgm': lambda m: training.adversarial_training(m),
        'example': lambda m: training.adversarial_training(m, per='example'),
        'vat': lambda m: training.virtual_adversarial_training(m),
        'penalty': lambda m: training.gradient_penalty(m),
        'jacobian': lambda m: training.jacobian_penalty(m, kind='kl'),
        'distill': lambda m: training.distill(
            m, teacher, hidden={'attention': 'attention'}
        ),
    }
    for name, trick in tricks.items():
        short, long = trick(build()), trick(build())
        train(short, 2), train(long, 2, longer)
        np.testing.assert_allclose(
            weights(short), weights(long), atol=2e-6, err_msg=name
        )


def test_steps_are_masked_in_the_divergence():
    def tagger():
        model = build(dropout=0.5)
        keras.utils.set_random_seed(3)
        middle = keras.layers.Dense(3)(model.get_layer('attention').output)
        tags = keras.Model(model.input, middle)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        tags.compile(keras.optimizers.SGD(0.5), loss)
        return training.r_drop(training.virtual_adversarial_training(tags))

    short, long = tagger(), tagger()
    longer = np.pad(IDS, [(0, 0), (0, 3)])
    train(short, 2, IDS, IDS % 3), train(long, 2, longer, longer % 3)
    np.testing.assert_allclose(weights(short), weights(long), atol=2e-6)


class Raising(Objective):
    def __call__(self, batch):
        self.inner(batch)
        raise RuntimeError('in the middle of a step')


def test_variables_are_as_before_when_a_step_raises():
    for per in ('matrix', 'example'):
        model = minimise(build(), Raising)
        training.adversarial_training(model, epsilon=5.0, per=per)
        before = weights(model)
        embedding = model.get_layer('Embedding-Token')
        with pytest.raises(RuntimeError, match='middle of a step'):
            train(model, 1)
        np.testing.assert_array_equal(weights(model), before)
        assert 'call' not in vars(embedding)
        training.train_plainly(model)
        again = build()
        np.testing.assert_array_equal(train(model), train(again))


@pytest.mark.every_backend
def test_a_saved_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    def make():
        model = build()
        model.compile(keras.optimizers.Adam(0.01), model.loss)
        return training.virtual_adversarial_training(model, epsilon=3.0, seed=5)

    whole = make()
    losses = train(whole, 4)
    half = make()
    train(half, 2)
    half.save(tmp_path / 'half.keras')
    loaded = keras.models.load_model(tmp_path / 'half.keras')
    training.virtual_adversarial_training(loaded, epsilon=3.0, seed=5)
    np.testing.assert_allclose(train(loaded, 2), losses[2:], atol=1e-6)
    np.testing.assert_allclose(weights(loaded), weights(whole), atol=1e-6)


def test_fit_with_metrics_and_sample_weight():
    model = training.adversarial_training(build(), epsilon=0.3)
    optimizer = keras.optimizers.Adam(0.1)
    model.compile(optimizer, model.loss, weighted_metrics=['accuracy'])
    y = LABELS.copy()
    y[3] = 0
    history = model.fit(
        IDS, y, sample_weight=np.array([1, 1, 1, 0.0]), epochs=20, batch_size=4,
        verbose=0, validation_data=(IDS, LABELS),
    ).history  # fmt: skip
    assert history['accuracy'][-1] == 1
    assert history['loss'][-1] < history['loss'][0]
    # Evaluation knows of no trick.
    plain = build()
    plain.set_weights(model.get_weights())
    assert abs(plain.evaluate(IDS, LABELS, verbose=0) - history['val_loss'][-1]) < 1e-6


def test_no_second_pass_draws_other_dropout_unless_it_assigns():
    model = build(dropout=0.5)
    batch = Batch(model, IDS, LABELS)
    plain = PlainObjective()
    draws = [
        keras.ops.convert_to_numpy(replaced(lambda: plain(batch), [], assign=a)[0])
        for a in (False, False, True, True)
    ]
    assert draws[0] == draws[1] == draws[2] != draws[3]
    value = keras.ops.zeros(())
    options = {'optimizer': model.optimizer, 'assign': False}
    twice = [
        keras.ops.convert_to_numpy(
            differentiate(lambda x: plain(batch), [value], **options)[0]
        )
        for _ in range(2)
    ]
    assert twice[0] == twice[1]


def test_an_uncompiled_model_is_refused():
    with pytest.raises(ValueError, match='call model.compile'):
        training.r_drop(keras.Sequential([keras.layers.Dense(2)]))
