"""Configs: files are read leniently, keywords strictly."""

import json

import pytest

from keraseff.models import build_transformer_model
from keraseff.models.config import FIELDS
from keraseff.models.config import Config
from keraseff.models.config import make_config
from keraseff.models.config import read_config

SMALL = {
    'vocab_size': 30,
    'hidden_size': 12,
    'num_hidden_layers': 1,
    'num_attention_heads': 3,
    'intermediate_size': 20,
}


def test_other_spellings_mean_the_same():
    google = SMALL | {'hidden_dropout_prob': 0.3, 'type_vocab_size': 4}
    ours = SMALL | {'dropout_rate': 0.3, 'segment_vocab_size': 4}
    assert make_config(read_config(google), {}) == make_config(read_config(ours), {})
    assert make_config(SMALL, {'hidden_dropout_prob': 0.2}).dropout_rate == 0.2


def test_what_follows_is_filled_in():
    config = make_config(SMALL, {'attention_key_size': 6, 'dropout_rate': None})
    assert (config.attention_head_size, config.attention_key_size) == (4, 6)
    assert (config.embedding_size, config.dropout_rate) == (12, 0.0)
    assert (config.max_position, config.segment_vocab_size) == (512, 2)


def test_a_file_may_hold_anything(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text(json.dumps(SMALL | {'pooler_fc_size': 768, 'model_type': 'bert'}))
    assert make_config(read_config(path), {}) == Config(**SMALL)
    assert read_config(tmp_path) == read_config(path) == read_config(str(path))


def test_an_unknown_keyword_names_the_nearest():
    with pytest.raises(TypeError, match="'hiden_size'.  Did you mean 'hidden_size'"):
        build_transformer_model(SMALL, hiden_size=3)
    with pytest.raises(TypeError, match="Did you mean 'with_mlm'"):
        build_transformer_model(SMALL, with_mml=True)
    with pytest.raises(TypeError, match="Did you mean 'model'"):
        build_transformer_model(SMALL, modle='bert')
    with pytest.raises(TypeError, match='Unknown option'):
        build_transformer_model(SMALL, qqqq=True)


@pytest.mark.parametrize('missing', sorted(SMALL))
def test_a_missing_option_is_named(missing):
    options = {key: value for key, value in SMALL.items() if key != missing}
    with pytest.raises(ValueError, match=f'lacks {missing};'):
        build_transformer_model(options)


def test_bad_values_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match='num_attention_heads=5 does not divide'):
        build_transformer_model(SMALL, num_attention_heads=5)
    with pytest.raises(ValueError, match=r"hidden_size='16' must be a whole number"):
        build_transformer_model(SMALL, hidden_size='16')
    with pytest.raises(ValueError, match='num_hidden_layers=-1 must be'):
        build_transformer_model(SMALL, num_hidden_layers=-1)
    with pytest.raises(ValueError, match="Did you mean 'bert'"):
        build_transformer_model(SMALL, model='brt')
    with pytest.raises(ValueError, match="application='seq2seq'"):
        build_transformer_model(SMALL, application='seq2seq')
    with pytest.raises(ValueError, match='relative_key'):
        build_transformer_model(SMALL | {'position_embedding_type': 'relative_key'})
    with pytest.raises(ValueError, match='rotary_value'):
        build_transformer_model(SMALL | {'rotary_value': True}, model='roformer')
    with pytest.raises(FileNotFoundError, match='no config.json'):
        build_transformer_model(tmp_path)
    (tmp_path / 'config.json').write_text('{"vocab_size": 3,}')
    with pytest.raises(ValueError, match='config.json:1: not valid JSON'):
        build_transformer_model(tmp_path)
    (tmp_path / 'config.json').write_text('[1]')
    with pytest.raises(ValueError, match='expected a JSON object, got a list'):
        build_transformer_model(tmp_path)


def test_every_field_is_explained():
    for field in FIELDS:
        assert field in Config.__doc__, field
