"""Attention: the contract of each mechanism, and softmax against a slow version."""

import keras
import numpy as np
import pytest
from harness import MECHANISM_OPTIONS
from harness import assert_close
from harness import check_layer
from harness import check_mechanism
from harness import gradients
from harness import to_numpy
from keras import ops
from reference.attention import multi_head_attention

from keraseff.layers import MECHANISMS
from keraseff.layers import Layer
from keraseff.layers import Mask
from keraseff.layers import Mechanism
from keraseff.layers import MultiHeadAttention
from keraseff.layers import Position
from keraseff.layers import Softmax


@pytest.mark.parametrize('position', [None, 'rotary'])
@pytest.mark.parametrize('name', sorted(MECHANISMS))
def test_contract(name, position):
    if position and name == 'synthesizer':
        pytest.skip('it compares nothing')
    check_mechanism(name, position, MECHANISM_OPTIONS.get(name))


class Bank(Layer):
    """An attention layer of each mechanism, beside each other; compiled once."""

    def __init__(self, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.causal = causal
        self.bank = {
            name: MultiHeadAttention(
                2,
                4,
                out_dim=6,
                mechanism=name,
                mechanism_options=MECHANISM_OPTIONS.get(name),
                position='rotary' if name != 'synthesizer' else None,
                causal=causal,
                dtype=self.dtype_policy,
                name=name,
            )
            for name, kind in sorted(MECHANISMS.items())
            if kind.can_be_causal or not causal
        }

    def build(self, x_shape):
        for layer in self.bank.values():
            layer.build(x_shape)

    def call(self, x, mask=None):
        return [layer(x, mask=mask) for layer in self.bank.values()]

    def compute_output_shape(self, x_shape):
        return [x_shape for _ in self.bank]

    def compute_mask(self, x, previous_mask=None):
        return [previous_mask for _ in self.bank]


def bank_model(dtype=None):
    x, mask = keras.Input((7, 6)), keras.Input((7,), dtype='bool')
    return keras.Model([x, mask], Bank(causal=True, dtype=dtype)(x, mask=mask))


@pytest.mark.every_backend
def test_all_at_once_under_jit_with_a_mask_and_in_half_precision(rng):
    """Two compilations for all mechanisms; one by one they meet more, see above."""
    x = rng.normal(size=(2, 7, 6)).astype('float32')
    mask = np.arange(7)[None] < np.array([[5], [7]])
    model = bank_model()
    before = model.predict([x, mask], verbose=0)
    x[0, 5:] = 7
    after = model.predict([x, mask], verbose=0)
    for one, other in zip(after, before, strict=True):
        assert_close(one[0, :5], other[0, :5])
        assert_close(one[1], other[1])
    half = bank_model('mixed_float16')
    half.set_weights(model.get_weights())
    weights = [to_numpy(w.value) for w in half.weights]
    half.compile(keras.optimizers.SGD(1e-2), 'mse')
    target = [np.zeros(o.shape, 'float32') for o in before]
    loss = half.train_on_batch([x, mask], target)
    assert np.isfinite(loss).all()
    (layer,) = (m for m in half.layers if isinstance(m, Bank))
    moved = {
        w.path.split('/')[1]
        for w, old in zip(half.weights, weights, strict=True)
        if w.trainable and not np.array_equal(to_numpy(w.value), old)
    }
    assert moved == set(layer.bank)


def attention(**kwargs):
    return MultiHeadAttention(3, 4, out_dim=5, key_size=2, **kwargs)


@pytest.mark.every_backend
@pytest.mark.parametrize('causal', [False, True])
def test_softmax_equals_the_slow_version(causal, rng):
    layer = attention(causal=causal)
    x = rng.normal(size=(2, 5, 6)).astype('float32')
    y = rng.normal(size=(2, 5, 6)).astype('float32')
    dense = rng.random((2, 5, 5)) > 0.3
    dense |= np.eye(5, dtype=bool)
    layer(x, y)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    weights = [to_numpy(w.value) for w in layer.weights]
    expected = multi_head_attention(weights, 3, x, y, dense, causal)
    assert_close(layer(x, y, dense=dense), expected, atol=1e-4)

    def slow(i, direction, h=1e-3):
        up, down = (x + s * h * direction for s in (1, -1))
        return sum(
            s * multi_head_attention(weights, 3, a, y, dense, causal).sum()
            for s, a in ((1, up), (-1, down))
        ) / (2 * h)

    (found,) = gradients(lambda t: ops.sum(layer(t, y, dense=dense)), x)
    direction = rng.normal(size=x.shape)
    np.testing.assert_allclose((found * direction).sum(), slow(0, direction), rtol=1e-3)


@pytest.mark.every_backend
@pytest.mark.parametrize('causal', [False, True])
def test_softmax_is_what_torch_calls_scaled_dot_product_attention(causal, rng):
    torch = pytest.importorskip('torch')
    q, k, v = (rng.normal(size=(2, 9, 3, 4)).astype('float32') for _ in range(3))
    padding = np.arange(9)[None] < np.array([[9], [6]])
    where = Mask(padding, causal)

    def ours(q, k, v):
        return ops.sum(Softmax().call(q / 2.0, k, v, where) ** 3)

    theirs = [torch.tensor(t, requires_grad=True) for t in (q, k, v)]
    heads_first = [t.transpose(1, 2) for t in theirs]
    seen = torch.tensor(np.tril(np.ones((9, 9), bool)) if causal else True)
    out = torch.nn.functional.scaled_dot_product_attention(
        *heads_first, attn_mask=torch.tensor(padding)[:, None, None] & seen
    )
    expected = torch.autograd.grad((out**3).sum(), theirs)
    for one, other in zip(gradients(ours, q, k, v), expected, strict=True):
        assert_close(one, other.numpy(), atol=1e-4)
    mixed = Softmax().call(q / 2.0, k, v, where)
    assert_close(mixed, out.detach().transpose(1, 2).numpy())
    rounded = [ops.cast(t, 'bfloat16') for t in (q / 2.0, k, v)]
    again = ops.cast(Softmax().call(*rounded, where), 'float32')
    assert_close(again, to_numpy(mixed), atol=0.03)


@pytest.mark.every_backend
def test_residual_scores_add_up(rng):
    layer = attention(return_attention_scores=True)
    x = rng.normal(size=(2, 5, 6)).astype('float32')
    _, scores = layer(x)
    residual = rng.normal(size=scores.shape).astype('float32')
    out, summed = layer(x, residual=residual)
    assert_close(summed, to_numpy(scores) + residual)
    assert np.abs(to_numpy(out) - to_numpy(layer(x)[0])).max() > 1e-3


@pytest.mark.every_backend
def test_cross_attention_takes_its_mask_from_the_values(rng):
    layer = attention()
    x = rng.normal(size=(2, 4, 6)).astype('float32')
    y = rng.normal(size=(2, 7, 6)).astype('float32')
    mask = np.arange(7)[None] < np.array([[5], [7]])
    found = to_numpy(layer(x, y, y, v_mask=ops.convert_to_tensor(mask)))
    assert_close(found[0], to_numpy(layer(x[:1], y[:1, :5]))[0])


def test_the_order_is_unseen_without_a_position(rng):
    layer = attention()
    x = rng.normal(size=(1, 6, 6)).astype('float32')
    order = rng.permutation(6)
    assert_close(to_numpy(layer(x))[:, order], layer(x[:, order]))


def test_projections_start_unlike_each_other():
    layer = MultiHeadAttention(2, 4)
    layer.build((None, None, 8))
    q, k, v = (
        to_numpy(d.kernel.value) for d in (layer.q_dense, layer.k_dense, layer.v_dense)
    )
    assert np.abs(q - k).max() > 0.01
    assert np.abs(k - v).max() > 0.01


class Mean(Mechanism):
    """The plain mean of the values; forms no scores and compares nothing."""

    compares = False

    def call(self, q, k, v, where):
        return ops.broadcast_to(ops.mean(v, axis=1, keepdims=True), ops.shape(v))


class Offset(Position):
    """A position that needs the score matrix."""

    needs_scores = True


def test_an_instance_serves_where_a_name_does(rng):
    x = rng.normal(size=(2, 5, 6)).astype('float32')
    layer = MultiHeadAttention(2, 4, mechanism=Mean())
    out = to_numpy(layer(x))
    assert_close(out, np.repeat(out[:, :1], 5, axis=1))
    assert len(layer.weights) == 4, 'no dead query and key projections are made'


def test_illegal_pairs_are_refused_when_made():
    with pytest.raises(ValueError, match='Offset works on the score matrix, but Mean'):
        MultiHeadAttention(2, 4, mechanism=Mean(), position=Offset())
    with pytest.raises(ValueError, match='Mean never forms'):
        MultiHeadAttention(2, 4, mechanism=Mean(), return_attention_scores=True)
    layer = MultiHeadAttention(2, 4, mechanism=Mean())
    with pytest.raises(ValueError, match='dense mask'):
        layer(np.zeros((1, 3, 8), 'float32'), dense=np.ones((1, 3, 3), bool))
    with pytest.raises(ValueError, match="'sofmax' is unknown"):
        MultiHeadAttention(2, 4, mechanism='sofmax')
    with pytest.raises(ValueError, match="'rotery' is unknown"):
        MultiHeadAttention(2, 4, position='rotery')


@pytest.mark.every_backend
def test_dropout_rests_outside_training(rng):
    x = rng.normal(size=(2, 5, 6)).astype('float32')
    layer = attention(attention_dropout=0.5)
    assert_close(layer(x), layer(x, training=False))
    spread = to_numpy(layer(x, training=True)) - to_numpy(layer(x))
    assert np.abs(spread).max() > 1e-3
    check_layer(lambda **kw: attention(attention_dropout=0.5, **kw), x)
    keras.utils.clear_session()
