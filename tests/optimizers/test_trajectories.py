"""Twelve steps of every optimizer of bert4keras, as it recorded them."""

import keras
import numpy as np
import pytest
from harness import assert_close
from reference.optimizers import train

from keraseff import optimizers as ours

NORMS = {
    'exclude_from_weight_decay': ['Norm', 'bias'],
    'exclude_from_layer_adaptation': ['Norm', 'bias'],
}
CASES = {
    'adam': (ours.Adam, {}),
    'adam_nobc': (ours.Adam, {'bias_correction': False}),
    'lion': (ours.Lion, {}),
    'adafactor_none': (ours.AdaFactor, {'learning_rate': None}),
    'adafactor_none_f': (
        ours.AdaFactor,
        {'learning_rate': None, 'min_dim_size_to_factor': 2, 'beta1': 0.9},
    ),
    'adafactor_noscale': (
        ours.AdaFactor,
        {
            'learning_rate': None,
            'min_dim_size_to_factor': 2,
            'multiply_by_parameter_scale': False,
        },
    ),
    'wd': (
        ours.extend_with_weight_decay(ours.Adam),
        {'weight_decay_rate': 0.1, 'exclude_from_weight_decay': ['Norm', 'bias']},
    ),
    'lamb': (ours.LAMB, {'weight_decay_rate': 0.1, **NORMS}),
    'plr': (
        ours.extend_with_piecewise_linear_lr(ours.Adam),
        {'lr_schedule': {4: 1, 8: 0.1}},
    ),
    'lazy': (
        ours.extend_with_lazy_optimization(ours.Adam),
        {'include_in_lazy_optimization': ['Embedding']},
    ),
    'ema': (
        ours.extend_with_exponential_moving_average(ours.Adam),
        {'ema_momentum': 0.9},
    ),
    'pwlr': (
        ours.extend_with_parameter_wise_lr(ours.Adam),
        {'paramwise_lr_schedule': {'Embedding': 0.1, 'bias': 10.0}},
    ),
}


@pytest.fixture(scope='module')
def recorded(data_dir):
    path = data_dir.parent / 'peers' / 'bert4keras' / 'optimizers.npz'
    if not path.exists():
        pytest.skip(f"bert4keras' recorded trajectories are not in {path}")
    with np.load(path) as file:
        return dict(file)


def course(recorded, case, steps=12):
    names = [key[3:] for key in recorded if key.startswith('p0:')]
    return [{n: recorded[f'{case}:{n}:{t}'] for n in names} for t in range(steps)]


def start(recorded):
    return {key[3:]: v for key, v in recorded.items() if key.startswith('p0:')}


def make(case):
    cls, options = CASES[case]
    return cls(**{'learning_rate': 0.01, **options})


@pytest.mark.parametrize('case', CASES)
def test_steps_equal_those_of_bert4keras(recorded, case):
    found = train(make(case), start(recorded), course(recorded, 'g'))
    for step, expected in zip(found, course(recorded, case), strict=True):
        for name, value in expected.items():
            assert_close(step[name], value, atol=1e-5)


@pytest.mark.every_backend
def test_a_stack_equals_that_of_bert4keras(recorded):
    """Pretraining's, shifted: theirs updates one gradient late, first by nothing."""
    cls = ours.extend_with_gradient_accumulation(
        ours.extend_with_piecewise_linear_lr(ours.LAMB)
    )
    options = {'weight_decay_rate': 0.1, 'bias_correction': False, **NORMS}
    schedule = {0: 1 / 6, 5: 1, 11: 0}
    optimizer = cls(0.01, grad_accum_steps=3, lr_schedule=schedule, **options)
    found = train(optimizer, start(recorded), course(recorded, 'g'))
    expected = course(recorded, 'pretrain_stack')
    for t in range(11):
        for name, value in expected[t + 1].items():
            assert_close(found[t][name], value, atol=1e-5)


def test_averages_equal_those_of_bert4keras(recorded):
    optimizer = make('ema')
    last = train(optimizer, start(recorded), course(recorded, 'g'))[-1]
    weights = optimizer._trainable_variables
    optimizer.apply_ema_weights()
    for weight in weights:
        assert_close(
            keras.ops.convert_to_numpy(weight),
            recorded[f'ema_applied:{weight.path}'],
            atol=1e-5,
        )
    optimizer.reset_old_weights()
    for weight in weights:
        assert_close(keras.ops.convert_to_numpy(weight), last[weight.path], atol=0)
