"""Linear attention against matrices of weights, step by step, and its symmetries."""

import keras
import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import linear_attention as slow

from keraseff.layers import Rotary
from keraseff.layers.attention.linear import FEATURE_MAPS
from keraseff.layers.attention.linear import LinearAttention
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.mechanism import Rotation

MAPS = sorted(FEATURE_MAPS)
PADDING = np.arange(21)[None] < np.array([[21], [17]])


def texts(rng, n=21, d=4, b=2):
    return [rng.normal(size=(b, n, 2, d)).astype('float32') for _ in range(3)]


def rotation(q, start=0):
    ids = ops.arange(ops.shape(q)[1], dtype='float32')[None] + start
    position = Rotary(head_size=q.shape[-1])
    return Rotation(position, position(q, position_ids=ids))


# Map, causal, rotated: what differs in more than the map first.
CASES = [
    ('elu', True, True),
    ('elu', False, True),
    ('exp', True, False),
    ('exp', False, False),
    ('taylor', True, False),
]
MORE = [(name, causal, False) for name in MAPS for causal in (False, True)]
MORE += [('exp', True, True), ('exp', False, True)]


def fast(cases, q, k, v):
    """All cases, below each other."""
    mixed, padding = [], ops.convert_to_tensor(PADDING)
    for name, causal, rotated in cases:
        layer = LinearAttention(name, chunk=8, epsilon=0)
        turn = {'rotation': rotation(q)} if rotated else {}
        mixed.append(layer.call(q, k, v, Mask(padding, causal), **turn))
    return ops.concatenate(mixed, axis=0)


def slowly(cases, q, k, v):
    return np.concatenate(
        [slow.attend(name, q, k, v, PADDING, *rest) for name, *rest in cases]
    )


@pytest.mark.parametrize(
    'cases', [pytest.param(CASES, marks=pytest.mark.every_backend), MORE]
)
def test_every_map_equals_its_matrix_of_weights(cases, rng):
    q, k, v = texts(rng)
    found = compiled(lambda *a: fast(cases, *a), q, k, v)
    wide = [a.astype('float64') for a in (q, k, v)]
    assert_close(found, slowly(cases, *wide), atol=2e-4, rtol=2e-4)
    pull = rng.normal(size=found.shape)
    directions = [rng.normal(size=a.shape) for a in wide]
    weighted = ops.convert_to_tensor(pull.astype('float32'))
    grads = gradients(lambda *a: ops.sum(fast(cases, *a) * weighted), q, k, v)
    seen = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
    steep = slow.slope(lambda *a: slowly(cases, *a) * pull, wide, directions)
    np.testing.assert_allclose(seen, steep, rtol=1e-2)
    for g in grads[1:]:
        assert not g[1, 17:].any(), 'a masked key has no influence'


@pytest.mark.every_backend
def test_steps_equal_the_rows(rng):
    q, k, v = texts(rng, n=3)
    cases = [('elu', False), ('exp', True), ('taylor', False), ('cosine', False)]

    def both(q, k, v):
        pairs = []
        for name, rotated in cases:
            layer = LinearAttention(name, chunk=2)
            turn = {'rotation': rotation(q)} if rotated else {}
            rows = layer.call(q, k, v, Mask(causal=True), **turn)
            state, mixed = layer.start(2, 3, 2, 4, 4), []
            for t in range(3):
                one = [a[:, t : t + 1] for a in (q, k, v)]
                turn = {'rotation': rotation(one[0], t)} if rotated else {}
                row, after = layer.step(*one, t, state, **turn)
                same = keras.tree.map_structure(
                    lambda a, b: tuple(a.shape) == tuple(b.shape), state, after
                )
                assert all(same.values()), 'the memory does not grow'
                state = after
                mixed.append(row)
            pairs.append((rows, ops.concatenate(mixed, axis=1)))
        return pairs

    for rows, mixed in compiled(both, q, k, v):
        assert_close(rows, mixed)


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('name', MAPS)
def test_weights_are_shares(name, causal, rng):
    q, k, _ = texts(rng, b=1)
    v = np.tile(np.eye(21, dtype='float32')[None, :, None], (1, 1, 2, 1))
    weights = to_numpy(LinearAttention(name, 8)(q, k, v, where=Mask(causal=causal)))
    assert weights.min() >= -1e-6
    assert weights.max() > 0.05
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-4)
    if causal:
        later = np.triu(np.ones((21, 21), bool), 1)
        assert not weights[0].transpose(1, 0, 2)[:, later].any()


