"""The BiLSTM encoder: padding changes nothing, and it survives being saved."""

import keras
import numpy as np
import pytest
from keras import ops

from keraseff.models.bilstm import build_bilstm

pytestmark = pytest.mark.every_backend

IDS = np.array([[3, 5, 2, 7, 4], [6, 2, 0, 0, 0]], 'int32')


def small(**options):
    return build_bilstm(9, embedding_size=6, units=4, **options)


def run(model, ids):
    return ops.convert_to_numpy(model(ids, training=False))


def test_padding_changes_nothing():
    model = small()
    padded = run(model, np.pad(IDS, [(0, 0), (0, 3)]))
    assert padded.shape == (2, 8, 8)
    np.testing.assert_allclose(padded[0, :5], run(model, IDS[:1])[0], atol=1e-6)
    # the backward direction, too, must begin at the last real token
    np.testing.assert_allclose(padded[1, :2], run(model, IDS[1:, :2])[0], atol=1e-6)


def test_both_directions_are_read():
    model = small(num_layers=1)
    base = run(model, IDS[:1])[0]
    first, last = IDS[:1].copy(), IDS[:1].copy()
    first[0, 0], last[0, -1] = 8, 8
    # forward, a change is felt from its place on; backward, up to its place
    felt = {
        'first': (first, [True] * 5, [True] + [False] * 4),
        'last': (last, [False] * 4 + [True], [True] * 5),
    }
    for ids, forward, backward in felt.values():
        moved = np.abs(run(model, ids)[0] - base) > 1e-7
        assert moved[:, :4].any(axis=1).tolist() == forward
        assert moved[:, 4:].any(axis=1).tolist() == backward


def test_reversed_text_swaps_the_directions():
    model = small(num_layers=1)
    wrapper = model.get_layer('BiLSTM-0')
    wrapper.set_weights(wrapper.get_weights()[:3] * 2)
    there, back = run(model, IDS[:1])[0], run(model, IDS[:1, ::-1])[0]
    np.testing.assert_allclose(there[:, :4], back[::-1, 4:], atol=1e-6)


def test_given_embeddings_are_the_first():
    vectors = np.random.default_rng(0).normal(size=(9, 6))
    model = small(embeddings=vectors)
    kept = model.get_layer('Embedding-Token').get_weights()[0]
    np.testing.assert_allclose(kept, vectors, atol=1e-6)
    with pytest.raises(ValueError, match=r'\(9, 5\).*\(9, 6\)'):
        small(embeddings=vectors[:, :5])


def test_whole_channels_are_dropped_only_in_training():
    model = small(num_layers=1)
    x = ops.convert_to_numpy(model(IDS[:1], training=True))[0]
    gone = (x == 0).all(axis=0)
    assert ((x == 0) == gone).all()
    np.testing.assert_array_equal(run(model, IDS), run(model, IDS))


@pytest.mark.parametrize('policy', ['float32', 'mixed_bfloat16'])
def test_a_training_step_under_each_policy(policy):
    keras.config.set_dtype_policy(policy)
    model = small(dropout_rate=0.1)
    x = keras.layers.Dense(2, dtype='float32')(model.output)
    whole = keras.Model(model.input, x)
    whole.compile(keras.optimizers.Adam(0.01), 'mse')
    before = [np.array(w) for w in whole.get_weights()]
    loss = whole.train_on_batch(IDS, np.ones((2, 5, 2), 'float32'))
    assert np.isfinite(loss)
    after = whole.get_weights()
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


def test_saved_and_reopened(tmp_path):
    model = small()
    model.save(tmp_path / 'model.keras')
    again = keras.models.load_model(tmp_path / 'model.keras')
    np.testing.assert_allclose(run(again, IDS), run(model, IDS), atol=1e-6)
    assert (tmp_path / 'model.keras').stat().st_size < 100_000
