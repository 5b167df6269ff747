"""BERT's options, one by one, and the names that user scripts rely on."""

import keras
import numpy as np
import pytest
from harness import IDS
from harness import SMALL
from harness import assert_close
from harness import randomise
from harness import save_and_reopen
from harness import to_numpy

from keraseff.layers import LayerNormalization
from keraseff.models import BERT
from keraseff.models import build_transformer_model

SEGMENTS = np.array([[0, 0, 1, 1], [0, 0, 0, 0]])


def build(**options):
    return build_transformer_model(SMALL, **options)


def test_layer_names_are_those_of_bert4keras():
    names = {
        layer.name
        for layer in build(with_mlm=True, with_nsp=True, dropout_rate=0.1).layers
    }
    for block in range(2):
        for part in ('MultiHeadSelfAttention', 'FeedForward'):
            for end in ('', '-Dropout', '-Add', '-Norm'):
                assert f'Transformer-{block}-{part}{end}' in names
    assert names >= {
        'Input-Token', 'Input-Segment', 'Embedding-Token', 'Embedding-Segment',
        'Embedding-Token-Segment', 'Embedding-Position', 'Embedding-Norm',
        'Embedding-Dropout', 'Pooler', 'Pooler-Dense', 'NSP-Proba', 'MLM-Dense',
        'MLM-Norm', 'MLM-Bias', 'MLM-Activation',
    }  # fmt: skip


def test_heads_choose_the_outputs():
    shapes = {
        (): (2, 4, 12),
        ('with_pool',): (2, 12),
        ('with_nsp',): (2, 2),
        ('with_mlm',): (2, 4, 20),
    }
    for heads, shape in shapes.items():
        model = build(**dict.fromkeys(heads, True))
        assert model.predict([IDS, SEGMENTS], verbose=0).shape == shape
    nsp, mlm = build(with_nsp=True, with_mlm=True).predict([IDS, SEGMENTS], verbose=0)
    assert_close(nsp.sum(-1), np.ones(2))
    assert_close(mlm.sum(-1), np.ones((2, 4)))
    linear = build(with_pool='linear').predict([IDS, SEGMENTS], verbose=0)
    assert linear.shape == (2, 12)


def test_without_segments_there_is_one_input():
    model = build(segment_vocab_size=0)
    assert len(model.inputs) == 1
    assert model.predict(IDS, verbose=0).shape == (2, 4, 12)


def test_a_fixed_length():
    assert build(sequence_length=6).input_shape == [(None, 6), (None, 6)]


@pytest.mark.every_backend
def test_custom_position_ids():
    plain, custom = build(), build(custom_position_ids=True)
    randomise(plain)
    custom.set_weights(plain.get_weights())
    usual = np.arange(4)[None].repeat(2, 0)
    expected = plain.predict([IDS, SEGMENTS], verbose=0)
    assert_close(custom.predict([IDS, SEGMENTS, usual], verbose=0), expected)
    shifted = custom.predict([IDS, SEGMENTS, usual + 1], verbose=0)
    assert np.abs(shifted - expected).max() > 1e-3
    rotary = build(model='roformer', custom_position_ids=True)
    near = rotary.predict([IDS, SEGMENTS, usual], verbose=0)
    assert_close(rotary.predict([IDS, SEGMENTS, usual + 7], verbose=0), near, atol=1e-4)
    far = rotary.predict([IDS, SEGMENTS, usual * 9], verbose=0)
    assert np.abs(far - near).max() > 1e-5


def test_shared_segment_embeddings():
    model = build(shared_segment_embeddings=True)
    names = [layer.name for layer in model.layers]
    assert 'Embedding-Segment' not in names
    table = to_numpy(model.get_layer('Embedding-Token').embeddings.value)
    summed = keras.Model(
        model.inputs, model.get_layer('Embedding-Token-Segment').output
    )
    assert_close(
        summed.predict([IDS, SEGMENTS], verbose=0), table[IDS] + table[SEGMENTS]
    )


@pytest.mark.every_backend
def test_hierarchical_positions_reach_further_and_change_nothing_before():
    plain, long = build(), build(hierarchical_position=True)
    randomise(plain)
    long.set_weights(plain.get_weights())
    inputs = [IDS, SEGMENTS]
    assert_close(
        long.predict(inputs, verbose=0), plain.predict(inputs, verbose=0), atol=1e-5
    )
    longer = [np.tile(a, 10) for a in inputs]
    assert np.isfinite(long.predict(longer, verbose=0)).all()


@pytest.mark.every_backend
def test_residual_attention_scores():
    plain, residual = build(), build(residual_attention_scores=True)
    randomise(plain)
    residual.set_weights(plain.get_weights())
    a = plain.predict([IDS, SEGMENTS], verbose=0)
    b = residual.predict([IDS, SEGMENTS], verbose=0)
    assert np.abs(a - b).max() > 1e-3
    first = [
        keras.Model(m.inputs, m.get_layer('Transformer-0-FeedForward-Norm').output)
        for m in (plain, residual)
    ]
    x, y = (m.predict([IDS, SEGMENTS], verbose=0) for m in first)
    assert_close(x, y)
    assert_close(save_and_reopen(residual).predict([IDS, SEGMENTS], verbose=0), b)
    for application in ('lm', 'unilm'):
        model = build(residual_attention_scores=True, application=application)
        assert model.predict([IDS, SEGMENTS], verbose=0).shape == (2, 4, 20)


