import keras
import numpy as np
import pytest
from harness import assert_close
from harness import gradients
from harness import save_and_reopen
from harness import to_numpy
from keras import ops
from reference import crf as slow

from keraseff.layers import ConditionalRandomField
from keraseff.layers import MaximumEntropyMarkovModel

C = 3
TAGGERS = [ConditionalRandomField, MaximumEntropyMarkovModel]


def tagger(cls, trans, **kwargs):
    layer = cls(**kwargs)
    layer.build((None, None, len(trans)))
    layer._trans.assign(np.asarray(trans) / layer.lr_multiplier)
    return layer


def chain(rng, b=4, n=5, scale=1.0):
    emissions = rng.normal(0, scale, (b, n, C)).astype('float32')
    trans = rng.normal(0, scale, (C, C)).astype('float32')
    return emissions, trans, rng.integers(0, C, (b, n))


def crf_loss(emissions, trans, path):
    return slow.log_z(emissions, trans) - slow.path_score(emissions, trans, path)


REFERENCE = {
    ConditionalRandomField: crf_loss,
    MaximumEntropyMarkovModel: slow.memm_loss,
}


def assert_like_reference(cls, emissions, trans, labels, mask):
    layer = tagger(cls, trans, lr_multiplier=10)
    hidden = layer(emissions, mask=mask)
    found = to_numpy(layer.sparse_loss(labels, hidden))
    for loss, e, y, m in zip(found, emissions, labels, mask, strict=True):
        expected = REFERENCE[cls](e[m].astype('float64'), trans, y[m]) if m.any() else 0
        np.testing.assert_allclose(loss, expected, atol=2e-5)
    assert (found > -1e-5).all()
    dense = layer.dense_loss(np.eye(C)[labels], hidden)
    assert_close(dense, found)


