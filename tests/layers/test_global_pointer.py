import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import spans as slow

from keraseff.layers import EfficientGlobalPointer
from keraseff.layers import GlobalPointer
from keraseff.losses import global_pointer_crossentropy

HEADS, D, E = 2, 4, 5
POINTERS = [GlobalPointer, EfficientGlobalPointer]


def built(cls, rng, **kwargs):
    layer = cls(HEADS, D, **kwargs)
    layer.build((None, None, E))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def texts(rng, b=2, n=4):
    return rng.normal(size=(b, n, E)).astype('float32')


def reference(layer, x):
    weights = [to_numpy(w).astype('float64') for w in layer.weights]
    if isinstance(layer, EfficientGlobalPointer):
        arguments = weights[:2], weights[2:]
        score = slow.efficient_global_pointer
    else:
        arguments, score = weights, slow.global_pointer
    return np.stack([score(t, *arguments, HEADS, D, layer.RoPE) for t in x])


@pytest.mark.every_backend
@pytest.mark.parametrize('cls', POINTERS)
@pytest.mark.parametrize('rope', [True, False])
def test_scores_and_gradients_equal_explicit_loops(cls, rope, rng):
    layer, x = built(cls, rng, RoPE=rope, tril_mask=False), texts(rng)
    np.testing.assert_allclose(to_numpy(layer(x)), reference(layer, x), atol=1e-4)
    weight = rng.normal(size=(2, HEADS, 4, 4)).astype('float32')
    (found,) = gradients(lambda t: ops.sum(layer(t) * ops.convert_to_tensor(weight)), x)
    step = 1e-5
    for place in np.ndindex(x.shape):
        higher, lower = x.astype('float64'), x.astype('float64')
        higher[place] += step
        lower[place] -= step
        difference = reference(layer, higher) - reference(layer, lower)
        expected = (difference * weight).sum() / (2 * step)
        np.testing.assert_allclose(found[place], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.every_backend
@pytest.mark.parametrize('cls', POINTERS)
def test_layer_contract(cls, rng):
    check_layer(lambda **kwargs: cls(3, 4, **kwargs), texts(rng, n=6))


@pytest.mark.parametrize('cls', POINTERS)
def test_with_rope_only_the_distance_of_the_ends_matters(cls, rng):
    layer, x = built(cls, rng), texts(rng, n=5)
    shifted = np.concatenate([texts(rng, n=7), x], axis=1)
    near, far = to_numpy(layer(x)), to_numpy(layer(shifted))
    np.testing.assert_allclose(far[:, :, 7:, 7:], near, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('cls', POINTERS)
@pytest.mark.parametrize('rope', [True, False])
def test_only_without_rope_the_order_is_unseen(cls, rope, rng):
    layer, x = built(cls, rng, RoPE=rope, tril_mask=False), texts(rng, n=6)
    order = rng.permutation(6)
    before, after = to_numpy(layer(x)), to_numpy(layer(x[:, order]))
    same = np.allclose(after, before[:, :, order][..., order], atol=1e-4)
    assert same is not rope


@pytest.mark.parametrize('cls', POINTERS)
@pytest.mark.parametrize('tril', [True, False])
def test_padding_and_lower_triangle_are_never_predicted(cls, tril, rng):
    layer, x = built(cls, rng, tril_mask=tril), texts(rng, n=6)
    lengths = np.array([4, 6])
    mask = np.arange(6) < lengths[:, None]
    scores = to_numpy(layer(x, mask=mask))
    seen = mask[:, :, None] & mask[:, None, :]
    if tril:
        seen &= np.triu(np.ones((6, 6), bool))
    seen = np.broadcast_to(seen[:, None], scores.shape)
    assert (scores[~seen] < -1e20).all()
    whole = to_numpy(layer(x))
    np.testing.assert_allclose(scores[seen], whole[seen], atol=1e-5)
    (x_gradient,) = gradients(
        lambda t: ops.sum(ops.where(seen, 0.0, layer(t, mask=mask))), x
    )
    assert not x_gradient.any()


@pytest.mark.parametrize('cls', POINTERS)
def test_loss_has_no_gradient_on_hidden_cells(cls, rng):
    layer, x = built(cls, rng), texts(rng, n=5)
    scores = to_numpy(layer(x, mask=np.arange(5)[None] < np.array([[5], [3]])))
    labels = np.zeros_like(scores)
    labels[:, :, 0, 1] = 1
    (found,) = gradients(
        lambda s: ops.sum(global_pointer_crossentropy(labels, s)), scores
    )
    hidden = scores < -1e20
    assert not found[hidden].any()
    assert (found[~hidden] != 0).all()


def test_parameter_counts():
    pointer, efficient = GlobalPointer(10, 64), EfficientGlobalPointer(10, 64)
    eleven = EfficientGlobalPointer(11, 64, use_bias=False)
    ten = EfficientGlobalPointer(10, 64, use_bias=False)
    for layer in (pointer, efficient, ten, eleven):
        layer.build((None, None, 768))
    assert pointer.count_params() == 10 * 128 * (768 + 1)
    assert efficient.count_params() == 128 * (768 + 1) + 20 * (128 + 1)
    assert eleven.count_params() - ten.count_params() == 4 * 64


@pytest.mark.every_backend
@pytest.mark.parametrize('cls', POINTERS)
def test_half_precision_model_returns_float32(cls, rng):
    keras.config.set_dtype_policy('mixed_float16')
    inputs = keras.Input((None, E))
    model = keras.Model(inputs, cls(HEADS, D)(inputs))
    assert model.output.dtype == 'float32'
    scores = model.predict(texts(rng), verbose=0)
    assert scores.dtype == 'float32'
    assert np.isfinite(scores).all()


def test_odd_head_size_needs_no_rope():
    with pytest.raises(ValueError, match='head_size=5'):
        GlobalPointer(2, 5)
    assert GlobalPointer(2, 5, RoPE=False).head_size == 5


@pytest.mark.parametrize('cls', POINTERS)
def test_a_planted_nested_set_of_spans_is_learnt(cls, rng):
    x = texts(rng, b=1, n=7)
    labels = np.zeros((1, HEADS, 7, 7), 'float32')
    for place in [(0, 1, 4), (0, 2, 3), (1, 2, 3), (1, 5, 5)]:
        labels[(0, *place)] = 1
    inputs = keras.Input((None, E))
    model = keras.Model(inputs, cls(HEADS, 16)(inputs))
    model.compile(keras.optimizers.Adam(0.1), global_pointer_crossentropy)
    for _ in range(40):
        model.train_on_batch(x, labels)
    assert slow.spans(model.predict(x, verbose=0)) == slow.spans(labels, 0.5)


def test_one_initializer_object_gives_types_different_weights():
    layer = EfficientGlobalPointer(
        D, D, kernel_initializer=keras.initializers.GlorotUniform(), use_bias=False
    )
    layer.build((None, None, 2 * D))
    first, second = (to_numpy(w) for w in layer.weights)
    assert first.shape == second.shape
    assert np.abs(first - second).max() > 1e-3
    assert_close(layer.get_config()['heads'], D)


@pytest.mark.parametrize('layer', [GlobalPointer, EfficientGlobalPointer])
def test_an_untrained_span_scores_low(layer):
    """Nothing is predicted at the start, near or far, and the loss says so."""
    from keraseff.losses import sparse_global_pointer_crossentropy

    made = layer(3, 64)
    scores = to_numpy(made(np.zeros((1, 50, 8), 'float32')))[0]
    upper = scores[:, *np.triu_indices(50)]
    assert upper.max() < -5
    np.testing.assert_allclose(scores[:, np.arange(50), np.arange(50)], -7, rtol=1e-5)
    ends = np.zeros((1, 3, 1, 2), 'int32')
    empty = to_numpy(sparse_global_pointer_crossentropy(ends, scores[None]))
    assert empty < 2 < np.log(1 + 50 * 51 / 2)