@pytest.mark.every_backend
def test_conditional_layer_normalization():
    given = keras.Input((5,), name='condition')
    model = build(
        layer_norm_cond=given,
        additional_input_layers=given,
        layer_norm_cond_hidden_size=7,
        layer_norm_cond_hidden_act='relu',
    )
    draw = np.random.default_rng(0)
    one, two = draw.normal(size=(2, 2, 5)).astype('float32')
    inputs = [IDS, SEGMENTS]
    assert_close(
        model.predict([*inputs, one], verbose=0),
        model.predict([*inputs, two], verbose=0),
    )
    randomise(model)
    moved = model.predict([*inputs, one], verbose=0)
    assert np.abs(moved - model.predict([*inputs, two], verbose=0)).max() > 1e-3
    assert_close(save_and_reopen(model).predict([*inputs, one], verbose=0), moved)


def test_conditional_norms_take_a_checkpoint(tmp_path):
    plain = build(return_keras_model=False)
    randomise(plain.model)
    plain.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    given = keras.Input((5,))
    model = build_transformer_model(
        SMALL,
        tmp_path / 'm.ckpt',
        layer_norm_cond=given,
        additional_input_layers=[given],
    )
    expected = plain.model.predict([IDS, SEGMENTS], verbose=0)
    found = model.predict([IDS, SEGMENTS, np.ones((2, 5))], verbose=0)
    assert_close(found, expected, atol=1e-5)


@pytest.mark.every_backend
def test_dropout_acts_in_training_only():
    model = build(dropout_rate=0.5, attention_dropout_rate=0.5)
    inputs = [keras.ops.convert_to_tensor(a) for a in (IDS, SEGMENTS)]
    assert_close(model(inputs, training=False), model(inputs, training=False))
    spread = to_numpy(model(inputs, training=True)) - to_numpy(
        model(inputs, training=True)
    )
    assert np.abs(spread).max() > 1e-2
    names = {layer.name for layer in build(dropout_rate=0).layers}
    assert not any('Dropout' in name for name in names)


@pytest.mark.every_backend
@pytest.mark.parametrize('policy', ['float32', 'mixed_float16', 'mixed_bfloat16'])
def test_fine_tuning_descends_in_any_precision(policy):
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    model = build(with_pool=True, dropout_rate=0.1)
    out = keras.layers.Dense(2, dtype='float32')(model.output)
    classifier = keras.Model(model.inputs, out)
    classifier.compile(
        keras.optimizers.Adam(5e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    draw = np.random.default_rng(0)
    ids = draw.integers(1, 20, (32, 6))
    labels = (ids[:, 2] > 10).astype(int)
    history = classifier.fit(
        [ids, ids * 0], labels, epochs=8, batch_size=16, verbose=0
    ).history['loss']
    assert np.isfinite(history).all()
    assert history[-1] < history[0]


@pytest.mark.every_backend
@pytest.mark.parametrize('application', ['lm', 'unilm'])
def test_the_future_is_unseen(application):
    model = build(application=application, with_mlm='linear')
    randomise(model)
    ids = np.array([[2, 5, 6, 3, 7, 8]])
    segments = np.array([[0, 0, 0, 1, 1, 1]])
    changed = ids.copy()
    changed[0, 4] = 11
    a, b = (model.predict([x, segments], verbose=0)[0] for x in (ids, changed))
    assert_close(a[:4], b[:4])
    assert np.abs(a[4:] - b[4:]).max() > 1e-3
    changed = ids.copy()
    changed[0, 2] = 11
    c = model.predict([changed, segments], verbose=0)[0]
    assert (np.abs(a[:2] - c[:2]).max() > 1e-3) == (application == 'unilm')


def test_two_models_share_a_graph_and_surgery_works():
    teacher = build(prefix='Teacher-', return_keras_model=False)
    student = build(prefix='Student-', num_hidden_layers=1, return_keras_model=False)
    both = keras.Model(
        teacher.inputs + student.inputs, [teacher.output, student.output]
    )
    assert len(both.outputs) == 2
    x = teacher.model.get_layer('Teacher-Embedding-Norm').output
    again = teacher.apply_main_layers(x, 0)
    layer = teacher.model.get_layer('Teacher-Transformer-0-FeedForward-Norm')
    assert isinstance(layer, LayerNormalization)
    model = keras.Model(teacher.inputs, [layer.output, again])
    a, b = model.predict([IDS, SEGMENTS], verbose=0)
    assert_close(a, b)


def test_shared_layers_share_weights():
    first = build(return_keras_model=False)
    second = build(return_keras_model=False, layers=first.layers)
    name = 'Transformer-0-FeedForward'
    assert first.model.get_layer(name) is second.model.get_layer(name)


def test_a_subclass_is_a_family():
    class PreNorm(BERT):
        pre_norm = True

    model = build_transformer_model(SMALL, model=PreNorm)
    assert model.predict([IDS, SEGMENTS], verbose=0).shape == (2, 4, 12)
    names = [layer.name for layer in model.layers]
    at = names.index
    assert at('Transformer-0-FeedForward-Norm') < at('Transformer-0-FeedForward')
