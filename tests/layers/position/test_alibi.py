"""ALiBi, and what holds of every bias that is a function of distance."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import check_mechanism
from harness import to_numpy
from keras import ops

from keraseff.layers import MultiHeadAttention
from keraseff.layers.position.alibi import ALiBi
from keraseff.layers.position.alibi import alibi_slopes
from keraseff.layers.position.kerple import Kerple
from keraseff.layers.position.sandwich import Sandwich

BIASES = {
    'alibi': ALiBi,
    'log': Kerple,
    'power': lambda *sizes, **kwargs: Kerple(*sizes, kind='power', **kwargs),
    'sandwich': Sandwich,
}


def test_slopes():
    eighths = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    np.testing.assert_array_equal(alibi_slopes(8), eighths)
    # The slopes of 16 heads are √½ apart; the first, third … lie between those of 8.
    between = [np.sqrt(1 / 2), np.sqrt(1 / 8), np.sqrt(1 / 32), np.sqrt(1 / 128)]
    np.testing.assert_allclose(alibi_slopes(12), eighths + between, rtol=1e-15)
    np.testing.assert_array_equal(alibi_slopes(1), [2**-8])
    np.testing.assert_array_equal(alibi_slopes(3), [2**-4, 2**-8, 2**-2])
    for heads in range(1, 40):
        assert len(set(alibi_slopes(heads))) == heads


@pytest.mark.parametrize('heads', [8, 12, 5])
def test_slopes_are_those_of_bloom(heads):
    torch = pytest.importorskip('torch')
    bloom = pytest.importorskip('transformers.models.bloom.modeling_bloom')
    peer = bloom.build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)
    # Bloom counts keys from the first, which is the same to a softmax.
    np.testing.assert_allclose(alibi_slopes(heads), peer[:, 0, 1].numpy(), rtol=1e-6)


def test_alibi_is_a_slope_times_the_distance():
    p = to_numpy(ALiBi(None, 3)(np.zeros((1, 5, 2))))
    assert p.shape == (1, 3, 5, 5)
    for h, i, j in np.ndindex(3, 5, 5):
        assert p[0, h, i, j] == -[2**-4, 2**-8, 2**-2][h] * abs(i - j)


def test_a_decoder_sees_the_same_up_to_a_constant(rng):
    """|i - j| and i alone differ by a constant where j ≤ i, as in the paper."""
    q, k = rng.normal(size=(2, 1, 6, 2, 4)).astype('float32')
    layer = ALiBi(4, 2)
    scores = ops.einsum('bmhd,bnhd->bhmn', q, k)
    found = to_numpy(layer.bias(scores, q, layer(np.zeros((1, 6, 2)))))
    lowered = to_numpy(scores) + alibi_slopes(2)[:, None, None] * np.arange(6.0)
    seen = np.tril(np.ones((6, 6), bool))

    def shares(x):
        x = np.where(seen, np.exp(x), 0)
        return x / x.sum(-1, keepdims=True)

    np.testing.assert_allclose(shares(found), shares(lowered), atol=1e-6)


@pytest.mark.every_backend
@pytest.mark.parametrize('name', BIASES)
def test_only_distance_counts(name, rng):
    layer, x = BIASES[name](None, 2), np.zeros((2, 6, 3), 'float32')
    own = to_numpy(layer(x))
    assert own.shape == (1, 2, 6, 6)
    np.testing.assert_allclose(own, own.swapaxes(-1, -2), rtol=1e-6)
    for i, j in np.ndindex(5, 5):
        np.testing.assert_allclose(own[..., i, j], own[..., i + 1, j + 1], rtol=1e-6)
    assert (np.diff(own[0, :, 0]) < 0).all()
    assert np.abs(own[0, 0] - own[0, 1]).max() > 1e-3
    assert_close(layer(x, np.arange(6)[None] + 4000), own, atol=1e-4)
    half = to_numpy(layer(x, np.arange(6)[None] / 2))
    np.testing.assert_allclose(half[..., ::2, ::2], own[..., :3, :3], rtol=1e-6)
    assert (half[0, :, 0, 1] > own[0, :, 0, 1]).all()
    one = layer(x[:, :1], np.array([[4], [2]]), x)
    assert_close(one, np.stack([own[0, :, 4:5], own[0, :, 2:3]]))


@pytest.mark.every_backend
def test_contract_of_learned_ones():
    check_mechanism('softmax', position=Kerple(4, 2, 'power'))


@pytest.mark.parametrize('name', ['alibi', 'log', 'sandwich'])
def test_contracts(name):
    check_mechanism('softmax', position=BIASES[name](4, 2))


@pytest.mark.parametrize('name', BIASES)
def test_layers(name):
    x = np.zeros((1, 5, 3), 'float32')
    check_layer(lambda **kwargs: BIASES[name](None, 2, **kwargs), x, padded=False)
    far = np.array([[4000.25]])
    layer, half = BIASES[name](None, 2), BIASES[name](None, 2, dtype='mixed_float16')
    expected = to_numpy(layer(x, far, x))
    half(x, far, x)
    half.set_weights(layer.get_weights())
    found = to_numpy(half(x, far, x))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match='heads=None'):
        BIASES[name](4)(x)


def test_attention_with_a_bias_is_softmax_of_the_sum(rng):
    x = rng.normal(size=(2, 5, 8)).astype('float32')
    plain = MultiHeadAttention(2, 4, return_attention_scores=True)
    layer = MultiHeadAttention(2, 4, position=ALiBi(4, 2), return_attention_scores=True)
    plain(x), layer(x)
    layer.set_weights(plain.get_weights())
    far = np.abs(np.arange(5)[:, None] - np.arange(5))
    expected = to_numpy(plain(x)[1]) - alibi_slopes(2)[:, None, None] * far
    assert_close(layer(x)[1], expected)
