"""Sparse attention: how many pairs each pattern sees, and how far two of them reach."""

import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy
from keras import ops
from reference import sparse_attention as slow

from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.sparse import Atrous
from keraseff.layers.attention.sparse import Fixed
from keraseff.layers.attention.sparse import Sparse
from keraseff.layers.attention.sparse import Strided


def weights(mechanism, n, causal=False):
    """(n, n): what mixing the unit vectors gives."""
    q = np.random.default_rng(3).normal(size=(1, n, 1, 4)).astype('float32')
    v = np.eye(n, dtype='float32')[None, :, None]
    q, v = ops.convert_to_tensor(q), ops.convert_to_tensor(v)
    return to_numpy(mechanism(q, q, v, where=Mask(causal=causal)))[0, :, 0]


@pytest.mark.parametrize(
    ('mechanism', 'pairs'), [(Atrous(3), 48), (Sparse(3), 90), (Strided(3), 90)]
)
def test_twelve_steps_at_rate_three(mechanism, pairs):
    found = weights(mechanism, 12)
    assert (found > 0).sum() == pairs
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize('mechanism', [Strided(7), Fixed(7, c=1), Fixed(8, c=3)])
@pytest.mark.parametrize('n', [50, 56])
def test_two_causal_layers_reach_every_earlier_step(mechanism, n):
    """Fixed: every step but the last ones of its block reaches c columns that do."""
    once = weights(mechanism, n, causal=True) > 0
    twice = (once.astype(int) @ once.astype(int)) > 0
    every = np.tril(np.ones((n, n), bool))
    np.testing.assert_array_equal(twice, every)
    assert once.sum() < every.sum() / 2, 'one layer does not'


def test_strided_is_sparse_of_equal_rate_and_window(rng):
    for causal in (False, True):
        assert_close(weights(Strided(6), 40, causal), weights(Sparse(6), 40, causal))
    config = Strided(6).get_config()
    assert config['stride'] == 6
    assert 'rate' not in config
    assert Strided.from_config(config).reach == 6


def test_a_key_both_near_and_in_the_class_counts_once():
    """With equal scores each seen key has the same share."""
    n = 30
    q = ops.zeros((1, n, 1, 2))
    v = ops.convert_to_tensor(np.eye(n, dtype='float32')[None, :, None])
    for mechanism, seen in (
        (Sparse(3, reach=7), slow.sparse(n, 3, 7)),
        (Fixed(5, c=2), slow.fixed(n, 5, 2)),
    ):
        found = to_numpy(mechanism(q, q, v, where=Mask()))[0, :, 0]
        assert_close(found, seen / seen.sum(1, keepdims=True))


def test_the_atrous_classes_do_not_know_each_other(rng):
    q, k, v = (rng.normal(size=(1, 31, 2, 4)).astype('float32') for _ in range(3))
    found = to_numpy(Atrous(4)(q, k, v, where=Mask()))
    for r in range(4):
        own = to_numpy(Atrous(1)(q[:, r::4], k[:, r::4], v[:, r::4], where=Mask()))
        assert_close(found[:, r::4], own)
