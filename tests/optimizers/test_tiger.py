"""Tiger against its rule in NumPy, for each kind of weight."""

import keras
import numpy as np
import pytest
from harness import assert_close
from reference import optimizers as slow

from keraseff.optimizers import Tiger

KINDS = {
    'Embedding-Token/embeddings': ('embeddings', (4, 3)),
    'Dense/kernel': ('matrix', (3, 2)),
    'Dense/bias': ('bias', (2,)),
    'Dense-Norm/gamma': ('gamma', (2,)),
}


@pytest.mark.every_backend
@pytest.mark.parametrize('k', [1, 3])
def test_rule(k, rng):
    start = {
        path: rng.normal(1, 0.3, shape).astype('float32')
        for path, (_, shape) in KINDS.items()
    }
    gradients = [
        {path: rng.normal(size=v.shape).astype('float32') for path, v in start.items()}
        for _ in range(9)
    ]
    for step in (3, 7):
        gradients[step]['Dense/kernel'][0, 1] = np.nan
    gradients[4]['Dense-Norm/gamma'][:] = np.nan
    found = slow.train(Tiger(0.1, grad_accum_steps=k), start, gradients)
    for path, (kind, _) in KINDS.items():
        g = [step[path] for step in gradients]
        expected = slow.tiger(start[path].astype('float64'), g, 0.1, kind, k)
        for step, value in zip(found, expected, strict=True):
            assert_close(step[path], value, atol=1e-5)


def test_one_number_per_weight():
    optimizer = Tiger(0.1, grad_accum_steps=4)
    weights = slow.variables({'Dense/kernel': np.zeros((3, 2), 'float32')})
    optimizer.build(weights)
    assert sum(np.prod(v.shape) for v in optimizer.variables) == 6 + 2


def test_groups_are_steps_with_the_mean(rng):
    start = {'Dense/kernel': rng.normal(size=(3, 2)).astype('float32')}
    single = [{'Dense/kernel': rng.normal(size=(3, 2))} for _ in range(4)]
    single = [{p: g.astype('float32') for p, g in step.items()} for step in single]
    noise = rng.normal(size=(3, 2)).astype('float32')
    halves = [
        {'Dense/kernel': s['Dense/kernel'] + e} for s in single for e in (noise, -noise)
    ]
    found = slow.train(Tiger(0.1, grad_accum_steps=2), start, halves)[1::2]
    for a, b in zip(found, slow.train(Tiger(0.1), start, single), strict=True):
        assert_close(a['Dense/kernel'], b['Dense/kernel'], atol=1e-6)


def test_schedule():
    start = {'Dense/bias': np.zeros(2, 'float32')}
    ones = [{'Dense/bias': np.ones(2, 'float32')}] * 4
    found = slow.train(Tiger(0.2, lr_schedule={2: 1, 3: 0}), start, ones)
    values = [step['Dense/bias'][0] for step in found]
    assert_close(values, [0, -0.05, -0.15, -0.15], atol=1e-6)
    assert keras.saving.get_registered_name(Tiger) == 'keraseff>Tiger'
