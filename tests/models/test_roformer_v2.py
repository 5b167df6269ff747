"""RoFormerV2: the contract, a slow version, bert4keras, Hugging Face's names."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_contract
from harness import randomise
from harness import to_numpy
from peers import check_against_bert4keras
from peers import embedding_gradient
from reference import roformer_v2 as slow

from keraseff.checkpoints import DictCheckpoint
from keraseff.checkpoints import open_checkpoint
from keraseff.models import build_transformer_model
from keraseff.models.loading import named_variables
from keraseff.models.roformer import RoFormer
from keraseff.models.roformer_v2 import DepthNormal
from keraseff.models.roformer_v2 import RoFormerV2

SMALL = {
    'vocab_size': 40,
    'hidden_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 3,
    'intermediate_size': 36,
    'hidden_act': 'gelu',
    'model_type': 'roformer_v2',
}
FAMILIES = [{}, {'embedding_size': 12, 'tie_word_embeddings': False}]


@pytest.fixture
def texts(rng):
    """Ids and segments (4, 20), of several lengths, and a padded single token."""
    ids, segments = rng.integers(1, 30, (4, 20)), np.zeros((4, 20), int)
    for row, length in enumerate((20, 18, 9, 1)):
        ids[row, length:] = 0
        segments[row, length // 2 : length] = 1
    return ids, segments


def opened(config, rng, **options):
    """A model opened from tensors by TensorFlow's names, and these tensors."""
    made = build_transformer_model(config, return_keras_model=False, **options)
    table, tensors = made.table('tensorflow'), {}
    for left, variable in named_variables(made).items():
        name, shape = table[left], tuple(variable.shape)
        shape = shape[::-1] if name.endswith('output_weights') else shape
        value = rng.normal(name.endswith('gamma'), 0.15, shape)
        tensors[name] = value.astype('float32')
    return build_transformer_model(config, tensors, **options), tensors


@pytest.mark.every_backend
def test_contract():
    check_contract('roformer_v2', [SMALL | row for row in FAMILIES])


CASES = {
    'plain': ({}, 'encoder', False),
    'mlm': ({'hidden_size': 40, 'num_attention_heads': 5}, 'encoder', True),
    'mapped': ({'embedding_size': 12, 'num_hidden_layers': 3}, 'lm', True),
    'untied': ({'tie_word_embeddings': False, 'num_hidden_layers': 1}, 'unilm', True),
}


@pytest.mark.every_backend
@pytest.mark.parametrize('row', CASES)
def test_the_model_equals_the_slow_version(row, texts, rng):
    changes, application, mlm = CASES[row]
    config = SMALL | changes
    options = {'with_mlm': 'linear'} if mlm else {}
    model, tensors = opened(config, rng, application=application, **options)

    def block(weights, i, x, seen):
        heads = config['num_attention_heads']
        return slow.roformer_v2_block(weights, heads, i, x, seen)

    expected = slow.run(tensors, block, *texts, mlm, application)
    found = model.predict(list(texts), verbose=0)
    assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weigh = rng.normal(size=expected.shape)
    gradient = embedding_gradient(model, list(texts), weigh)
    for direction in rng.normal(size=(2, *gradient.shape)):
        expected = slow.slope(
            tensors, direction, weigh, block, *texts, mlm, application
        )
        np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=1e-3)


@pytest.mark.every_backend
def test_the_stored_outputs_of_bert4keras(data_dir):
    check_against_bert4keras(
        'roformer_v2', data_dir, model='roformer_v2', with_mlm='linear'
    )


def test_a_hugging_face_file_opens(texts, rng):
    model, tensors = opened(SMALL, rng, with_mlm='linear')
    layer = 'roformer.encoder.layer.{}.'
    rename = [
        ('bert/embeddings/', 'roformer.embeddings.'),
        *((f'bert/encoder/layer_{i}/', layer.format(i)) for i in range(2)),
    ]
    state = {}
    for name, value in tensors.items():
        for old, new in rename:
            name = name.replace(old, new)
        name = name.replace('/kernel', '.weight').replace('/', '.')
        name += '.weight' if name.endswith('embeddings') else ''
        state[name] = value if 'embeddings' in name else value.T
    state['roformer.encoder.embed_positions.weight'] = np.zeros((8, 8), 'float32')
    state['cls.predictions.decoder.weight'] = state[
        'roformer.embeddings.word_embeddings.weight'
    ]
    config = SMALL | {
        'norm_type': 'rms_norm',
        'use_bias': False,
        'layer_norm_eps': 1e-7,
        'rotary_value': False,
    }
    found = build_transformer_model(
        config, DictCheckpoint(state, 'huggingface'), with_mlm='linear'
    )
    expected = model.predict(list(texts), verbose=0)
    assert_close(found.predict(list(texts), verbose=0), expected, atol=1e-6)


