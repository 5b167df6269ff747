import os
import sys
import time

import numpy as np
import pytest

from keraseff.data import parallel_apply
from keraseff.data import parallel_apply_generator


def square(x):
    return x * x


def noise(x):
    time.sleep(0.05)
    return os.getpid(), np.random.random()


def test_threads_equal_a_loop():
    expected = [square(x) for x in range(50)]
    assert sorted(parallel_apply(square, range(50), 4, 8, dummy=True)) == expected
    ordered = parallel_apply(square, range(50), 4, 8, dummy=True, unordered=False)
    assert ordered == expected
    seen = []
    assert parallel_apply(square, range(50), 3, 5, seen.append, dummy=True) is None
    assert sorted(seen) == expected
    pairs = dict(parallel_apply_generator(square, range(50), 4, 8, dummy=True))
    assert pairs == dict(enumerate(expected))


def test_slow_ones_do_not_change_the_order():
    def slow_first(x):
        time.sleep(0.05 if x == 0 else 0)
        return x

    results = parallel_apply(slow_first, range(9), 3, 4, dummy=True, unordered=False)
    assert results == list(range(9))


def test_the_queue_is_bounded():
    taken = []

    def rows():
        for x in range(100):
            taken.append(x)
            yield x

    results = parallel_apply_generator(square, rows(), 2, 5, dummy=True)
    next(results)
    assert len(taken) <= 5
    results.close()
    with pytest.raises(ValueError, match='max_queue_size=0'):
        next(parallel_apply_generator(square, [1], 1, 0))


def test_errors_come_through():
    with pytest.raises(ZeroDivisionError):
        parallel_apply(lambda x: 1 // x, [1, 0], 2, 2, dummy=True)


def test_spawned_processes_with_their_own_seeds(monkeypatch):
    monkeypatch.setattr(sys, 'path', [os.path.dirname(__file__), *sys.path])
    options = {'random_seeds': [1, 2], 'context': 'spawn', 'unordered': False}
    assert parallel_apply(square, range(9), 2, 4, **options) == [
        x * x for x in range(9)
    ]
    drawn = parallel_apply(noise, range(6), 2, 6, **options)
    of = {}
    for process, value in drawn:
        of.setdefault(process, []).append(value)
    streams = {tuple(np.random.RandomState(s).random(6)[:3]) for s in (1, 2)}
    first = {s[0] for s in streams}
    assert {values[0] for values in of.values()} <= first
    assert len({value for _, value in drawn}) == 6
