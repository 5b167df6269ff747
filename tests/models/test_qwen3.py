"""Qwen3 beside transformers."""

import pytest
from decoders import DECODER
from decoders import check_decoder
from decoders import texts
from harness import check_family
from harness import check_tables
from peers import check_saving
from peers import make_peer

from keraseff.models import Qwen3

SMALL = {key: value for key, value in DECODER.items() if 'kv' not in key}
BIASES = {'attention_bias': True, 'mlp_bias': True}
PEERS = {
    'one-kv-head': {'num_key_value_heads': 1, 'head_dim': 10},
    'biases-tied': {
        'head_dim': 4,
        'attention_bias': True,
        'tie_word_embeddings': True,
        'hidden_act': 'gelu',
        'rms_norm_eps': 1e-3,
        'pad_token_id': 3,
    },
    'odd': {
        'hidden_size': 21,
        'num_attention_heads': 5,
        'num_key_value_heads': 5,
        'head_dim': 6,
        'intermediate_size': 19,
        'use_sliding_window': True,
        'sliding_window': 3,
        'layer_types': ['sliding_attention', 'full_attention'],
        'rope_parameters': {
            'rope_type': 'yarn',
            'factor': 4.0,
            'original_max_position_embeddings': 8,
            'rope_theta': 1e4,
        },
    },
}


@pytest.mark.every_backend
def test_contract_and_tables():
    config = SMALL | {'head_dim': 6} | BIASES
    check_tables('qwen3', check_family('qwen3', config))


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_equals_transformers(row, tmp_path):
    changes = PEERS[row]
    check_decoder('Qwen3', tmp_path, changes, changes.get('pad_token_id', 0))


def test_transformers_opens_what_we_save(tmp_path):
    make_peer('Qwen3ForCausalLM', tmp_path, DECODER | {'head_dim': 8})
    ids, real = texts()
    check_saving('Qwen3ForCausalLM', tmp_path, ids, real=real, with_lm='linear')


def test_a_head_has_128_channels_where_nothing_is_said():
    assert Qwen3(SMALL).attention_head_size == 128
    assert Qwen3(SMALL | {'head_dim': 6}).attention_key_size == 6
    assert Qwen3(SMALL, head_dim=4).attention_head_size == 4
