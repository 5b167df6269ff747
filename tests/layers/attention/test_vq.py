"""Transformer-VQ against attention over quantised keys, key by key."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_mechanism
from harness import gradients
from harness import to_numpy
from keras import ops
from reference.vq import quantised
from reference.vq import vq_attention

from keraseff.layers import Mask
from keraseff.layers import MultiHeadAttention
from keraseff.layers.attention import Rotation
from keraseff.layers.attention.softmax import Softmax
from keraseff.layers.attention.vq import TransformerVQ
from keraseff.layers.position import Rotary

B, N, H, D, V = 2, 23, 2, 4, 3
ROTARY = Rotary(D)


def drawn(rng, n=N):
    return [rng.normal(size=(B, n, H, x)).astype('float32') for x in (D, D, V)]


def made(rng, codes=6, block=4, **options):
    """A mechanism with a codebook, and a local bias, that are not the first ones."""
    layer = TransformerVQ(codes, block, **options)
    layer.build((B, N, H, D), (B, N, H, D), (B, N, H, V))
    layer.quantizer.sums.assign(rng.normal(size=(H, codes, D)))
    if layer.local_bias:
        layer.bias.assign(rng.normal(size=layer.bias.shape))
    return layer


def tensors(*arrays):
    return [ops.convert_to_tensor(x) for x in arrays]


def compiled(f):
    """Eager JAX compiles each operation by itself, which takes far longer."""
    if keras.backend.backend() != 'jax':
        return f
    import jax

    return jax.jit(f)


def rotation(start=0, steps=N):
    ids = ops.convert_to_tensor(np.arange(start, start + steps)[None])
    return Rotation(ROTARY, ROTARY(ops.zeros((1, steps, D)), position_ids=ids))


def parts(layer, k):
    """What the reference needs of a layer: its keys and its local bias."""
    codes = to_numpy(layer.quantizer.codebook())
    return quantised(k, codes), to_numpy(layer.bias) if layer.local_bias else None


@pytest.mark.every_backend
@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('local', [True, False])
def test_equals_attention_over_quantised_keys(causal, local, rng):
    q, k, v = drawn(rng)
    real = np.ones((B, N), bool)
    real[0, 5], real[1, 14:] = False, False
    layer = made(rng, local_bias=local)
    turn = {'rotation': rotation()} if local else {}
    found = layer(*tensors(q, k, v), where=Mask(real, causal), **turn)
    k_hat, bias = parts(layer, k)
    expected = vq_attention(q, k_hat, v, 4, causal, real, bias, rotary=local)
    assert_close(found, expected)
    # What is masked has no influence, and it changes nothing that it is there.
    k[~real], v[~real] = 9, 9
    assert_close(
        layer(*tensors(q, k, v), where=Mask(real, causal), **turn), found, atol=0
    )


@pytest.mark.parametrize(
    ('causal', 'through'),
    [
        pytest.param(True, False, marks=pytest.mark.every_backend),
        (True, True),
        (False, False),
    ],
)
def test_gradients_are_those_of_the_slow_version(causal, through, rng):
    q, k, v = drawn(rng, 13)
    weights = rng.normal(size=(B, 13, H, V)).astype('float32')
    directions = drawn(rng, 13)
    layer = made(rng, block=3, cache_gradient=through)
    k_hat, _ = parts(layer, k)

    def slow(move, h):
        dq, dk, dv = (h * x * on for x, on in zip(directions, move, strict=True))
        # Far keys are codes, and far values are often constants.
        far = (k_hat, v if causal and not through else v + dv)
        out = vq_attention(q + dq, k_hat + dk, v + dv, 3, causal, far=far)
        return (out * weights).sum()

    def loss(q, k, v):
        # By blocks in any case, as an encoder does it while it trains.
        parts = layer.quantizer(k)
        out = layer._blockwise(q, [q], *parts, v, ops.ones((1, 13)), causal)
        return ops.sum(ops.multiply(out, weights))

    found = gradients(loss, q, k, v)
    for i, move in enumerate(np.eye(3)):
        expected = (slow(move, 1e-4) - slow(move, -1e-4)) / 2e-4
        assert_close(np.sum(found[i] * directions[i]), expected, 1e-3, 1e-3)


@pytest.mark.parametrize('causal', [True, False])
def test_the_length_of_blocks_changes_nothing(causal, rng):
    q, k, v = tensors(*drawn(rng))
    layers = [made(np.random.default_rng(1), block=size) for size in (1, 3, 7, 64)]
    first, *others = (
        layer._blockwise(q, [q], *layer.quantizer(k), v, ops.ones((1, N)), causal)
        for layer in layers
    )
    for other in others:
        assert_close(other, first)
    whole = layers[0](q, k, v, where=Mask(None, causal))
    assert_close(whole, first)


@pytest.mark.every_backend
def test_no_step_knows_the_future(rng):
    q, k, v = drawn(rng)
    layer = made(rng, local_bias=True)

    def row(q, k, v):
        out = layer(q, k, v, where=Mask(causal=True), rotation=rotation())
        return ops.sum(ops.square(out[:, 13]))

    for found in gradients(row, q, k, v):
        assert not found[:, 14:].any()
        assert found[:, 13].any()


@pytest.mark.parametrize('causal', [True, False])
def test_with_a_code_for_each_key_it_is_softmax_attention(causal, rng):
    q, k, v = (x[:1] for x in drawn(rng))
    layer = made(rng, codes=N)
    layer.quantizer.sums.assign(np.swapaxes(k[0], 0, 1))
    where = Mask(None, causal)
    assert_close(
        layer(*tensors(q, k, v), where=where),
        Softmax().call(*tensors(q, k, v), where=where),
    )


def test_a_code_without_keys_has_no_weight(rng):
    q, k, v = drawn(rng)
    layer = made(rng)
    codes = rng.normal(size=(H, 6, D))
    codes[:, 2] = 1e4  # far from every key, and with enormous products
    layer.quantizer.sums.assign(codes)
    k_hat, _ = parts(layer, k)
    for causal in (True, False):
        found = to_numpy(layer(*tensors(q, k, v), where=Mask(None, causal)))
        assert_close(found, vq_attention(q, k_hat, v, 4, causal))


@pytest.mark.every_backend
def test_steps_and_segments_equal_one_pass(rng):
    q, k, v = drawn(rng)
    layer = made(rng, local_bias=True)
    expected = layer(*tensors(q, k, v), where=Mask(causal=True), rotation=rotation())
    rows, t = [], 0
    state = layer.start(B, N, H, D, V)
    shapes = keras.tree.map_structure(lambda x: tuple(x.shape), state)

    def advance(q, k, v, t, state):
        m = q.shape[1]
        ids = ops.reshape(ops.arange(m) + t, (1, m))
        turn = Rotation(ROTARY, ROTARY(ops.zeros((1, m, D)), position_ids=ids))
        go = layer.step if m == 1 else layer.extend
        return go(q, k, v, t, state, rotation=turn)

    advance = compiled(advance)
    # Single steps, and segments that begin and end anywhere.
    for m in (1, 1, 10, 1, 10):
        part = tensors(*(x[:, t : t + m] for x in (q, k, v)))
        mixed, state = advance(*part, ops.convert_to_tensor(t), state)
        rows.append(to_numpy(mixed))
        t += m
        assert keras.tree.map_structure(lambda x: tuple(x.shape), state) == shapes
    assert_close(np.concatenate(rows, axis=1), expected)


def test_each_step_equals_its_row(rng):
    layer = MultiHeadAttention(
        2, 4, mechanism=TransformerVQ(5, 3), position='rotary', causal=True
    )
    x = rng.normal(size=(2, 14, 6)).astype('float32')
    expected = to_numpy(layer(x))
    state = layer.start(2, 14)
    for t in range(14):
        row, state = layer.step(
            ops.convert_to_tensor(x[:, t : t + 1]), ops.convert_to_tensor(t), state
        )
        assert_close(row, expected[:, t : t + 1])


@pytest.mark.parametrize('local', [False, True])
def test_contract(local):
    position = 'rotary' if local else None
    check_mechanism(
        lambda: TransformerVQ(6, 3, local_bias=local, restart=0.1), position
    )


def test_half_precision_keeps_to_single(rng):
    q, k, v = drawn(rng, 60)
    layer = made(rng)
    expected = to_numpy(layer(*tensors(q, k, v), where=Mask(causal=True)))
    k_hat, _ = parts(layer, k)
    for name in ('float16', 'bfloat16'):
        half = TransformerVQ(6, 4, dtype=f'mixed_{name}')
        half.build(q.shape, k.shape, v.shape)
        half.set_weights(layer.get_weights())
        # Keys that are codes choose the same ones in any precision.
        args = [ops.cast(x, name) for x in (q, k_hat, v)]
        found = ops.cast(half(*args, where=Mask(causal=True)), 'float32')
        assert_close(found, expected, 3e-2, 3e-2)
        mixed, _ = half.extend(*args, 0, half.start(B, 60, H, D, V))
        assert_close(ops.cast(mixed, 'float32'), expected, 3e-2, 3e-2)


def test_dropout_rests_outside_training(rng):
    q, k, v = tensors(*drawn(rng))
    layer = made(rng, dropout=0.5, initialisation='random')
    plain = made(rng)
    plain.set_weights([to_numpy(w.value) for w in layer.quantizer.weights])
    where = Mask(causal=True)
    expected = to_numpy(plain(q, k, v, where=where))
    assert_close(layer(q, k, v, where=where), expected)
    found = to_numpy(layer(q, k, v, where=where, training=True))
    assert np.abs(found - expected).max() > 0.01


@pytest.mark.every_backend
def test_work_grows_with_the_length(rng):
    jax = pytest.importorskip('jax')
    if keras.backend.backend() != 'jax':
        pytest.skip('counted on JAX')
    layer, softmax = made(rng, block=16), Softmax()

    def flops(mechanism, n):
        def f(q, k, v):
            return mechanism.call(q, k, v, where=Mask(causal=True))

        return jax.jit(f).lower(*drawn(rng, n)).cost_analysis()['flops']

    assert 1.9 < flops(layer, 4096) / flops(layer, 2048) < 2.1
    assert flops(softmax, 4096) / flops(softmax, 2048) > 3.9


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match='block=0'):
        TransformerVQ(block=0)
    with pytest.raises(ValueError, match='codes=0'):
        TransformerVQ(codes=0)
    with pytest.raises(ValueError, match="'kmeans' is unknown"):
        TransformerVQ(initialisation='kmeans')
