import numpy as np
import pytest
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import spans as slow

from keraseff.losses import global_pointer_crossentropy
from keraseff.losses import multilabel_categorical_crossentropy
from keraseff.losses import sparse_global_pointer_crossentropy
from keraseff.losses import sparse_multilabel_categorical_crossentropy
from keraseff.ops import masked_value


def case(rng, rows=6, c=7, k=3, scale=2.0):
    scores = rng.normal(0, scale, (rows, c)).astype('float32')
    ids = rng.integers(0, c, (rows, k))
    return scores, ids, multi_hot(ids, c)


def multi_hot(ids, c):
    return np.eye(c, dtype='float32')[ids].max(axis=-2)


@pytest.mark.every_backend
def test_loss_equals_the_expansion_into_pairs(rng):
    scores, _, labels = case(rng)
    labels[0], labels[1] = 0, 1
    found = to_numpy(multilabel_categorical_crossentropy(labels, scores))
    wide = scores.astype('float64')
    expected = [slow.multilabel_loss(y, s) for y, s in zip(labels, wide, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_known_value():
    scores, labels = [[2.0, -1.0, 0.5, -3.0]], [[1.0, 0.0, 0.0, 1.0]]
    dense = multilabel_categorical_crossentropy(np.array(labels), np.array(scores))
    sparse = sparse_multilabel_categorical_crossentropy(np.array([[0, 3]]), scores)
    assert float(dense[0]) == pytest.approx(4.159116, abs=1e-6)
    assert float(sparse[0]) == pytest.approx(4.159116, abs=1e-6)


@pytest.mark.every_backend
@pytest.mark.parametrize('scale', [1.0, 30.0, 1e4])
def test_sparse_equals_dense_with_repeats(scale, rng):
    scores, ids, _ = case(rng, scale=scale)
    ids[:, 2] = ids[:, 0]
    labels = multi_hot(ids, 7)
    dense = multilabel_categorical_crossentropy(labels, scores)
    sparse = sparse_multilabel_categorical_crossentropy(ids, scores)
    assert_close(dense, sparse)
    (a,) = gradients(
        lambda s: ops.sum(multilabel_categorical_crossentropy(labels, s)), scores
    )
    (b,) = gradients(
        lambda s: ops.sum(sparse_multilabel_categorical_crossentropy(ids, s)), scores
    )
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.every_backend
def test_mask_zero_leaves_class_zero_out(rng):
    scores, ids, _ = case(rng)
    ids[:, -1], ids[0] = 0, 0
    labels = multi_hot(ids, 7)[:, 1:]

    def sparse(s):
        return sparse_multilabel_categorical_crossentropy(ids, s, mask_zero=True)

    dense = multilabel_categorical_crossentropy(labels, scores[:, 1:])
    assert_close(sparse(scores), dense)
    (found,) = gradients(lambda s: ops.sum(sparse(s)), scores)
    assert not found[:, 0].any()
    (expected,) = gradients(
        lambda s: ops.sum(multilabel_categorical_crossentropy(labels, s)), scores[:, 1:]
    )
    np.testing.assert_allclose(found[:, 1:], expected, atol=1e-6)


def test_gradients_are_shares_of_each_side(rng):
    scores, _, labels = case(rng)
    (found,) = gradients(
        lambda s: ops.sum(multilabel_categorical_crossentropy(labels, s)), scores
    )
    high, low = np.exp(scores) * (1 - labels), np.exp(-scores) * labels
    expected = high / (1 + high.sum(-1, keepdims=True))
    expected -= low / (1 + low.sum(-1, keepdims=True))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_all_negative_is_log_of_one_plus_the_sum(rng):
    scores = rng.normal(size=(5, 9)).astype('float32')
    found = multilabel_categorical_crossentropy(np.zeros_like(scores), scores)
    assert_close(found, np.log1p(np.exp(scores).sum(-1)))


def test_order_of_classes_does_not_matter(rng):
    scores, _, labels = case(rng)
    order = rng.permutation(7)
    mixed = multilabel_categorical_crossentropy(labels[:, order], scores[:, order])
    assert_close(mixed, multilabel_categorical_crossentropy(labels, scores), atol=1e-6)


def test_soft_labels_are_met_where_the_loss_is_stationary(rng):
    scores = rng.normal(size=(4, 6)).astype('float32')
    soft = 1 / (1 + np.exp(-2 * scores))
    (found,) = gradients(
        lambda s: ops.sum(multilabel_categorical_crossentropy(soft, s)), scores
    )
    np.testing.assert_allclose(found, 0, atol=1e-6)
    (away,) = gradients(
        lambda s: ops.sum(multilabel_categorical_crossentropy(soft, s)), scores + 1
    )
    assert np.abs(away).max() > 0.05


def test_half_labels_are_the_formula(rng):
    scores, t = rng.normal(size=(3, 4)), rng.uniform(size=(3, 4))
    found = to_numpy(multilabel_categorical_crossentropy(t, scores))
    expected = np.log1p((t * np.exp(-scores)).sum(-1))
    expected += np.log1p(((1 - t) * np.exp(scores)).sum(-1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize('low', [-np.inf, masked_value('float32'), -3e38])
def test_scores_of_minus_infinity_are_no_labels(low, rng):
    scores, _, labels = case(rng)
    more = np.pad(scores, ((0, 0), (0, 3)), constant_values=low)
    extra = np.pad(labels, ((0, 0), (0, 3)))
    found = multilabel_categorical_crossentropy(extra, more)
    assert_close(found, multilabel_categorical_crossentropy(labels, scores))


def test_extra_axes_are_batch_axes(rng):
    scores, ids, labels = case(rng)
    flat = to_numpy(multilabel_categorical_crossentropy(labels, scores))
    shape = 2, 3, -1
    dense = multilabel_categorical_crossentropy(
        labels.reshape(shape), scores.reshape(shape)
    )
    sparse = sparse_multilabel_categorical_crossentropy(
        ids.reshape(shape), scores.reshape(shape)
    )
    assert_close(dense, flat.reshape(2, 3))
    assert_close(sparse, flat.reshape(2, 3))


@pytest.mark.every_backend
def test_loss_of_spans_is_the_mean_over_types(rng):
    b, h, n = 2, 3, 4
    scores = rng.normal(size=(b, h, n, n)).astype('float32')
    scores[..., np.tri(n, k=-1, dtype=bool)] = masked_value('float32')
    scores[:, :, 0, 0] = masked_value('float32')
    ends = np.array([[[[1, 2], [0, 3], [0, 0]]] * h, [[[0, 0]] * 3] * h])
    labels = np.zeros_like(scores)
    for i, alpha, place in np.ndindex(b, h, 3):
        labels[i, alpha, *ends[i, alpha, place]] = 1
    labels[:, :, 0, 0] = 0
    shape = b, h, n * n
    each = [
        [
            slow.multilabel_loss(*pair)
            for pair in zip(rows, wide.astype('float64'), strict=True)
        ]
        for rows, wide in zip(labels.reshape(shape), scores.reshape(shape), strict=True)
    ]
    expected = np.mean(each, axis=1)
    dense = to_numpy(global_pointer_crossentropy(labels, scores))
    sparse = to_numpy(sparse_global_pointer_crossentropy(ends, scores))
    np.testing.assert_allclose(dense, expected, rtol=1e-5)
    np.testing.assert_allclose(sparse, expected, rtol=1e-5)
    (a,) = gradients(lambda s: ops.sum(global_pointer_crossentropy(labels, s)), scores)
    (c,) = gradients(
        lambda s: ops.sum(sparse_global_pointer_crossentropy(ends, s)), scores
    )
    np.testing.assert_allclose(a, c, atol=1e-6)


def test_half_precision_scores_give_a_float32_loss(rng):
    scores, _, labels = case(rng)
    found = multilabel_categorical_crossentropy(labels, scores.astype('float16'))
    expected = multilabel_categorical_crossentropy(labels, scores)
    assert to_numpy(found).dtype == 'float32'
    assert_close(found, expected, atol=1e-2)