def test_the_norm_type_tells_it_from_roformer():
    config = SMALL | {'model_type': 'roformer', 'norm_type': 'rms_norm'}
    made = build_transformer_model(config, return_keras_model=False)
    assert type(made) is RoFormerV2
    made = build_transformer_model(
        config | {'norm_type': 'layer_norm'}, return_keras_model=False
    )
    assert type(made) is RoFormer


def test_the_saved_file_bears_the_names_of_the_published_ones(tmp_path, rng):
    made = build_transformer_model(SMALL, return_keras_model=False)
    made.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    names = set(open_checkpoint(tmp_path / 'm.ckpt'))
    layer = 'bert/encoder/layer_1/'
    assert {n for n in names if 'layer_0' not in n} == {
        'bert/embeddings/word_embeddings',
        'bert/embeddings/token_type_embeddings',
        *(f'{layer}attention/self/{n}/kernel' for n in ('query', 'key', 'value')),
        f'{layer}attention/output/dense/kernel',
        f'{layer}intermediate/dense/kernel',
        f'{layer}output/dense/kernel',
    }


def test_the_embeddings_are_normalised_after_their_dropout():
    model = build_transformer_model(SMALL, dropout_rate=0.5)
    randomise(model)
    first = keras.Model(model.inputs, model.get_layer('Embedding-Norm').output)
    ids = np.full((2, 30), 5)
    out = to_numpy(first([ids, ids * 0], training=True))
    assert (out == 0).mean() > 0.3
    np.testing.assert_allclose((out**2).mean(-1), 1, rtol=1e-4)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ('shape', 'fan'), [((2000, 300), 2000), ((12000, 64), 64), ((8, 5000), 5000)]
)
def test_the_initial_deviation(shape, fan):
    made = DepthNormal(9, order=2)
    values = to_numpy(made(shape))
    expected = 9**-0.5 / fan**0.5
    np.testing.assert_allclose(values.std(), expected, rtol=0.02)
    # Keras' deviation is meant before the cut at two of it; torch lets a few pass.
    assert (np.abs(values) > 2 * 1.13684723 * expected * 1.0001).mean() < 1e-4
    assert np.abs(values - to_numpy(made(shape))).max() > expected / 2
    assert DepthNormal.from_config(made.get_config()).get_config() == {
        'depth': 9,
        'order': 2,
    }


def test_the_layers_start_unlike_each_other():
    model = build_transformer_model(SMALL)
    values = [to_numpy(w.value) for w in model.weights if w.shape == (24, 24)]
    assert len(values) == 8
    for i, a in enumerate(values):
        for b in values[:i]:
            assert np.abs(a - b).max() > 0.05


@pytest.mark.parametrize(
    ('config', 'options', 'match'),
    [
        ({}, {'with_pool': True}, 'no head with_pool'),
        ({'use_bias': True}, {}, "use_bias=True; use model='roformer'"),
        ({'norm_type': 'layer_norm'}, {}, "norm_type='layer_norm'"),
        ({'rotary_value': True}, {}, 'rotary_value'),
    ],
)
def test_other_models_are_refused(config, options, match):
    with pytest.raises(ValueError, match=match):
        build_transformer_model(SMALL | config, **options)


def test_a_condition_is_refused():
    cond = keras.Input((3,))
    with pytest.raises(ValueError, match='layer_norm_cond'):
        build_transformer_model(
            SMALL, layer_norm_cond=cond, additional_input_layers=cond
        )


@pytest.mark.every_backend
def test_half_precision_stays_near(texts, rng):
    model, tensors = opened(SMALL, rng, with_mlm='linear')
    half = build_transformer_model(
        SMALL, tensors, with_mlm='linear', dtype='mixed_float16'
    )
    found = half.predict(list(texts), verbose=0)
    assert found.dtype == np.float32
    assert_close(found, model.predict(list(texts), verbose=0), atol=0.03, rtol=0.03)
