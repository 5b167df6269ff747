"""Every optimizer descends, saves, reopens, resumes: Keras', ours, each extension."""

import keras
import numpy as np
import pytest
from harness import check_optimizer

from keraseff import optimizers as ours

KERAS = {
    'sgd': lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    'adam': lambda: keras.optimizers.Adam(0.05),
    'adamw': lambda: keras.optimizers.AdamW(0.05, weight_decay=0.01),
}
OURS = {
    'adam': lambda: ours.Adam(0.05),
    'uncorrected': lambda: ours.Adam(0.01, bias_correction=False),
    'lion': lambda: ours.Lion(0.01),
    'lamb': lambda: ours.LAMB(0.05, exclude_from_weight_decay=['bias']),
    'adafactor': lambda: ours.AdaFactor(0.2, beta1=0.9, min_dim_size_to_factor=2),
    'adafactor by itself': lambda: ours.AdaFactor(None),
    'tiger': lambda: ours.Tiger(0.1, grad_accum_steps=2, lr_schedule={2: 1, 9: 0.5}),
}
EXTENSIONS = {
    'weight_decay': {'weight_decay_rate': 0.1, 'exclude_from_weight_decay': ['bias']},
    'layer_adaptation': {'exclude_from_layer_adaptation': ['bias']},
    'piecewise_linear_lr': {'lr_schedule': {2: 1, 6: 0.5}},
    'gradient_accumulation': {'grad_accum_steps': 2},
    'lookahead': {'steps_per_slow_update': 3, 'slow_step_size': 0.5},
    'lazy_optimization': {'include_in_lazy_optimization': ['Embedding']},
    'exponential_moving_average': {'ema_momentum': 0.9},
    'parameter_wise_lr': {'paramwise_lr_schedule': {'Embedding': 0.5, 'bias': 2.0}},
    'gradient_clipping': {'mode': 'smooth', 'gamma': 2.0, 'per': 'variable'},
}


def extended(base, *extensions):
    """A class, and all the arguments for it."""
    options = {}
    for name in extensions:
        base = getattr(ours, f'extend_with_{name}')(base)
        options.update(EXTENSIONS[name])
    return base, options


@pytest.mark.every_backend
@pytest.mark.parametrize('name', KERAS)
def test_optimizers_of_keras(name):
    check_optimizer(KERAS[name])


@pytest.mark.parametrize('name', OURS)
def test_our_optimizers(name):
    check_optimizer(OURS[name])


@pytest.mark.parametrize('name', EXTENSIONS)
def test_each_extension(name):
    bases = keras.optimizers.SGD, keras.optimizers.AdamW
    cls, options = extended(bases[list(EXTENSIONS).index(name) % 2], name)
    check_optimizer(lambda: cls(0.02, **options))


@pytest.mark.every_backend
@pytest.mark.parametrize('turned', [False, True])
def test_all_extensions_at_once(turned):
    names = list(EXTENSIONS)[:: -1 if turned else 1]
    cls, options = extended(ours.Lion if turned else ours.AdaFactor, *names)
    check_optimizer(lambda: cls(0.1, **options))


@pytest.mark.every_backend
def test_half_precision():
    keras.config.set_dtype_policy('mixed_float16')
    names = 'weight_decay', 'gradient_clipping', 'lookahead', 'gradient_accumulation'
    cls, options = extended(ours.Adam, *names, 'exponential_moving_average')
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    optimizer = cls(0.1, **options)
    model.compile(optimizer, 'mse')
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    x = np.random.default_rng(0).normal(size=(16, 5))
    losses = model.fit(x, x[:, :1], 16, epochs=12, verbose=0).history['loss']
    assert losses[-1] < losses[0] / 2
    trained = model.get_weights()
    optimizer.apply_ema_weights()
    assert np.abs(model.get_weights()[0] - trained[0]).max() > 1e-3
    optimizer.reset_old_weights()
    assert all(
        (a == b).all() for a, b in zip(model.get_weights(), trained, strict=True)
    )
