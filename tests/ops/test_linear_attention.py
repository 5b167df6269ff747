"""Chunked sums against matrices of weights, for many chunks, jumps and free lengths."""

import keras
import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import linear_attention as slow

from keraseff.ops.linear_attention import causal_linear_attention
from keraseff.ops.linear_attention import noncausal_linear_attention
from keraseff.ops.linear_attention import running_logsumexp


def features(rng, n, f=3, d=5):
    """Positive features of queries and keys, values, logarithms; 2 texts, 2 heads."""
    q, k = (rng.random((2, n, 2, f)).astype('float32') + 0.1 for _ in range(2))
    v = rng.normal(size=(2, n, 2, d)).astype('float32')
    return q, k, v, (30 * rng.normal(size=(2, n, 2, 1))).astype('float32')


def expected(q, k, v, padding=None, logs=None, causal=True):
    """Weights in float64, relative to the largest key that a query sees."""
    n = q.shape[1]
    where = slow.seen(n, n, padding, causal) > 0
    logs = np.zeros((*k.shape[:-1], 1)) if logs is None else logs.astype('float64')
    logs = np.where(where, logs[..., 0].transpose(0, 2, 1)[:, :, None], -np.inf)
    weights = slow.dot(q, k) * np.exp(logs - logs.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum('bhmn,bnhd->bmhd', weights, v)


PADDING = np.arange(203)[None] < np.array([[203], [150]])


def with_a_denominator(causal, turned, with_logs, q, k, v, logs):
    options = {'logs': logs if with_logs else None, 'epsilon': 0}
    options['turned'] = (q, k) if turned else None
    real = ops.convert_to_tensor(PADDING)
    if causal:
        return causal_linear_attention(q, k, v, real, chunk=4, **options)
    return noncausal_linear_attention(q, k, v, real, **options)


@pytest.mark.parametrize(
    'case',
    [
        pytest.param((True, False, True), marks=pytest.mark.every_backend),
        (True, False, False),
        (True, True, False),
        (True, True, True),
        (False, False, True),
        (False, True, False),
    ],
)
def test_many_chunks_equal_the_matrix_of_weights(case, rng):
    """203 steps in chunks of 4 are 51 chunks, in groups of groups."""
    arrays = features(rng, 203)
    causal, _, with_logs = case
    found = compiled(lambda *a: with_a_denominator(*case, *a), *arrays)

    def slowly(q, k, v, logs):
        return expected(q, k, v, PADDING, logs if with_logs else None, causal)

    assert_close(found, slowly(*arrays), atol=2e-5)
    wide = [a.astype('float64') for a in arrays]
    directions = [rng.normal(size=a.shape) for a in wide]
    pull = rng.normal(size=found.shape)
    pulled = ops.convert_to_tensor(pull.astype('float32'))
    grads = gradients(
        lambda *a: ops.sum(with_a_denominator(*case, *a) * pulled), *arrays
    )
    steep = slow.slope(lambda *a: slowly(*a) * pull, wide, directions)
    seen = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
    np.testing.assert_allclose(seen, steep, rtol=2e-3)


@pytest.mark.every_backend
def test_without_a_denominator_the_sums_come_out(rng):
    q, k, v, _ = features(rng, 19)
    found = compiled(
        lambda *a: [
            causal_linear_attention(*a, normalise=False, chunk=4),
            noncausal_linear_attention(*a, normalise=False),
        ],
        *(q, k, v),
    )
    scores = slow.dot(q, k)
    for mixed, weights in zip(found, (scores * np.tri(19), scores), strict=True):
        assert_close(mixed, np.einsum('bhmn,bnhd->bmhd', weights, v), atol=1e-4)


def test_a_later_key_of_any_size_has_no_influence(rng):
    q, k, v, logs = features(rng, 40)
    logs[:, 25:] += 5000
    whole = to_numpy(causal_linear_attention(q, k, v, logs=logs, chunk=10))
    part = (a[:, :25] for a in (q, k, v))
    alone = to_numpy(causal_linear_attention(*part, logs=logs[:, :25], chunk=25))
    assert_close(whole[:, :25], alone)
    assert_close(whole, expected(q, k, v, logs=logs), atol=2e-5)


def test_a_query_that_sees_only_padding_gets_something_finite(rng):
    q, k, v, logs = features(rng, 12)
    padding = np.arange(12)[None] >= np.array([[5], [12]])
    for given in (None, logs):
        found = to_numpy(
            causal_linear_attention(q, k, v, padding, given, chunk=4, epsilon=1e-30)
        )
        assert np.isfinite(found).all()
        late = (a[:1, 5:] for a in (q, k, v))
        rest = None if given is None else given[:1, 5:]
        assert_close(found[:1, 5:], expected(*late, logs=rest), atol=2e-5)
        (seen,) = gradients(
            lambda t, given=given: ops.sum(
                causal_linear_attention(
                    q, t, v, ops.convert_to_tensor(padding), given, epsilon=1e-30
                )
            ),
            k,
        )
        assert np.isfinite(seen).all()
        assert not seen[0, :5].any()
        assert not seen[1].any()


@pytest.mark.every_backend
def test_one_graph_serves_every_length(rng):
    x = keras.Input((None, 2, 3))

    class Both(keras.layers.Layer):
        def call(self, x):
            logs = ops.sum(x, axis=-1, keepdims=True)
            mixed = causal_linear_attention(ops.exp(x), ops.exp(x), x, chunk=2)
            more = causal_linear_attention(ops.exp(x), ops.exp(x), x, None, logs)
            return ops.concatenate([mixed, more, running_logsumexp(x, (4, 2))], -1)

    model = keras.Model(x, Both()(x))
    lengths = (5, 101) if keras.backend.backend() == 'jax' else (5, 101, 7, 1)
    for n in lengths:
        given = rng.normal(size=(2, n, 2, 3)).astype('float32')
        logs = given.sum(-1, keepdims=True)
        e = np.exp(given)
        found = model.predict_on_batch(given)
        assert_close(found[..., :3], expected(e, e, given), atol=2e-5)
        assert_close(found[..., 3:6], expected(e, e, given, logs=logs), atol=2e-5)
        assert_close(found[..., 6:], np.log(np.cumsum(e, axis=1)), atol=1e-5)


@pytest.mark.parametrize('n', [1, 2, 63, 64, 65, 300])
def test_the_running_logsumexp_survives_jumps(n, rng):
    x = 400 * rng.normal(size=(2, n, 1, 3)).astype('float32')
    found = to_numpy(running_logsumexp(x, (8, 4)))
    slowly = np.logaddexp.accumulate(x.astype('float64'), axis=1)
    assert_close(found, slowly, atol=1e-3)
