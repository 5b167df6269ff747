"""The codebook: nearest codes, moving averages, the commitment loss, k-means."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import gradients
from harness import save_and_reopen
from harness import to_numpy
from keras import ops
from reference.vq import moving_codebook
from reference.vq import nearest

from keraseff.layers import MultiHeadAttention
from keraseff.layers.attention.quantizer import VectorQuantizer
from keraseff.layers.attention.quantizer import fit_codebook
from keraseff.layers.attention.quantizer import k_means
from keraseff.layers.attention.vq import TransformerVQ

SHAPE = (2, 9, 2, 3)


def made(rng, codes=4, **options):
    layer = VectorQuantizer(codes, **options)
    layer.build(SHAPE)
    layer.sums.assign(rng.normal(size=(2, codes, 3)))
    layer.counts.assign(rng.uniform(0.5, 2, (2, codes)))
    return layer


@pytest.fixture
def k(rng):
    return rng.normal(size=SHAPE).astype('float32')


REAL = np.arange(9)[None] < np.array([[9], [5]])


def test_each_key_becomes_the_nearest_code(k, rng):
    layer = made(rng)
    k_hat, z, codes = (to_numpy(x) for x in layer(ops.convert_to_tensor(k)))
    expected = to_numpy(layer.sums.value) / to_numpy(layer.counts.value)[..., None]
    assert_close(codes, expected)
    assert_close(z, nearest(k, codes))
    assert_close(k_hat, codes[np.arange(2), z], atol=0)


@pytest.mark.every_backend
def test_a_training_step_moves_the_codebook(k, rng):
    layer = made(rng, gamma=0.9, initialisation='random')
    before = [to_numpy(x.value) for x in (layer.sums, layer.counts)]
    layer(ops.convert_to_tensor(k), real=ops.convert_to_tensor(REAL))
    assert_close([layer.sums.value, layer.counts.value], before, atol=0)
    layer(ops.convert_to_tensor(k), real=ops.convert_to_tensor(REAL), training=True)
    expected = moving_codebook(k, REAL, *before, 0.9)
    assert_close([layer.sums.value, layer.counts.value], list(expected))
    assert float(layer.steps.value) == 1


@pytest.mark.every_backend
def test_the_commitment_loss_moves_keys_and_no_codes(k, rng):
    layer = made(rng, beta=0.5, initialisation='random')
    codes = to_numpy(layer.codebook())
    gap = (k - codes[np.arange(2), nearest(k, codes)]) * REAL[..., None, None]
    keys = REAL.sum() * 2
    layer(ops.convert_to_tensor(k), real=ops.convert_to_tensor(REAL), training=True)
    (loss,) = layer.losses
    assert_close(loss, 0.5 * np.square(gap).sum() / keys)
    codes = ops.convert_to_tensor(codes)

    def commitment(k, codes):
        k_hat = ops.take(codes[0], ops.zeros((2, 9, 2), 'int32'), axis=0)
        k_hat = ops.stop_gradient(k_hat)
        return layer._commitment(k, k_hat, ops.convert_to_tensor(REAL))

    found, none = gradients(commitment, k, to_numpy(codes))
    gap = (k - to_numpy(codes)[0, 0]) * REAL[..., None, None]
    assert_close(found, 2 * gap / keys)
    assert not none.any()
    assert not layer.trainable_weights


@pytest.mark.every_backend
def test_the_gradient_goes_straight_through(k, rng):
    layer = made(rng)
    w = rng.normal(size=SHAPE).astype('float32')
    (found,) = gradients(lambda t: ops.sum(ops.multiply(layer(t)[0], w)), k)
    assert_close(found, w, atol=0)


def test_the_first_codes_are_real_keys(k, rng):
    layer = made(rng, codes=6)
    call = {'real': ops.convert_to_tensor(REAL), 'training': True}
    codes = to_numpy(layer(ops.convert_to_tensor(k), **call)[2])
    keys = k[REAL]  # (14, h, d)
    for h in range(2):
        gaps = np.abs(codes[h][:, None] - keys[None, :, h]).max(-1)
        assert (gaps.min(1) < 1e-5).all(), 'each code is a key'
        assert len(set(gaps.argmin(1))) == 6, 'and none is there twice'
    again = to_numpy(layer(ops.convert_to_tensor(k + 5), **call)[2])
    assert np.abs(again - codes).max() < 1, 'only the first step begins anew'


def test_dead_codes_begin_anew_where_asked(k, rng):
    for restart in (0.0, 0.1):
        layer = made(rng, restart=restart)
        layer.steps.assign(1.0)
        layer.counts.assign(np.array([[1, 0.05, 1, 1]] * 2))
        before = to_numpy(layer.codebook())
        codes = to_numpy(layer(ops.convert_to_tensor(k), training=True)[2])
        moved = np.abs(codes - before).max(-1) > 1e-4
        dead = np.array([[False, bool(restart), False, False]] * 2)
        np.testing.assert_array_equal(moved, dead)
        if restart:
            gaps = np.abs(k.reshape(18, 2, 3) - codes[:, 1]).max(-1).min(0)
            assert (gaps < 1e-5).all(), 'a dead code lies on a key'


@pytest.mark.every_backend
def test_training_learns_the_codebook_and_files_keep_it(rng):
    x = rng.normal(size=(4, 7, 6)).astype('float32')
    inputs = keras.Input((None, 6))
    mechanism = TransformerVQ(5, 3, gamma=0.8, beta=0.1)
    out = MultiHeadAttention(2, 4, mechanism=mechanism, causal=True)(inputs)
    model = keras.Model(inputs, out)
    layer = model.layers[-1]
    model.compile(keras.optimizers.SGD(0.0), 'mse')
    model.fit(x, np.zeros((4, 7, 8)), epochs=1, batch_size=4, verbose=0)
    quantizer = mechanism.quantizer
    keys = to_numpy(layer.k_dense(x)).reshape(4, 7, 2, 4)
    assert float(quantizer.steps.value) == 1
    counts = to_numpy(quantizer.counts.value)
    assert_close(counts.sum(-1), 0.8 * 5 + 0.2 * np.full(2, 28))
    # The second step is one of moving averages alone, and its loss has all its parts.
    before = [to_numpy(w.value) for w in (quantizer.sums, quantizer.counts)]
    codes = to_numpy(quantizer.codebook())
    gap = keys - codes[np.arange(2), nearest(keys, codes)]
    expected = 0.1 * np.square(gap).sum(-1).mean()
    expected += np.square(to_numpy(model(x))).mean()
    history = model.fit(x, np.zeros((4, 7, 8)), batch_size=4, verbose=0).history
    assert_close(history['loss'], [expected], rtol=1e-4)
    real = np.ones((4, 7), bool)
    after = moving_codebook(keys, real, *before, 0.8)
    assert_close([quantizer.sums.value, quantizer.counts.value], list(after))
    found = save_and_reopen(model)
    again = found.layers[-1].mechanism.quantizer
    assert_close(again.codebook(), quantizer.codebook(), atol=0)
    assert_close(again.steps.value, 2.0)


def test_a_trained_softmax_model_gets_its_codes(rng):
    x = rng.normal(size=(2, 6, 8)).astype('float32')
    mask = np.arange(6)[None] < np.array([[6], [4]])

    def model(mechanism, **options):
        inputs, real = keras.Input((None, 8)), keras.Input((None,), dtype='bool')
        y = inputs
        for i in range(2):
            layer = MultiHeadAttention(
                2, 4, mechanism=mechanism, mechanism_options=options, name=f'layer{i}'
            )
            y = y + layer(y, mask=real)
        return keras.Model([inputs, real], y)

    softmax = model('softmax')
    given = [ops.convert_to_tensor(a) for a in (x, mask)]
    expected = softmax(given)
    vq = model('vq', codes=10, block=2)
    for i in range(2):
        pairs = zip(
            vq.get_layer(f'layer{i}').trainable_weights,
            softmax.get_layer(f'layer{i}').trainable_weights,
            strict=True,
        )
        for new, old in pairs:
            new.assign(old)
    off = np.abs(to_numpy(vq(given)) - to_numpy(expected))[mask].max()
    assert off > 1e-2, 'codes of no key'
    fit_codebook(vq, given, steps=3)
    # Ten codes for ten keys, in the second layer too: nothing is lost.
    assert_close(to_numpy(vq(given))[mask], to_numpy(expected)[mask], atol=1e-4)
    before = to_numpy(vq.get_layer('layer0').mechanism.quantizer.codebook())
    vq(given, training=True)
    after = to_numpy(vq.get_layer('layer0').mechanism.quantizer.codebook())
    assert_close(after, before, atol=1e-4)
    with pytest.raises(ValueError, match='no VectorQuantizer'):
        fit_codebook(softmax, given)


def test_k_means_rests_where_each_centre_is_the_mean_of_its_points(rng):
    x = rng.normal(size=(200, 3)).astype('float32')
    found, counts = k_means(x, 7, steps=60)
    z = np.square(x[:, None] - found).sum(-1).argmin(1)
    assert counts.tolist() == np.bincount(z, minlength=7).tolist()
    assert_close(found, np.stack([x[z == i].mean(0) for i in range(7)]))
    # Whichever copies it starts from, an empty group goes to the furthest point.
    copies = np.concatenate([np.zeros((30, 2)), [[5, 5]]]).astype('float32')
    found, counts = k_means(copies, 2)
    assert sorted(counts) == [1, 30]
    assert_close(np.sort(found[:, 0]), np.array([0, 5]))
    few, counts = k_means(x[:4].astype('float32'), 6)
    assert counts.sum() == 4
    assert_close(np.unique(few, axis=0), np.unique(x[:4], axis=0), atol=1e-4)
    with pytest.raises(ValueError, match='no points'):
        k_means(x[:0], 2)


def test_an_unknown_length_and_batch_fit_too(rng):
    inputs = keras.Input((None, 6))
    layer = MultiHeadAttention(2, 4, mechanism=TransformerVQ(5, 3), causal=True)
    model = keras.Model(inputs, layer(inputs))
    for n in (1, 5, 8):
        x = rng.normal(size=(2, n, 6)).astype('float32')
        assert_close(model.predict(x, verbose=0), layer(x))