@pytest.mark.parametrize('name', MAPS)
def test_the_order_of_keys_is_unseen(name, rng):
    q, k, v = texts(rng)
    order = rng.permutation(21)
    layer = LinearAttention(name)
    mixed = layer(q, k, v, where=Mask())
    assert_close(layer(q, k[:, order], v[:, order], where=Mask()), mixed, atol=1e-4)
    turned = layer(q[:, order], k, v, where=Mask())
    assert_close(turned, to_numpy(mixed)[:, order], atol=1e-4)


@pytest.mark.parametrize('name', MAPS)
def test_the_jacobian_is_lower_triangular(name, rng):
    q, k, v = texts(rng)
    layer = LinearAttention(name, chunk=8)
    for i in (0, 7, 8, 13):
        grads = gradients(
            lambda *a, i=i: ops.sum(layer(*a, where=Mask(causal=True))[:, i] ** 2),
            *(q, k, v),
        )
        assert not any(g[:, i + 1 :].any() for g in grads)
        assert all(g[:, i].any() for g in (grads[0], grads[2]))
        assert grads[2][:, : i + 1].all()


@pytest.mark.every_backend
def test_e_to_the_x_of_large_x(rng):
    """Beyond float32's e^88, and a later key that dwarfs all before it."""
    q, k, v = texts(rng, n=12)
    k[:, 4:] += 200
    k[:, 9:] += 500
    q *= 3
    q += 100
    layer = LinearAttention('exp', chunk=5)
    alone = LinearAttention('exp', chunk=9)

    def both(q, k, v):
        part = [a[:, :9] for a in (q, k, v)]
        return (
            layer.call(q, k, v, Mask(causal=True)),
            alone.call(*part, Mask(causal=True)),
        )

    whole, part = compiled(both, q, k, v)
    assert_close(whole[:, :9], part)
    weights = (q.astype('float64') - 100)[:, 8, :, None] + (
        k.astype('float64')[:, :9].transpose(0, 2, 1, 3) - 200
    )  # (b, h, n, d)
    weights = np.exp(weights).sum(-1)
    weights /= weights.sum(-1, keepdims=True)
    assert_close(part[:, 8], np.einsum('bhn,bnhd->bhd', weights, v[:, :9]), atol=1e-4)


@pytest.mark.parametrize('name', ['elu', 'exp'])
def test_with_rotations_only_distance_matters(name, rng):
    q, k, v = texts(rng)
    layer = LinearAttention(name, 8)
    assert layer.turns_itself
    where = Mask(causal=True)
    near, far = (
        layer(q, k, v, where=where, rotation=rotation(q, start)) for start in (0, 60)
    )
    assert_close(near, far, atol=1e-4)
    plain = to_numpy(layer(q, k, v, where=where))
    assert np.abs(plain - to_numpy(near)).max() > 1e-2


def test_taylor_shares_the_scale(rng):
    """q / √d and k, or both by the fourth root: the product is the same."""
    q, k, v = texts(rng)
    layer = LinearAttention('taylor')
    assert layer.scaled
    assert not LinearAttention('elu').scaled
    found = layer(q / 2, k, v, where=Mask())
    assert_close(found, slow.attend('taylor', q / 2, k, v), atol=1e-4, rtol=1e-4)


@keras.saving.register_keras_serializable(package='tests')
def squares(x):
    return ops.square(x)


def test_a_map_of_ones_own(rng):
    q, k, v = texts(rng)
    layer = LinearAttention(squares, chunk=8, epsilon=0)
    assert not layer.turns_itself
    again = LinearAttention.from_config(layer.get_config())
    assert again.feature_map is squares
    assert again.chunk == 8
    weights = slow.dot(q**2, k**2) * np.tri(21)
    weights /= weights.sum(-1, keepdims=True)
    found = again(q, k, v, where=Mask(causal=True))
    assert_close(found, np.einsum('bhmn,bnhd->bmhd', weights, v), atol=1e-4)


def test_what_cannot_be_is_refused(rng):
    with pytest.raises(ValueError, match="'elo' is unknown; there are: cosine, elu"):
        LinearAttention('elo')
    q, k, v = texts(rng)
    with pytest.raises(ValueError, match='9 queries and 21 keys'):
        LinearAttention()(q[:, :9], k, v, where=Mask(causal=True))
