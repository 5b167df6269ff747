"""The gated attention unit against its formulas, its contract and bert4keras."""

import os
import subprocess

import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import gated_unit as slow

from keraseff.layers import GatedAttentionUnit
from keraseff.layers import Mechanism
from keraseff.layers import SoftmaxPlus

NAMES = ['softmax', 'softmax_plus', 'squared_relu']


def unit(normalization='squared_relu', **kwargs):
    return GatedAttentionUnit(10, 4, normalization=normalization, **kwargs)


def filled(layer, rng, *inputs):
    """The layer with random weights, and they by their paths below it."""
    layer(*inputs)
    for weight in layer.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    return {'/'.join(w.path.split('/')[1:]): to_numpy(w.value) for w in layer.weights}


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ('name', 'causal'), [('squared_relu', False), ('softmax_plus', True)]
)
def test_contract(name, causal, rng):
    x = rng.normal(size=(2, 7, 6)).astype('float32')
    check_layer(lambda **kw: unit(name, causal=causal, position='rotary', **kw), x)


@pytest.mark.every_backend
@pytest.mark.parametrize('use_bias', [True, False])
@pytest.mark.parametrize('position', [None, 'rotary'])
@pytest.mark.parametrize('name', NAMES)
def test_the_unit_equals_the_slow_version(name, position, use_bias, rng):
    x = rng.normal(size=(2, 18, 6)).astype('float32')
    layer = unit(name, position=position, use_bias=use_bias)
    weights = filled(layer, rng, x)
    assert len(weights) == (8 if use_bias else 4)
    dense = rng.random((2, 18, 18)) > 0.2
    dense |= np.eye(18, dtype=bool)
    expected = [
        slow.gated_unit(weights, 10, a, d, name, position == 'rotary')
        for a, d in zip(x, dense, strict=True)
    ]
    assert_close(layer(x, dense=dense), np.array(expected), atol=1e-4, rtol=1e-4)

    def total(a):
        out = [
            slow.gated_unit(weights, 10, t, d, name, position == 'rotary')
            for t, d in zip(a, dense, strict=True)
        ]
        return (np.array(out) * pull).sum()

    pull = rng.normal(size=(2, 18, 6)).astype('float32')
    direction = rng.normal(size=x.shape)
    h = 1e-4
    expected = (total(x + h * direction) - total(x - h * direction)) / (2 * h)
    (found,) = gradients(
        lambda t: ops.sum(ops.multiply(layer(t, dense=dense), pull)), x
    )
    np.testing.assert_allclose((found * direction).sum(), expected, rtol=1e-3)


@pytest.mark.parametrize('name', NAMES)
def test_no_step_sees_a_later_one_when_causal(name, rng):
    x = rng.normal(size=(1, 20, 6)).astype('float32')
    layer = unit(name, causal=True)
    before = to_numpy(layer(x))
    later = x.copy()
    later[:, 17:] += 1
    after = to_numpy(layer(later))
    np.testing.assert_allclose(before[:, :17], after[:, :17], atol=1e-6)
    assert np.abs(before[:, 17:] - after[:, 17:]).max() > 1e-4
    assert_close(before[:, :17], layer(x[:, :17]), atol=1e-6)
    (seen,) = gradients(lambda t: ops.sum(layer(t)[:, 16]), x)
    assert not seen[:, 17:].any()
    assert seen[:, :17].any()


@pytest.mark.every_backend
@pytest.mark.parametrize('name', NAMES)
def test_three_sequences(name, rng):
    q, k, v = (rng.normal(size=(2, n, 6)).astype('float32') for n in (4, 18, 18))
    layer = unit(name, self_attention=False)
    weights = filled(layer, rng, q, k, v)
    weights = {path: value.astype('float64') for path, value in weights.items()}
    lengths = np.array([18, 17])
    mask = np.arange(18)[None] < lengths[:, None]
    found = to_numpy(layer(q, k, v, v_mask=ops.convert_to_tensor(mask)))

    def dense(name, x):
        return slow.swish(x @ weights[f'{name}/kernel'] + weights[f'{name}/bias'])

    for b in range(2):
        uq = dense('uq_dense', q[b])
        out = slow.attend(
            uq[:, :10],
            uq[:, 10:],
            dense('k_dense', k[b]),
            dense('v_dense', v[b]),
            name,
            np.tile(mask[b], (4, 1)),
        )
        expected = out @ weights['o_dense/kernel'] + weights['o_dense/bias']
        np.testing.assert_allclose(found[b], expected, atol=1e-4, rtol=1e-4)


def test_three_sequences_are_given_exactly_where_asked_for(rng):
    x = rng.normal(size=(1, 4, 6)).astype('float32')
    with pytest.raises(ValueError, match='self_attention=True: call it with no k'):
        unit()(x, x, x)
    with pytest.raises(ValueError, match='self_attention=False: call it with both'):
        unit(self_attention=False)(x)
    with pytest.raises(ValueError, match='self_attention=False: call it with both'):
        unit(self_attention=False)(x, x)


def test_three_sequences_train_and_save(rng):
    q, k = (rng.normal(size=(2, n, 6)).astype('float32') for n in (4, 9))
    check_layer(lambda **kw: unit(self_attention=False, **kw), q, k, k, padded=False)


