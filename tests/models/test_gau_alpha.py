"""GAU-α: the contract, a slow version of the whole model, bert4keras' tensors."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_contract
from harness import to_numpy
from peers import embedding_gradient
from reference import roformer_v2 as slow

from keraseff.checkpoints import DictCheckpoint
from keraseff.layers import SquaredReLU
from keraseff.models import build_transformer_model
from keraseff.models.gau_alpha import GAUAlpha
from keraseff.models.loading import named_variables

SMALL = {
    'vocab_size': 40,
    'hidden_size': 24,
    'num_hidden_layers': 2,
    'attention_key_size': 8,
    'intermediate_size': 36,
    'model_type': 'gau_alpha',
}
FAMILIES = [{}, {'embedding_size': 12, 'tie_word_embeddings': False}]


@pytest.fixture
def texts(rng):
    """Ids and segments (4, 20), of several lengths, one of them a single token."""
    ids, segments = rng.integers(1, 30, (4, 20)), np.zeros((4, 20), int)
    for row, length in enumerate((20, 18, 9, 1)):
        ids[row, length:] = 0
        segments[row, length // 2 : length] = 1
    return ids, segments


def tensors_like(config, rng):
    """Random tensors of the published checkpoint's names, for a config."""
    size, units = config['hidden_size'], config['intermediate_size']
    inner = config.get('embedding_size', size)
    key = config.get('attention_key_size') or size // config['num_attention_heads']
    shapes = {
        'bert/embeddings/word_embeddings': (config['vocab_size'], inner),
        'bert/embeddings/token_type_embeddings': (2, inner),
    }
    for i in range(config['num_hidden_layers']):
        prefix = f'GAU_alpha/encoder/layer_{i}/gau/'
        shapes |= {
            f'{prefix}i_dense/kernel': (size, 2 * units + key),
            f'{prefix}o_dense/kernel': (units, size),
            f'{prefix}q_scaleoffset/gamma': (key,),
            f'{prefix}k_scaleoffset/gamma': (key,),
        }
    if inner != size:
        shapes |= {slow.MAPPING: (inner, size), slow.OUT_MAPPING: (size, inner)}
    return {
        name: rng.normal(2 * name.endswith('gamma'), 0.2, shape).astype('float32')
        for name, shape in shapes.items()
    }


@pytest.mark.every_backend
def test_contract():
    check_contract('gau_alpha', [SMALL | row for row in FAMILIES])


CASES = {
    'plain': ({}, 'encoder', False),
    'mlm': ({'hidden_size': 40, 'num_hidden_layers': 3}, 'encoder', True),
    'heads': ({'num_attention_heads': 3, 'attention_key_size': None}, 'lm', True),
    'mapped': ({'embedding_size': 12, 'intermediate_size': 20}, 'unilm', True),
    'squared': ({'normalization': 'squared_relu'}, 'encoder', False),
}


@pytest.mark.every_backend
@pytest.mark.parametrize('row', CASES)
def test_the_model_equals_the_slow_version(row, texts, rng):
    changes, application, mlm = CASES[row]
    config = SMALL | changes
    tensors = tensors_like(config, rng)
    options = {'with_mlm': 'linear'} if mlm else {}
    model = build_transformer_model(config, tensors, application=application, **options)
    normalization = config.get('normalization', 'softmax_plus')

    def block(weights, i, x, seen):
        return slow.gau_alpha_block(weights, normalization, i, x, seen)

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


def test_a_hugging_face_file_opens(texts, rng):
    tensors = tensors_like(SMALL, rng)
    state = {}
    for name, value in tensors.items():
        name = name.replace('bert/', 'gau_alpha.').replace('GAU_alpha/', 'gau_alpha.')
        name = name.replace('layer_', 'layer.').replace('/', '.')
        name = name.replace('.kernel', '.weight').replace('.gamma', '.weight')
        if name.endswith('embeddings'):
            state[f'{name}.weight'] = value
        else:
            state[name] = value.T
    state['cls.predictions.decoder.weight'] = tensors[
        'bert/embeddings/word_embeddings'
    ].copy()
    assert 'gau_alpha.encoder.layer.1.gau.q_scaleoffset.weight' in state
    config = SMALL | {
        'normalization': 'softmax_plus',
        'attention_scale': True,
        'use_bias': False,
        'layer_norm_eps': 1e-7,
        'classifier_dropout': 0.1,
    }
    source = DictCheckpoint(state, 'huggingface')
    found = build_transformer_model(config, source, with_mlm='linear')
    ours = build_transformer_model(SMALL, tensors, with_mlm='linear')
    expected = ours.predict(list(texts), verbose=0)
    assert_close(found.predict(list(texts), verbose=0), expected, atol=1e-6)


