"""Sinusoidal positions as a layer."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import save_and_reopen
from harness import to_numpy

from keraseff.layers.position.sinusoidal import SinusoidalPositionEmbedding


def vector(k, size):
    return np.array(
        [
            (np.cos if c % 2 else np.sin)(k * 10000 ** (-(c - c % 2) / size))
            for c in range(size)
        ]
    )


@pytest.mark.every_backend
@pytest.mark.parametrize('mode', ['add', 'mul', 'concat', 'zero'])
def test_each_way_to_merge(mode, rng):
    x = rng.normal(size=(2, 5, 4)).astype('float32')
    table = np.broadcast_to([vector(k, 4) for k in range(5)], (2, 5, 4))
    expected = {
        'add': x + table,
        'mul': x * (table + 1),
        'concat': np.concatenate([x, table], -1),
        'zero': table[:1],
    }
    layer = SinusoidalPositionEmbedding(4, mode)
    assert_close(layer(x), expected[mode])


@pytest.mark.parametrize('mode', ['add', 'concat'])
def test_contract(mode, rng):
    x = rng.normal(size=(2, 5, 4)).astype('float32')
    check_layer(lambda **kwargs: SinusoidalPositionEmbedding(4, mode, **kwargs), x)


@pytest.mark.every_backend
def test_places_of_their_own(rng):
    x = rng.normal(size=(2, 3, 4)).astype('float32')
    ids = np.array([[0.5, 7, 1000.25], [2, 1, 0]], 'float32')
    expected = x + np.array([[vector(k, 4) for k in row] for row in ids])
    layer = SinusoidalPositionEmbedding(4, custom_position_ids=True)
    assert_close(layer([x, ids]), expected, atol=1e-4)
    assert_close(layer(x, ids[:1]), x + (expected - x)[:1], atol=1e-4)
    half = SinusoidalPositionEmbedding(4, dtype='mixed_float16')
    found = to_numpy(half(x, ids))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=5e-3)
    inputs = [keras.Input((None, 4)), keras.Input((None,))]
    model = save_and_reopen(keras.Model(inputs, layer(inputs)))
    assert_close(model.predict([x, ids], verbose=0), expected, atol=1e-4)
    with pytest.raises(ValueError, match='needs them'):
        layer(x)


def test_products_know_only_distance_and_fall():
    layer = SinusoidalPositionEmbedding(64, 'zero')
    table = to_numpy(layer(np.zeros((1, 60, 1))))[0]
    products = table @ table.T
    np.testing.assert_allclose(products[:50, 0], products[10:, 10], atol=1e-4)
    assert products[0, 0] == pytest.approx(32, abs=1e-4)
    assert products[0, 30:].max() < products[0, 3] < products[0, 1]


def test_a_mask_goes_through():
    x = keras.Input((None,), dtype='int32')
    y = keras.layers.Embedding(5, 4, mask_zero=True)(x)
    y = SinusoidalPositionEmbedding(4)(y)
    mean = keras.Model(x, keras.layers.GlobalAveragePooling1D()(y))
    found = mean.predict(np.array([[3, 2, 0, 0]]), verbose=0)
    assert_close(found, mean.predict(np.array([[3, 2]]), verbose=0))


def test_errors():
    with pytest.raises(ValueError, match="merge_mode='sum' is unknown"):
        SinusoidalPositionEmbedding(4, 'sum')
    with pytest.raises(ValueError, match='even output_dim, got 5'):
        SinusoidalPositionEmbedding(5)
