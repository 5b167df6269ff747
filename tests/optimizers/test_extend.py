"""The rules where bert4keras breaks them, limits, and classes that are found again."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from harness import assert_close
from reference import optimizers as slow

from keraseff import optimizers as ours

START = {
    'Embedding-Token/embeddings': np.random.default_rng(1).normal(size=(4, 3)),
    'Pooler-Norm/gamma': np.random.default_rng(2).normal(1, 0.1, size=(3,)),
}
START = {path: value.astype('float32') for path, value in START.items()}
START_T = np.random.default_rng(3).normal(size=(3, 4)).astype('float32')


@pytest.fixture
def gradients(rng):
    return [
        {path: rng.normal(size=v.shape).astype('float32') for path, v in START.items()}
        for _ in range(12)
    ]


def assert_same_course(found, expected, atol=1e-5):
    for a, b in zip(found, expected, strict=True):
        for path in START:
            assert_close(a[path], b[path], atol=atol)


def courses(rule, gradients):
    """What a rule for one weight gives for all of them."""
    whole = {
        path: rule(value.astype('float64'), [g[path] for g in gradients])
        for path, value in START.items()
    }
    return [{p: c[t] for p, c in whole.items()} for t in range(len(gradients))]


def test_lookahead(gradients):
    cls = ours.extend_with_lookahead(ours.Adam)
    optimizer = cls(0.01, steps_per_slow_update=3, slow_step_size=0.4)
    expected = courses(
        lambda p, g: slow.lookahead(p, g, slow.Adam(), 0.01, 3, 0.4), gradients
    )
    assert_same_course(slow.train(optimizer, START, gradients), expected)


def test_lookahead_begins_with_the_weights_of_the_first_step(gradients):
    optimizer = ours.extend_with_lookahead(keras.optimizers.SGD)(
        0.0, steps_per_slow_update=2
    )
    weights = slow.variables({path: 0 * v for path, v in START.items()})
    optimizer.build(weights)
    for weight in weights:
        weight.assign(START[weight.path])  # as a checkpoint is loaded
    for step in gradients[:4]:
        optimizer.apply([step[w.path] for w in weights], weights)
    for weight in weights:
        assert_close(keras.ops.convert_to_numpy(weight), START[weight.path], atol=1e-6)


def test_accumulation(gradients):
    optimizer = ours.extend_with_gradient_accumulation(ours.Adam)(
        0.01, grad_accum_steps=3
    )
    expected = courses(
        lambda p, g: slow.accumulated(p, g, slow.Adam(), 0.01, 3), gradients
    )
    assert_same_course(slow.train(optimizer, START, gradients), expected)


@pytest.mark.parametrize('inside', [True, False])
def test_pretraining_stack(inside, gradients):
    """Accumulation acts around everything, wherever it is in the stack."""
    layers = ['layer_adaptation', 'piecewise_linear_lr']
    layers.insert(0 if inside else 2, 'gradient_accumulation')
    cls = ours.extend_with_weight_decay(ours.Adam)
    for name in layers:
        cls = getattr(ours, f'extend_with_{name}')(cls)
    points = {3: 1, 12: 0.2}
    options = {'grad_accum_steps': 2, 'lr_schedule': points, 'weight_decay_rate': 0.1}
    found = slow.train(cls(0.1, **options), START, gradients)
    expected = courses(
        lambda p, g: slow.pretraining(p, g, slow.Adam(), 0.1, 2, points, 0.1), gradients
    )
    assert_same_course(found, expected, atol=1e-4)


def test_inner_extensions_act_first(gradients):
    """Decay after a rate of its own is not slowed; before it, it is."""
    options = {'weight_decay_rate': 0.5, 'paramwise_lr_schedule': {'Embedding': 0.1}}
    wd, pw = ours.extend_with_weight_decay, ours.extend_with_parameter_wise_lr
    still = [{path: 0 * g for path, g in gradients[0].items()}]
    path = 'Embedding-Token/embeddings'
    for cls, share in ((wd(pw(ours.Adam)), 0.5), (pw(wd(ours.Adam)), 0.05)):
        found = slow.train(cls(0.1, **options), START, still)[-1]
        assert_close(found[path], START[path] * (1 - 0.1 * share), atol=1e-6)
        other = 'Pooler-Norm/gamma'
        assert_close(found[other], START[other] * 0.95, atol=1e-6)


LIMITS = {
    'weight_decay': {'weight_decay_rate': 0.0},
    'piecewise_linear_lr': {'lr_schedule': {0: 1}},
    'gradient_accumulation': {'grad_accum_steps': 1},
    'lookahead': {'slow_step_size': 1.0, 'steps_per_slow_update': 2},
    'lazy_optimization': {'include_in_lazy_optimization': []},
    'exponential_moving_average': {},
    'parameter_wise_lr': {'paramwise_lr_schedule': {'MLM': 3.0, 'Norm': 1.0}},
    'layer_adaptation': {'exclude_from_layer_adaptation': ['Token', 'Norm']},
    'gradient_clipping': {'gamma': 1e9, 'mode': 'smooth'},
}


@pytest.mark.parametrize('name', LIMITS)
def test_limits_are_the_base_optimizer(name, gradients):
    cls = getattr(ours, f'extend_with_{name}')(keras.optimizers.Adam)
    found = slow.train(cls(0.01, **LIMITS[name]), START, gradients)
    base = slow.train(keras.optimizers.Adam(0.01), START, gradients)
    assert_same_course(found, base, atol=2e-6)


@pytest.mark.parametrize('make', [ours.LAMB, ours.extend_with_lookahead(ours.Lion)])
def test_stateless_steps_change_nothing_in_place(make):
    """Nor do gradients that lie in memory in another order make a difference."""
    weight = keras.Variable(START['Embedding-Token/embeddings'], name='w')
    gradient = keras.ops.transpose(keras.ops.convert_to_tensor(START_T))
    optimizer = make(0.1)
    optimizer.build([weight])
    before = [np.array(v) for v in (weight, *optimizer.variables)]
    slots = [keras.ops.copy(v) for v in optimizer.variables]
    found, _ = optimizer.stateless_apply(slots, [gradient], [keras.ops.copy(weight)])
    for v, old in zip((weight, *optimizer.variables), before, strict=True):
        assert_close(np.array(v), old, atol=0)
    optimizer.apply([np.ascontiguousarray(START_T.T)], [weight])
    assert_close(found[0], np.array(weight), atol=1e-6)


def test_equal_gradients_accumulated_are_one_step(gradients):
    repeated = [g for g in gradients[:4] for _ in range(3)]
    cls = ours.extend_with_gradient_accumulation(ours.LAMB)
    found = slow.train(cls(0.01, grad_accum_steps=3), START, repeated)
    assert_same_course(found[2::3], slow.train(ours.LAMB(0.01), START, gradients[:4]))


def test_equal_to_those_of_keras(gradients):
    """Where they are the same: without decay, and with epsilon out of the way."""
    pairs = {
        ours.LAMB(0.01, weight_decay_rate=0.0, epsilon=1e-7): keras.optimizers.Lamb(
            0.01
        ),
        ours.Adam(0.01, epsilon=1e-12): keras.optimizers.Adam(0.01, epsilon=1e-12),
        ours.Lion(0.01): keras.optimizers.Lion(0.01, 0.95, 0.98),
    }
    for mine, theirs in pairs.items():
        found = slow.train(mine, START, gradients)
        assert_same_course(found, slow.train(theirs, START, gradients), atol=1e-6)


def test_decay_equals_that_of_torch(gradients):
    torch = pytest.importorskip('torch')
    cls = ours.extend_with_weight_decay(ours.Adam)
    found = slow.train(cls(0.01, weight_decay_rate=0.3), START, gradients)
    path = 'Embedding-Token/embeddings'
    p = torch.nn.Parameter(torch.tensor(START[path]))
    theirs = torch.optim.AdamW([p], 0.01, eps=1e-6, weight_decay=0.3)
    for step, expected in zip(gradients, found, strict=True):
        p.grad = torch.tensor(step[path])
        theirs.step()
        assert_close(expected[path], p.detach().numpy(), atol=1e-6)


@pytest.mark.every_backend
def test_resting_rows_of_an_embedding(gradients):
    """Decay and momentum leave them; TensorFlow gives such gradients by rows."""
    cls = ours.extend_with_lazy_optimization(ours.extend_with_weight_decay(ours.Adam))
    optimizer = cls(0.1, include_in_lazy_optimization=['embeddings'])
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2,), dtype='int32'), keras.layers.Embedding(5, 3)]
    )
    model.compile(optimizer, 'mse')
    y = np.zeros((2, 2, 3))
    model.train_on_batch(np.array([[0, 1], [0, 2]]), y)
    before = model.get_weights()[0]
    model.train_on_batch(np.array([[0, 4], [0, 0]]), y)
    moved = np.abs(model.get_weights()[0] - before).max(axis=1) > 0
    assert moved.tolist() == [True, False, False, False, True]


@pytest.mark.every_backend
@pytest.mark.parametrize('make', [ours.Adam, ours.AdaFactor, ours.Lion, ours.Tiger])
def test_gradients_by_rows(make, gradients):
    """A row that is in a batch twice has the sum of both."""
    ids, rows = [3, 0, 3], np.arange(9, dtype='float32').reshape(3, 3) / 10
    keras.utils.set_random_seed(0)
    weights = []
    for sparse in (True, False):
        layer = keras.layers.Embedding(4, 3, name='Embedding-Token')
        model = keras.Sequential([keras.Input((), dtype='int32'), layer])
        layer.set_weights([START['Embedding-Token/embeddings']])
        if sparse:
            model.compile(make(0.1), LinearLoss(), run_eagerly=False)
            model.train_on_batch(np.array(ids), rows)
        else:
            whole = np.zeros((4, 3), 'float32')
            np.add.at(whole, ids, rows)
            make(0.1).apply([keras.ops.convert_to_tensor(whole)], model.weights)
        weights.append(model.get_weights()[0])
    assert_close(*weights, atol=1e-6)


class LinearLoss(keras.losses.Loss):
    """Whose gradient with respect to y_pred is y_true."""

    def __init__(self):
        super().__init__(reduction='sum')

    def call(self, y_true, y_pred):
        return keras.ops.sum(y_true * y_pred, axis=-1)


def test_a_class_is_made_once_and_found_again():
    cls = ours.extend_with_lookahead(ours.LAMB, 'Mine')
    assert cls is ours.extend_with_lookahead(ours.LAMB, 'Mine')
    assert cls.__name__ == 'Mine'
    rate = ours.PiecewiseLinear({3: 1, 5: 0.5}, 0.1)
    optimizer = cls(rate, exclude_from_weight_decay=['Norm'], slow_step_size=0.2)
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is cls
    assert again.get_config() == optimizer.get_config()
    assert type(keras.optimizers.deserialize(config)) is cls


MAKE = """
import keras, numpy as np
import keraseff.optimizers as ours
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
cls = ours.extend_with_layer_adaptation(ours.Adam)
cls = ours.extend_with_lookahead(cls, 'Adam')
cls = ours.extend_with_piecewise_linear_lr(cls)
model.compile(cls(0.1, lr_schedule={2: 1, 4: 0.1}), 'mse')
"""
STEPS = """
x = np.arange(12).reshape(4, 3) / 10
for _ in range(3): model.train_on_batch(x, x[:, :1])
"""


def test_another_process_reopens_and_continues(tmp_path):
    path = str(tmp_path / 'model.keras')
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    scope = {}
    exec(f'{MAKE}{STEPS}model.save({path!r})', scope)
    code = (
        'import keras, numpy as np, keraseff.models\n'
        f'model = keras.models.load_model({path!r}){STEPS}'
        'optimizer, weights = model.optimizer, model.get_weights()[0]\n'
        "print(type(optimizer).__name__, *weights.ravel(), sep=',')"
    )
    run = subprocess.run(
        [sys.executable, '-c', code],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    name, *numbers = run.stdout.strip().splitlines()[-1].split(',')
    assert name == 'AdamPiecewiseLinearLR'
    exec(STEPS, scope)
    assert_close(
        np.float32(numbers), scope['model'].get_weights()[0].ravel(), atol=1e-6
    )


def test_what_can_not_be_extended():
    with pytest.raises(TypeError, match='has the extension WeightDecay already'):
        ours.extend_with_weight_decay(ours.LAMB)
    with pytest.raises(TypeError, match='no optimizer class'):
        ours.extend_with_weight_decay(keras.optimizers.SGD(0.1))
    with pytest.raises(TypeError, match='inside LossScaleOptimizer'):
        ours.extend_with_lookahead(keras.optimizers.LossScaleOptimizer)
    with pytest.raises(ValueError, match='never trained on'):
        ours.extend_with_exponential_moving_average(ours.Adam)(
            ema_overwrite_frequency=2
        )
    with pytest.raises(ValueError, match='mixin=.*dict.* must be a subclass'):
        ours.extend(ours.Adam, dict)


WRONG = [
    ('gradient_accumulation', 'grad_accum_steps', [0, 2.5]),
    ('weight_decay', 'weight_decay_rate', [-0.1, None]),
    ('weight_decay', 'exclude_from_weight_decay', ['(', ['Norm', '('], 5]),
    ('layer_adaptation', 'exclude_from_layer_adaptation', [['*']]),
    ('lazy_optimization', 'include_in_lazy_optimization', [[3]]),
    ('lookahead', 'slow_step_size', [2, -0.5]),
    ('lookahead', 'steps_per_slow_update', [-1, 0, 1.5]),
    ('exponential_moving_average', 'ema_momentum', [1.0, -0.1]),
    ('piecewise_linear_lr', 'lr_schedule', [{5: 1, 5.5: 2}, {-1: 1}, 5, {1: np.inf}]),
    ('parameter_wise_lr', 'paramwise_lr_schedule', [[('a', 1)], 'a', {'a': -1}]),
]


@pytest.mark.parametrize(('extension', 'name', 'values'), WRONG)
def test_wrong_values_are_named(extension, name, values):
    cls = getattr(ours, f'extend_with_{extension}')(ours.Adam)
    for value in values:
        with pytest.raises(ValueError, match=name):
            cls(0.1, **{name: value})


PATTERNS = [
    (ours.extend_with_weight_decay(ours.Adam), 'exclude_from_weight_decay'),
    (ours.LAMB, 'exclude_from_layer_adaptation'),
    (ours.extend_with_lazy_optimization(ours.Lion), 'include_in_lazy_optimization'),
    (ours.AdaFactor, 'exclude_from_parameter_scale'),
]


@pytest.mark.parametrize(('cls', 'name'), PATTERNS)
def test_one_pattern_and_patterns_that_find_nothing(cls, name):
    assert cls(0.1, **{name: 'Norm'}).get_config()[name] == ['Norm']
    cls(0.1, **{name: ['bias', 'Norm']}).build(slow.variables(START))
    optimizer = cls(0.1, **{name: ['Norrm', 'bias']})
    weights = slow.variables(START)
    with pytest.warns(UserWarning, match=rf"{name}=\['Norrm', 'bias'\] is found in no"):
        optimizer.build(weights)
    optimizer.build(weights)
    if cls is ours.AdaFactor:
        with pytest.raises(ValueError, match='exclude_from_parameter_scale'):
            cls(exclude_from_parameter_scale='(')


def test_texts_that_find_nothing():
    cls = ours.extend_with_parameter_wise_lr(ours.Adam)
    with pytest.warns(UserWarning, match="paramwise_lr_schedule=.'Embeding'."):
        cls(0.1, paramwise_lr_schedule={'Embeding': 0.1}).build(slow.variables(START))


def test_unregistered_classes_of_the_user():
    class Own(keras.optimizers.SGD):
        pass

    class Adam(keras.optimizers.SGD):
        pass

    optimizer = ours.extend_with_lookahead(Own)(0.1)
    config = keras.saving.serialize_keras_object(optimizer)
    with pytest.raises(ValueError, match="made from 'Own'"):
        keras.saving.deserialize_keras_object(config)
    custom = {'Own': Own}
    again = keras.saving.deserialize_keras_object(config, custom_objects=custom)
    assert type(again) is type(optimizer)
    with pytest.raises(ValueError, match='has the name of one of Keras'):
        ours.extend_with_lookahead(Adam)(0.1).get_config()
