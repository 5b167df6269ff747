"""Two dropouts that have to agree."""

import keras
import numpy as np
import pytest
from keras import ops
from tricks import IDS
from tricks import LABELS
from tricks import array
from tricks import build
from tricks import train
from tricks import weights

from keraseff import training
from keraseff.losses import global_pointer_crossentropy
from keraseff.training.divergence import Divergence
from keraseff.training.objective import Batch


@pytest.mark.every_backend
def test_the_loss_is_that_of_both_passes_and_their_divergence():
    model = build(dropout=0.5)
    keras.utils.set_random_seed(2)
    passes = []
    for _ in range(2):
        batch = Batch(model, IDS, LABELS)
        y = batch.predict()
        passes.append((float(array(batch.loss(y))), array(y)))
    (one, y), (two, z) = passes
    assert np.abs(y - z).max() > 1e-3

    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    y, z = log_softmax(y), log_softmax(z)
    differ = ((np.exp(y) - np.exp(z)) * (y - z)).sum(-1).mean()
    twin = training.r_drop(build(dropout=0.5), alpha=4.0)
    keras.utils.set_random_seed(2)
    # PyTorch draws from one state, the others from the layer's own seeds.
    found, shown = twin.objective(Batch(twin, IDS, LABELS))
    np.testing.assert_allclose(float(array(found)), (one + two) / 2 + differ, rtol=1e-5)
    assert shown.shape == (4, 3)


def test_without_dropout_it_is_plain_training():
    model, plain = training.r_drop(build(), alpha=100.0), build()
    np.testing.assert_allclose(train(model), train(plain), atol=1e-6)
    np.testing.assert_allclose(weights(model), weights(plain), atol=1e-6)


def test_it_makes_dropouts_agree():
    gaps = []
    for alpha in (1e-9, 20.0):
        model = training.r_drop(build(dropout=0.5, rate=0.2), alpha=alpha)
        train(model, 60)
        batch = Batch(model, IDS, LABELS)
        passes = np.array([array(batch.predict()) for _ in range(20)])
        shares = np.exp(passes) / np.exp(passes).sum(-1, keepdims=True)
        gaps.append(shares.std(0).mean())
    assert gaps[1] < 0.7 * gaps[0]


def several_outputs():
    inner = build(dropout=0.5)
    x = inner.get_layer('global_average_pooling1d').output
    classes = keras.layers.Dense(3, activation='softmax', name='classes')(x)
    flags = keras.layers.Dense(2, activation='sigmoid', name='flags')(x)
    return keras.Model(inner.input, [classes, flags])


def test_several_outputs_by_the_losses_they_have():
    keras.backend.clear_session()
    model = several_outputs()
    losses = ['sparse_categorical_crossentropy', 'binary_crossentropy']
    model.compile(keras.optimizers.SGD(0.1), losses)
    training.r_drop(model)
    y = [LABELS, np.array([[0, 1], [1, 1], [0, 0], [1, 0]])]
    assert np.isfinite(model.train_on_batch(IDS, y)[0])
    divergence = model.objective.divergence
    p = [np.array([[0.2, 0.3, 0.5]]), np.array([[0.1, 0.6]])]
    q = [np.array([[0.4, 0.4, 0.2]]), np.array([[0.3, 0.5]])]
    classes = (p[0] * np.log(p[0] / q[0])).sum()
    a, b = p[1], q[1]
    flags = (a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))).mean()
    batch = Batch(model, IDS, y)
    found = divergence(batch, *[[ops.convert_to_tensor(x, 'float32') for x in r]
                                for r in (p, q)])  # fmt: skip
    np.testing.assert_allclose(array(found), classes + flags, rtol=1e-5)
    model.compile('sgd', dict(zip(['classes', 'flags'], losses, strict=True)))
    assert len(Divergence().functions_of(model)) == 2


def test_what_a_loss_says_of_its_outputs():
    scores = ops.convert_to_tensor([[1.0, 2.0, -1e12]])
    others = ops.convert_to_tensor([[0.0, 2.5, -1e12]])
    for loss, logits, kind in [
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), True, 'softmax'),
        ('kl_divergence', False, 'softmax'),
        (keras.losses.BinaryCrossentropy(from_logits=True), True, 'sigmoid'),
        (global_pointer_crossentropy, True, 'sigmoid'),
    ]:
        model = build(loss=loss)
        (function,) = Divergence().functions_of(model)
        (told,) = Divergence(kind, logits).functions_of(model)
        found = array(function(scores, others))
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found, array(told(scores, others)))
    with pytest.raises(ValueError, match='say from_logits=True'):
        training.r_drop(build(loss=lambda y, p: ops.mean(p)))
    with pytest.raises(ValueError, match="'softmax', 'sigmoid'"):
        training.r_drop(build(), kind='cosine')
