"""Layers by name."""

import keras
import pytest
from tricks import build

from keraseff.training.layers import find_layer
from keraseff.training.layers import search_layer
from keraseff.training.layers import watched


def nested():
    inner = build()
    x = keras.Input((None,), dtype='int32')
    y = keras.layers.Dense(2, name='outer')(inner(x))
    keras.layers.Embedding(10, 2, name='aside')(x)
    return keras.Model(x, y), inner


def test_a_layer_is_found_in_a_model_within():
    model, inner = nested()
    embedding = inner.get_layer('Embedding-Token')
    assert find_layer(model, 'Embedding-Token') is embedding
    assert search_layer(model.output, 'Embedding-Token') is embedding
    assert search_layer(model.get_layer('outer'), 'scores') is inner.get_layer('scores')
    assert search_layer(inner.get_layer('attention').output, 'scores') is None
    assert search_layer(model.output, 'aside') is None
    seen = set()
    search_layer(model.output, 'nothing', seen)
    assert embedding in seen
    with pytest.raises(ValueError, match="Did you mean 'attention'"):
        find_layer(model, 'attentions')


def test_watching_ends_whatever_happens_and_may_be_nested():
    model = build()
    layer = model.get_layer('scores')
    found = []

    def watch(i, inputs, outputs):
        found.append((i, tuple(inputs.shape), tuple(outputs.shape)))
        return outputs + 1.0

    x = [[1, 2, 3]]
    plain = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x)))
    with watched([layer], watch), watched([layer], watch):
        twice = model(keras.ops.convert_to_tensor(x))
    assert abs(keras.ops.convert_to_numpy(twice) - plain - 2).max() < 1e-5
    assert found == [(0, (1, 6), (1, 3))] * 2
    with pytest.raises(RuntimeError, match='stop'), watched([layer], watch):
        raise RuntimeError('stop')
    assert 'call' not in vars(layer)