def test_what_the_config_leaves_unsaid():
    said = dict(SMALL, hidden_size=300)
    del said['attention_key_size']
    made = GAUAlpha(said)
    assert (made.attention_key_size, made.hidden_act) == (128, 'swish')
    assert made.attention == 'softmax_plus'
    assert GAUAlpha(said | {'num_attention_heads': 4}).attention_key_size == 75
    assert GAUAlpha(said, attention_key_size=64).attention_key_size == 64
    assert GAUAlpha(said | {'normalization': 'squared_relu'}).attention == (
        'squared_relu'
    )
    made = build_transformer_model(said, attention=SquaredReLU())
    unit = made.get_layer('Transformer-1-GatedAttentionUnit')
    assert isinstance(unit.normalization, SquaredReLU)
    assert unit.key_size == 128


def test_the_published_widths():
    config = {
        'vocab_size': 12,
        'hidden_size': 768,
        'intermediate_size': 1536,
        'num_hidden_layers': 1,
    }
    made = GAUAlpha(config)
    made.build()
    unit = 768 * (2 * 1536 + 128) + 1536 * 768 + 2 * 128
    assert made.model.count_params() == 12 * 768 + 2 * 768 + unit


@pytest.mark.every_backend
def test_the_start_is_that_of_deep_models():
    model = build_transformer_model(
        SMALL, num_hidden_layers=8, vocab_size=400, return_keras_model=False
    )
    found = {k: to_numpy(v.value) for k, v in named_variables(model).items()}
    kernel = found['Transformer-3-GatedAttentionUnit/i_dense/kernel']
    np.testing.assert_allclose(kernel.std(), 8 ** (-1 / 3) / 24**0.5, rtol=0.05)
    words = found['Embedding-Token/embeddings']
    np.testing.assert_allclose(words.std(), 8 ** (-1 / 3) / 400**0.5, rtol=0.05)


@pytest.mark.every_backend
def test_a_language_model_sees_no_future(texts, rng):
    ids, segments = texts
    model = build_transformer_model(
        SMALL, tensors_like(SMALL, rng), application='lm', with_mlm='linear'
    )
    before = model.predict([ids, segments], verbose=0)
    later = ids.copy()
    later[:, 17:] = 31
    after = model.predict([later, segments], verbose=0)
    assert_close(after[:, :17], before[:, :17], atol=1e-5)
    assert np.abs(after[0, 17:] - before[0, 17:]).max() > 1e-2


def test_residual_scores_pass_from_unit_to_unit(texts, rng):
    tensors = tensors_like(SMALL, rng)
    plain = build_transformer_model(SMALL, tensors)
    summed = build_transformer_model(SMALL, tensors, residual_attention_scores=True)
    names = [f'Transformer-{i}-GatedAttentionUnit' for i in range(2)]
    first, second = (summed.get_layer(name) for name in names)
    x = rng.normal(size=(2, 5, 24)).astype('float32')
    _, scores = first(x)
    _, without = second(x)
    _, with_them = second(x, residual=scores)
    assert_close(with_them, to_numpy(scores) + to_numpy(without), atol=1e-5)
    found = summed.predict(list(texts), verbose=0)
    assert np.abs(found - plain.predict(list(texts), verbose=0)).max() > 1e-3


@pytest.mark.parametrize(
    ('config', 'options', 'match'),
    [
        ({}, {'with_nsp': True}, 'no head with_nsp'),
        ({'use_bias': True}, {}, 'use_bias=True'),
        ({'attention_scale': False}, {}, 'attention_scale'),
        ({'normalization': 'entmux'}, {}, "'entmux' is unknown"),
    ],
)
def test_other_models_are_refused(config, options, match):
    with pytest.raises(ValueError, match=match):
        build_transformer_model(SMALL | config, **options)


def test_half_precision_stays_near(texts, rng):
    tensors = tensors_like(SMALL, rng)
    model = build_transformer_model(SMALL, tensors, with_mlm='linear')
    half = build_transformer_model(
        SMALL, tensors, with_mlm='linear', dtype='mixed_float16'
    )
    expected = model.predict(list(texts), verbose=0)
    assert_close(half.predict(list(texts), verbose=0), expected, atol=0.05, rtol=0.05)
