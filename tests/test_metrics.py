import keras
import numpy as np
import pytest
from harness import save_and_reopen
from reference import spans as slow

from keraseff.layers import GlobalPointer
from keraseff.losses import global_pointer_crossentropy
from keraseff.losses import sparse_global_pointer_crossentropy
from keraseff.metrics import SpanF1
from keraseff.metrics import global_pointer_f1_score

B, H, N = 4, 3, 6


def batch(rng):
    scores = rng.normal(-1, 1, (B, H, N, N)).astype('float32')
    scores[:, :, 0, 0] = -1
    first = rng.integers(0, N, (B, H, 5, 2))
    ends = np.sort(first, axis=-1)
    ends[:, :, 4] = ends[:, :, 0]
    ends[:, :, 3] = 0
    labels = np.zeros_like(scores)
    for place in np.ndindex(B, H, 5):
        labels[(*place[:2], *ends[place])] = 1
    labels[:, :, 0, 0] = 0
    return scores, ends, labels


def sets(scores, labels, threshold=0):
    return slow.spans(labels, 0.5), slow.spans(scores, threshold)


@pytest.mark.every_backend
@pytest.mark.parametrize('threshold', [0.0, -0.7])
def test_streamed_f1_equals_the_f1_of_the_sets(threshold, rng):
    dense, sparse = SpanF1(threshold), SpanF1(threshold)
    gold, predicted = set(), set()
    for number in range(3):
        scores, ends, labels = batch(rng)
        dense.update_state(labels, scores)
        sparse.update_state(ends, scores)
        parts = sets(scores, labels, threshold)
        for whole, part in zip((gold, predicted), parts, strict=True):
            whole |= {(number, *span) for span in part}
    f1, hits = slow.f1(gold, predicted), len(gold & predicted)
    for metric in (dense, sparse):
        assert float(metric.result()) == pytest.approx(f1, abs=1e-6)
        assert float(metric.recall()) == pytest.approx(hits / len(gold), abs=1e-6)
        assert float(metric.precision()) == pytest.approx(
            hits / len(predicted), abs=1e-6
        )
    assert 0 < f1 < 1
    dense.reset_state()
    dense.update_state(labels, scores)
    assert float(dense.result()) == pytest.approx(slow.f1(*parts))


def test_hand_case():
    scores = np.full((1, 1, 4, 4), -1.0)
    scores[0, 0, 1, 2] = scores[0, 0, 2, 2] = scores[0, 0, 3, 3] = 1
    ends = np.array([[[[1, 2], [1, 3]]]])
    metric = SpanF1()
    metric.update_state(ends, scores)
    found = metric.result(), metric.precision(), metric.recall()
    expected = [2 / 5, 1 / 3, 1 / 2]
    np.testing.assert_allclose([float(f) for f in found], expected, rtol=1e-6)


def test_nothing_gold_and_nothing_predicted_is_zero_not_nan():
    scores = np.full((1, 1, 4, 4), -np.inf, 'float32')
    metric = SpanF1()
    metric.update_state(np.zeros((1, 1, 1, 2), int), scores)
    assert float(metric.result()) == 0
    assert float(global_pointer_f1_score(np.zeros_like(scores), scores)) == 0


def test_sample_weights_leave_rows_out_and_count_others_twice(rng):
    scores, ends, labels = batch(rng)
    weighted, repeated = SpanF1(), SpanF1()
    weighted.update_state(ends, scores, sample_weight=np.array([0, 2, 1, 0]))
    rows = [1, 1, 2]
    repeated.update_state(labels[rows], scores[rows])
    assert float(weighted.result()) == pytest.approx(float(repeated.result()))


def test_function_equals_the_metric_on_one_batch(rng):
    scores, ends, labels = batch(rng)
    expected = slow.f1(*sets(scores, labels))
    for y_true in (ends, labels):
        assert float(global_pointer_f1_score(y_true, scores)) == pytest.approx(expected)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ('policy', 'form'), [('float32', 'dense'), ('mixed_float16', 'sparse')]
)
def test_fit_counts_all_batches_and_survives_saving(policy, form, rng):
    keras.config.set_dtype_policy(policy)
    _, ends, labels = batch(rng)
    y, loss = {
        'dense': (labels, global_pointer_crossentropy),
        'sparse': (ends, sparse_global_pointer_crossentropy),
    }[form]
    x = rng.normal(size=(B, N, 5)).astype('float32')
    inputs = keras.Input((None, 5))
    model = keras.Model(inputs, GlobalPointer(H, 4)(inputs))
    model.compile('sgd', loss, metrics=[SpanF1(-0.2), global_pointer_f1_score])
    model.fit(x, y, batch_size=3, verbose=0)
    found = model.evaluate(x, y, batch_size=3, verbose=0, return_dict=True)
    scores = model.predict(x, verbose=0)
    if form == 'sparse':
        scores[:, :, 0, 0] = -1
    expected = slow.f1(*sets(scores, labels, -0.2))
    assert found['span_f1'] == pytest.approx(expected, abs=1e-6)
    again = save_and_reopen(model)
    assert again.evaluate(x, y, batch_size=3, verbose=0, return_dict=True) == found


def test_config_round_trip():
    metric = SpanF1(threshold=0.5, name='f1')
    again = SpanF1.from_config(metric.get_config())
    assert again.get_config() == metric.get_config()
    assert (again.threshold, again.name) == (0.5, 'f1')