def test_residual_scores_add_up(rng):
    x = rng.normal(size=(2, 5, 6)).astype('float32')
    layer = unit(return_attention_scores=True)
    filled(layer, rng, x)
    out, scores = layer(x)
    assert tuple(scores.shape) == (2, 1, 5, 5)
    residual = rng.normal(size=scores.shape).astype('float32')
    other, summed = layer(x, residual=residual)
    assert_close(summed, to_numpy(scores) + residual)
    assert np.abs(to_numpy(out) - to_numpy(other)).max() > 1e-3


@pytest.mark.every_backend
def test_only_distance_matters_with_rotary_positions(rng):
    x = rng.normal(size=(1, 6, 6)).astype('float32')
    layer = unit('softmax', position='rotary')
    filled(layer, rng, x)
    start = ops.arange(6, dtype='float32')[None]
    near, far = (layer.position(x, position_ids=start + s) for s in (0, 50))
    assert_close(layer(x, p=near), layer(x))
    assert_close(layer(x, p=far), layer(x), atol=1e-4)
    double = layer.position(x, position_ids=2 * start)
    assert np.abs(to_numpy(layer(x, p=double)) - to_numpy(layer(x))).max() > 1e-3


def test_activation_and_scale_are_taken(rng):
    x = rng.normal(size=(1, 5, 6)).astype('float32')
    layer = unit('softmax', activation='relu', attention_scale=False)
    weights = filled(layer, rng, x)
    weights['q_scaleoffset/gamma'] = 2 * weights['q_scaleoffset/gamma']  # √4
    weights['q_scaleoffset/beta'] = 2 * weights['q_scaleoffset/beta']
    expected = slow.gated_unit(
        weights,
        10,
        x[0],
        np.ones((5, 5), bool),
        'softmax',
        act=lambda a: np.maximum(a, 0),
    )
    assert_close(layer(x)[0], expected, atol=1e-4, rtol=1e-4)


def test_dropout_rests_outside_training(rng):
    x = rng.normal(size=(2, 5, 6)).astype('float32')
    layer = unit('softmax', attention_dropout=0.5)
    assert_close(layer(x), layer(x, training=False))
    spread = to_numpy(layer(x, training=True)) - to_numpy(layer(x))
    assert np.abs(spread).max() > 1e-4


class Mean(Mechanism):
    """Compares nothing."""

    compares = False


def test_the_config_holds_the_mechanism():
    made = unit(SoftmaxPlus(0.1, length=128), position='rotary')
    again = GatedAttentionUnit.from_config(made.get_config())
    assert isinstance(again.normalization, SoftmaxPlus)
    assert (again.normalization.dropout, again.normalization.length) == (0.1, 128)
    assert again.position.head_size == 4


def test_what_compares_nothing_is_refused():
    with pytest.raises(ValueError, match='Mean never compares'):
        unit(Mean())
    with pytest.raises(ValueError, match="'squared_rely' is unknown"):
        unit('squared_rely')


PEER = """
import os, sys
os.environ.update(TF_KERAS='1', TF_USE_LEGACY_KERAS='1')
import numpy as np, tensorflow as tf
tf.keras.optimizers.Optimizer = tf.keras.optimizers.legacy.Optimizer
from bert4keras.backend import keras, sinusoidal_embeddings, K
from bert4keras.layers import GatedAttentionUnit
given = np.load(sys.argv[1])
x = keras.layers.Input((None, 6))
steps = keras.layers.Lambda(lambda x: K.cumsum(K.ones_like(x[..., 0]), axis=1) - 1)
p = keras.layers.Lambda(lambda n: sinusoidal_embeddings(n, 4))(steps(x))
layer = GatedAttentionUnit(
    10, 4, normalization=sys.argv[3], use_bias=sys.argv[4] == 'True'
)
model = keras.Model(x, layer([keras.layers.Masking()(x), p], p_bias='rotary'))
parts = [layer.i_dense, layer.q_scaleoffset, layer.k_scaleoffset, layer.o_dense]
for part, name in zip(parts, ('i_dense', 'q_scaleoffset', 'k_scaleoffset', 'o_dense')):
    for weight in part.weights:
        leaf = weight.name.split('/')[-1].split(':')[0]
        weight.assign(given[f'{name}/{leaf}'])
np.save(sys.argv[2], model.predict_on_batch(given['x']))
"""


@pytest.mark.live_peer
@pytest.mark.parametrize('use_bias', [True, False])
@pytest.mark.parametrize('name', NAMES)
def test_the_unit_equals_bert4keras(name, use_bias, bert4keras_python, rng, tmp_path):
    x = rng.normal(size=(2, 20, 6)).astype('float32')
    x[1, 17:] = 0
    layer = unit(name, position='rotary', use_bias=use_bias)
    weights = filled(layer, rng, x)
    np.savez(tmp_path / 'given.npz', x=x, **weights)
    paths = [tmp_path / 'given.npz', tmp_path / 'out.npy']
    subprocess.run(
        [bert4keras_python, '-c', PEER, *paths, name, str(use_bias)],
        check=True,
        capture_output=True,
        env={'PATH': os.environ.get('PATH', '')},
    )
    mask = ops.convert_to_tensor((x != 0).any(-1))
    found = to_numpy(layer(x, mask=mask))
    assert_close(found, np.load(paths[1]), atol=1e-5, rtol=1e-4)
