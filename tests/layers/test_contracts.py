"""One row for each layer: the contract of the harness."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import to_numpy
from keras import ops

from keraseff import layers

CONTRACTS = {
    'Add': lambda **kw: layers.Add(**kw),
    'EfficientGlobalPointer': lambda **kw: layers.EfficientGlobalPointer(3, 4, **kw),
    'FeedForward': lambda **kw: layers.FeedForward(9, 'gelu', **kw),
    'GatedFeedForward': lambda **kw: layers.FeedForward(9, ['gelu', 'linear'], **kw),
    'GlobalPointer': lambda **kw: layers.GlobalPointer(3, 4, **kw),
    'GRUCellV2': lambda **kw: keras.layers.RNN(
        layers.GRUCellV2(6, **kw), return_sequences=True, **kw
    ),
    'LayerNormalization': lambda **kw: layers.LayerNormalization(**kw),
    'RMSNormalization': lambda **kw: layers.LayerNormalization(
        zero_mean=False, offset=False, **kw
    ),
    'MultiHeadAttention': lambda **kw: layers.MultiHeadAttention(2, 4, **kw),
    'RotaryAttention': lambda **kw: layers.MultiHeadAttention(
        2, 4, position='rotary', causal=True, **kw
    ),
    'ScaleOffset': lambda **kw: layers.ScaleOffset(**kw),
}


@pytest.mark.every_backend
@pytest.mark.parametrize('name', CONTRACTS)
def test_contract(name, rng):
    x = rng.normal(size=(2, 5, 8)).astype('float32')
    if name == 'Add':
        y = rng.normal(size=(2, 5, 8)).astype('float32')
        check_layer(
            CONTRACTS[name], x, y, call=lambda layer, *t: layer(list(t)), padded=False
        )
    else:
        check_layer(CONTRACTS[name], x)


@pytest.mark.every_backend
def test_first_token(rng):
    x = rng.normal(size=(2, 5, 8)).astype('float32')
    assert_close(layers.FirstToken()(x), x[:, 0])
    check_layer(layers.FirstToken, x)


@pytest.mark.every_backend
def test_embedding_looks_up_and_scores_with_one_matrix(rng):
    ids = np.array([[0, 3, 0], [2, 1, 0]], 'int32')
    layer = layers.Embedding(4, 5, mask_zero=True)
    table = rng.normal(size=(4, 5)).astype('float32')
    found = layer(ids)
    layer.embeddings.assign(table)
    assert_close(layer(ids), table[ids])
    assert_close(layer(table[ids], mode='dense'), table[ids] @ table.T, atol=1e-4)
    mask = to_numpy(layer.compute_mask(ops.convert_to_tensor(ids)))
    np.testing.assert_array_equal(mask, [[True, True, False], [True, True, False]])
    check_layer(lambda **kw: layers.Embedding(4, 5, **kw), ids, padded=False)
    with pytest.raises(ValueError, match="mode='tied'"):
        layer(ids, mode='tied')
    assert found.shape == (2, 3, 5)


@pytest.mark.skipif(keras.backend.backend() != 'torch', reason='the others say less')
def test_ids_beyond_the_vocabulary_are_told_apart_from_a_bug():
    layer = layers.Embedding(5, 3)
    assert layer(np.array([[4]])).shape == (1, 1, 3)
    with pytest.raises(ValueError, match='outside of 0 … 4.*tokenizer'):
        layer(np.array([[5]]))


@pytest.mark.every_backend
@pytest.mark.parametrize('rms', [False, True])
def test_normalization_equals_the_formula(rms, rng):
    x = rng.normal(2, 3, size=(2, 5, 8)).astype('float32')
    layer = layers.LayerNormalization(zero_mean=not rms, epsilon=1e-3)
    layer(x)
    gamma, beta = rng.normal(size=(2, 8)).astype('float32')
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    centred = x if rms else x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3)
    assert_close(layer(x), centred / scale * gamma + beta, atol=1e-5)


@pytest.mark.every_backend
def test_conditional_normalization(rng):
    x = rng.normal(size=(2, 5, 8)).astype('float32')
    cond = rng.normal(size=(2, 3)).astype('float32')
    layer = layers.LayerNormalization(
        conditional=True, hidden_units=4, hidden_activation='relu'
    )
    plain = layers.LayerNormalization()
    assert_close(layer(x, cond=cond), plain(x))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    hidden = np.maximum(cond @ to_numpy(layer.hidden_dense.kernel.value), 0)
    gamma = to_numpy(layer.gamma.value) + hidden @ to_numpy(
        layer.gamma_dense.kernel.value
    )
    beta = to_numpy(layer.beta.value) + hidden @ to_numpy(layer.beta_dense.kernel.value)
    expected = to_numpy(plain(x)) * gamma[:, None] + beta[:, None]
    assert_close(layer(x, cond=cond), expected, atol=1e-4)

    def make(**kwargs):
        return layers.LayerNormalization(conditional=True, **kwargs)

    check_layer(
        make, x, cond[:, None], call=lambda la, a, c: la(a, cond=c[:, 0]), padded=False
    )
    with pytest.raises(ValueError, match='conditional'):
        layer(x)


@pytest.mark.every_backend
def test_gated_feed_forward_equals_the_formula(rng):
    x = rng.normal(size=(2, 5, 8)).astype('float32')
    layer = layers.FeedForward(6, ['tanh', 'linear'], use_bias=False)
    layer(x)
    a, b, c = (to_numpy(w.value) for w in layer.weights)
    assert_close(layer(x), (np.tanh(x @ a) * (x @ b)) @ c, atol=1e-5)
    assert np.abs(a - b).max() > 0.01, 'the two gates start unlike each other'


@pytest.mark.every_backend
def test_a_loss_layer_adds_its_loss(rng):
    class Distance(layers.Loss):
        def compute_loss(self, inputs, mask=None):
            return ops.mean(ops.square(inputs[0] - inputs[1]))

    x = rng.normal(size=(4, 3)).astype('float32')
    y = rng.normal(size=(4, 3)).astype('float32')
    a, b = keras.Input((3,)), keras.Input((3,))
    out = Distance(output_axis=1)([a, keras.layers.Dense(3)(b)])
    model = keras.Model([a, b], out)
    expected = np.mean((x - to_numpy(model([x, y]))) ** 2)
    model.compile(keras.optimizers.SGD(0.0))
    found = model.train_on_batch([x, y])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_config_holds_nested_layers():
    made = layers.MultiHeadAttention(
        2, 4, mechanism=layers.Softmax(0.1), position='rotary'
    )
    again = layers.MultiHeadAttention.from_config(made.get_config())
    assert isinstance(again.mechanism, layers.Softmax)
    assert again.mechanism.dropout == 0.1
    assert again.position.head_size == 4
