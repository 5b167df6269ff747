"""T5's options: other people's words, and what follows from them."""

import pytest

from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.config import read_config
from keraseff.models.t5_config import translate_t5

SMALL = {
    'vocab_size': 40,
    'hidden_size': 24,
    'num_hidden_layers': 1,
    'num_attention_heads': 3,
    'intermediate_size': 36,
}


def options_of(config, model=None, **keywords):
    """The options of a config, without the graph."""
    family = MODELS[model or config['model_type']]
    return family(read_config(config), **keywords).config


HF = {
    'd_model': 512,
    'd_kv': 64,
    'd_ff': 1024,
    'num_heads': 6,
    'num_layers': 8,
    'vocab_size': 250112,
    'dropout_rate': 0.1,
    'layer_norm_epsilon': 1e-06,
    'relative_attention_num_buckets': 32,
}


def test_configs_of_published_models_are_read():
    mt5 = HF | {
        'model_type': 'mt5',
        'feed_forward_proj': 'gated-gelu',
        'num_decoder_layers': 8,
        'tie_word_embeddings': False,
    }
    found = options_of(mt5)
    assert found.attention_head_size == 64
    assert found.hidden_act == ['gelu_new', 'linear']
    assert (found.num_hidden_layers, found.num_decoder_layers) == (8, 8)
    assert (found.dropout_rate, found.attention_dropout_rate) == (0.1, 0.1)
    assert not found.tie_word_embeddings
    assert not found.scale_decoder_outputs
    # Saved again by transformers 5, which says that all are tied.
    again = mt5 | {'tie_word_embeddings': True, 'transformers_version': '5.1.0'}
    found = options_of(again)
    assert not found.tie_word_embeddings
    assert not found.scale_decoder_outputs
    assert options_of(again, tie_word_embeddings=True).tie_word_embeddings
    uer = HF | {'model_type': 't5', 'feed_forward_proj': 'relu', 'vocab_size': 21228}
    found = options_of(uer)
    assert found.hidden_act == 'relu'
    assert found.tie_word_embeddings
    assert found.scale_decoder_outputs
    assert found.num_decoder_layers == 8
    assert not found.cross_position_bias
    pegasus = {
        'hidden_act': ['gelu', 'linear'],
        'hidden_dropout_prob': 0.1,
        'hidden_size': 768,
        'attention_head_size': 64,
        'intermediate_size': 2048,
        'num_attention_heads': 12,
        'num_hidden_layers': 12,
        'vocab_size': 50000,
    }
    found = options_of(pegasus, 'mt5.1.1')
    assert found.hidden_act == ['gelu', 'linear']
    assert not found.tie_word_embeddings
    assert found.attention_dropout_rate == 0


def test_a_small_chinese_t5_has_the_size_of_the_published_one():
    config = HF | {
        'd_ff': 2048,
        'num_heads': 8,
        'num_layers': 6,
        'vocab_size': 21228,
        'feed_forward_proj': 'relu',
    }
    t5 = MODELS['t5'](read_config(config))
    t5.expect_checkpoint()
    t5.build()
    block = 4 * 512 * 512 + 512
    network = 2 * 512 * 2048 + 512
    encoder = 6 * (block + network) + 512 + 32 * 8
    decoder = 6 * (2 * block + network) + 512 + 32 * 8
    assert t5.model.count_params() == 21228 * 512 + encoder + decoder


@pytest.mark.parametrize(
    ('changes', 'name', 'message'),
    [
        ({'feed_forward_proj': 'twice-relu'}, 't5', 'feed_forward_proj'),
        ({'num_decoder_layers': -1}, 't5', 'num_decoder_layers'),
        ({'relative_attention_num_buckets': 2}, 't5', 'buckets'),
    ],
)
def test_what_cannot_be_is_refused(changes, name, message):
    with pytest.raises(ValueError, match=message):
        build_transformer_model(SMALL | changes, model=name)


def test_an_activation_of_ours_counts_before_theirs():
    options = {'feed_forward_proj': 'gated-silu', 'dropout_rate': 0.2}
    found = translate_t5(options)
    assert found['hidden_act'] == ['silu', 'linear']
    assert found['attention_dropout_rate'] == 0.2
    assert 'hidden_act' not in options
    ours = {'hidden_act': 'swish', 'attention_dropout_rate': 0.1}
    assert translate_t5(options | ours) == options | ours
    assert translate_t5({'dropout_rate': 0.2}) == {'dropout_rate': 0.2}


def test_the_release_that_wrote_a_config_says_what_tied_means():
    told = {'tie_word_embeddings': True, 'scale_decoder_outputs': False}
    assert translate_t5(told)['tie_word_embeddings']
    for version, tied in (('4.57.1', True), ('5.0.0', False), ('6.1', False)):
        found = translate_t5(told | {'transformers_version': version})
        assert found['tie_word_embeddings'] is tied
    found = translate_t5({'transformers_version': '5.0', 'tie_word_embeddings': True})
    assert found['tie_word_embeddings']