@pytest.mark.every_backend
@pytest.mark.parametrize('cls', TAGGERS)
@pytest.mark.parametrize('n', [1, 2, 5])
def test_loss_equals_enumeration_of_all_paths(cls, n, rng):
    emissions, trans, labels = chain(rng, n=n)
    lengths = np.array([n, (n + 1) // 2, 1, max(n - 1, 1)])
    mask = np.arange(n) < lengths[:, None]
    assert_like_reference(cls, emissions, trans, labels, mask)


@pytest.mark.every_backend
@pytest.mark.parametrize('cls', TAGGERS)
def test_masked_steps_count_as_cut_out_wherever_they_stand(cls, rng):
    emissions, trans, labels = chain(rng, b=5)
    mask = np.array([[0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 1]] + [[0] * 5] * 2)
    assert_like_reference(cls, emissions, trans, labels, mask.astype(bool))


@pytest.mark.every_backend
def test_gradients_are_expected_minus_observed_counts(rng):
    emissions, trans, labels = chain(rng, b=1)
    layer = tagger(ConditionalRandomField, trans)
    (by_emission,) = gradients(
        lambda e: ops.sum(layer.sparse_loss(labels, e)), emissions
    )
    single, pair = slow.expectations(emissions[0], trans)
    observed = np.eye(C)[labels[0]]
    np.testing.assert_allclose(by_emission[0], single - observed, atol=1e-5)
    marginals = by_emission[0] + observed
    np.testing.assert_allclose(marginals.sum(-1), 1, atol=1e-5)

    moved = np.zeros((C, C))
    np.add.at(moved, (labels[0, :-1], labels[0, 1:]), 1)
    x = keras.Input((None, C))
    model = keras.Model(x, layer(x))
    model.compile(keras.optimizers.SGD(1.0), layer.sparse_loss)
    model.train_on_batch(emissions, labels)
    step = trans - to_numpy(layer.trans)
    np.testing.assert_allclose(step, pair - moved, atol=1e-5)


def test_highest_emission_is_the_best_path_only_without_transitions(rng):
    emissions, trans, _ = chain(rng, b=20)
    layer = tagger(ConditionalRandomField, trans)
    alone = best = 0
    for e in emissions:
        path = np.array([slow.best_path(e, trans)])
        others = np.array(slow.paths(5, C))
        repeated = np.repeat(e[None], len(others), axis=0)
        losses = to_numpy(layer.sparse_loss(others, repeated))
        best += tuple(others[losses.argmin()]) == tuple(path[0])
        alone += tuple(e.argmax(-1)) == tuple(path[0])
    assert best == 20
    assert alone < 20


@pytest.mark.parametrize('cls', TAGGERS)
def test_without_transitions_it_is_softmax_crossentropy(cls, rng):
    emissions, trans, labels = chain(rng, n=9)
    loss = tagger(cls, trans * 0).sparse_loss(labels, emissions)
    alone = keras.losses.sparse_categorical_crossentropy(labels, emissions, True)
    assert_close(loss, ops.sum(alone, axis=1), atol=1e-5)


@pytest.mark.parametrize('cls', TAGGERS)
def test_constant_shift_of_emissions_leaves_the_loss(cls, rng):
    emissions, trans, labels = chain(rng, n=64)
    layer = tagger(cls, trans)
    shifted = emissions + rng.integers(-3, 4, (4, 64, 1)).astype('float32') * 512
    found = layer.sparse_loss(labels, shifted)
    assert_close(layer.sparse_loss(labels, emissions), found, atol=5e-2)


@pytest.mark.parametrize('cls', TAGGERS)
def test_padding_leaves_loss_and_gradient(cls, rng):
    emissions, trans, labels = chain(rng, n=7)
    layer = tagger(cls, trans)
    longer = np.concatenate([emissions, np.full((4, 6, C), 5, 'float32')], axis=1)
    more = np.concatenate([labels, np.full((4, 6), -1)], axis=1)
    mask = np.broadcast_to(np.arange(13) < 7, (4, 13))
    loss = ops.convert_to_numpy(layer.sparse_loss(labels, emissions))
    found = layer.sparse_loss(more, layer(longer, mask=mask))
    np.testing.assert_allclose(to_numpy(found), loss, atol=1e-5)
    (short,) = gradients(lambda e: ops.sum(layer.sparse_loss(labels, e)), emissions)
    (long,) = gradients(
        lambda e: ops.sum(layer.sparse_loss(more, layer(e, mask=mask))), longer
    )
    np.testing.assert_allclose(long[:, :7], short, atol=1e-5)
    assert not long[:, 7:].any()


@pytest.mark.every_backend
@pytest.mark.parametrize('cls', TAGGERS)
def test_forbidden_transitions_and_huge_emissions_stay_finite(cls, rng):
    emissions, trans, labels = chain(rng, n=6)
    trans[0, 1] = trans[2, 0] = -1e4
    emissions[0] *= 1000
    labels[1] = [0, 1, 0, 1, 2, 0]
    layer = tagger(cls, trans)
    loss = to_numpy(layer.sparse_loss(labels, emissions))
    wide = emissions.astype('float64')
    reference = [REFERENCE[cls](e, trans, y) for e, y in zip(wide, labels, strict=True)]
    np.testing.assert_allclose(loss, reference, rtol=1e-4, atol=1e-3)
    (found,) = gradients(lambda e: ops.sum(layer.sparse_loss(labels, e)), emissions)
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0.1


def test_long_certain_text_has_no_negative_loss(rng):
    labels = rng.integers(0, C, (2, 512))
    layer = tagger(ConditionalRandomField, rng.normal(size=(C, C)))
    emissions = 30 * np.eye(C, dtype='float32')[labels]
    loss = to_numpy(layer.sparse_loss(labels, emissions))
    np.testing.assert_allclose(loss, 0, atol=1e-3)


@pytest.mark.parametrize('cls', TAGGERS)
def test_lr_multiplier_multiplies_the_step_of_adam(cls, rng):
    emissions, trans, labels = chain(rng)
    steps = {}
    for multiplier in (1, 100):
        layer = tagger(cls, trans, lr_multiplier=multiplier)
        x = keras.Input((None, C))
        model = keras.Model(x, layer(x))
        model.compile(keras.optimizers.Adam(1e-4, epsilon=1e-12), layer.sparse_loss)
        model.train_on_batch(emissions, labels)
        steps[multiplier] = to_numpy(layer.trans) - trans
    np.testing.assert_allclose(steps[100], 100 * steps[1], rtol=0.02, atol=1e-5)


def test_initial_transitions_do_not_depend_on_the_multiplier():
    def size(multiplier):
        layer = ConditionalRandomField(multiplier)
        layer.build((None, None, 40))
        return np.abs(to_numpy(layer.trans)).max()

    np.testing.assert_allclose([size(1), size(1000)], np.sqrt(6 / 80), rtol=0.05)


def test_hidden_dim_makes_transitions_of_low_rank():
    layer = MaximumEntropyMarkovModel(5, hidden_dim=2)
    layer.build((None, None, 9))
    assert [tuple(w.shape) for w in layer.weights] == [(9, 2), (9, 2)]
    assert np.linalg.matrix_rank(to_numpy(layer.trans)) == 2


def test_accuracy_sees_only_real_steps(rng):
    emissions = np.eye(C, dtype='float32')[[[0, 1, 2, 1], [2, 0, 0, 0]]]
    labels = np.array([[0, 1, 1, 1], [2, 2, 1, 1]])
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
    layer = tagger(ConditionalRandomField, np.zeros((C, C)))
    hidden = layer(emissions, mask=mask)
    assert float(layer.sparse_accuracy(labels, hidden)) == pytest.approx(3 / 5)
    dense = layer.dense_accuracy(np.eye(C)[labels], hidden)
    assert float(dense) == pytest.approx(3 / 5)


@pytest.mark.every_backend
@pytest.mark.parametrize('cls', TAGGERS)
def test_fit_learns_saves_reopens_and_goes_on(cls, rng):
    x, labels = rng.normal(size=(64, 8, 6)), np.zeros((64, 8), int)
    x[:32, 5:] = 0
    labels[:, 1:] = x[:, :-1, :C].argmax(-1)
    labels[:, 0] = 1
    inputs = keras.Input((None, 6))
    layer = cls(lr_multiplier=10)
    outputs = keras.layers.Dense(C)(keras.layers.Masking()(inputs))
    model = keras.Model(inputs, layer(outputs))
    model.compile('adam', layer.sparse_loss, metrics=[layer.sparse_accuracy])
    history = model.fit(x, labels, epochs=3, batch_size=16, verbose=0).history
    assert history['loss'][-1] < history['loss'][0]
    assert 0 < history['sparse_accuracy'][-1] < 1
    again = save_and_reopen(model)
    assert_close(again.predict(x, verbose=0), model.predict(x, verbose=0))
    after = [m.evaluate(x, labels, verbose=0) for m in (model, again)]
    np.testing.assert_allclose(*after, rtol=1e-5)
    again.fit(x, labels, verbose=0)
    assert again.evaluate(x, labels, verbose=0)[0] < after[1][0]
    assert again.loss.layer is again.layers[-1]


@pytest.mark.every_backend
def test_compilation_is_left_out_only_where_it_cannot_differentiate_the_loop(rng):
    emissions, trans, labels = chain(rng)
    layer = tagger(ConditionalRandomField, trans)
    x = keras.Input((None, C))
    model = keras.Model(x, layer(x))
    possible = all(part.supports_jit for part in model.layers)
    assert possible is (keras.config.backend() != 'tensorflow')
    compiled = possible and keras.config.backend() != 'torch'
    model.compile('sgd', layer.sparse_loss, jit_compile=compiled)
    expected = to_numpy(layer.sparse_loss(labels, emissions)).mean()
    np.testing.assert_allclose(model.train_on_batch(emissions, labels), expected, 1e-5)


def test_a_loss_without_its_layer_says_what_to_do():
    loss = ConditionalRandomField(name='nowhere').sparse_loss
    with pytest.raises(ValueError, match='compile=False'):
        type(loss).from_config(loss.get_config())


@pytest.mark.parametrize('cls', TAGGERS)
def test_mixed_float16_keeps_the_emissions_in_float32(cls, rng):
    keras.config.set_dtype_policy('mixed_float16')
    x = rng.normal(size=(8, 6, 4)).astype('float32')
    inputs = keras.Input((None, 4))
    layer = cls()
    model = keras.Model(inputs, layer(keras.layers.Dense(C)(inputs)))
    model.compile('adam', layer.sparse_loss)
    loss = model.fit(x, rng.integers(0, C, (8, 6)), verbose=0).history['loss']
    assert np.isfinite(loss).all()
    assert model.predict(x, verbose=0).dtype == 'float32'


def test_labels_carry_no_gradient_into_padding_and_weights_scale_rows(rng):
    emissions, trans, labels = chain(rng)
    layer = tagger(ConditionalRandomField, trans)
    x = keras.Input((None, C))
    model = keras.Model(x, layer(x))
    model.compile('sgd', layer.sparse_loss)
    rows = to_numpy(layer.sparse_loss(labels, emissions))
    weight = np.array([1.0, 0.0, 2.0, 0.5])
    found = model.test_on_batch(emissions, labels, sample_weight=weight)
    np.testing.assert_allclose(found, (rows * weight).sum() / 4, rtol=1e-5)
