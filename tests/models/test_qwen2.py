"""Qwen2 beside transformers."""

import functools

import keras
import pytest
from decoders import DECODER
from decoders import check_decoder
from decoders import texts
from harness import IDS
from harness import called
from harness import check_family
from harness import check_tables
from peers import check_saving
from peers import make_peer

from keraseff.layers import MultiHeadAttention
from keraseff.models import Qwen2
from keraseff.models import build_transformer_model

SMALL = {key: value for key, value in DECODER.items() if 'kv' not in key}
PEERS = {
    'one-kv-head-tied': {'num_key_value_heads': 1, 'tie_word_embeddings': True},
    'odd': {
        'hidden_size': 30,
        'num_attention_heads': 3,
        'num_key_value_heads': 3,
        'intermediate_size': 17,
        'vocab_size': 53,
        'hidden_act': 'gelu_new',
        'rms_norm_eps': 1e-4,
        'pad_token_id': 7,
    },
    'window': {
        'num_hidden_layers': 3,
        'use_sliding_window': True,
        'sliding_window': 4,
        'max_window_layers': 1,
        'rope_parameters': {'rope_type': 'linear', 'factor': 2.0, 'rope_theta': 1e6},
    },
}


@pytest.mark.every_backend
def test_contract_and_tables():
    found = check_family('qwen2', SMALL | {'num_key_value_heads': 3})
    check_tables('qwen2', found)


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_equals_transformers(row, tmp_path):
    changes = PEERS[row]
    check_decoder('Qwen2', tmp_path, changes, changes.get('pad_token_id', 0))


def test_transformers_opens_what_we_save(tmp_path):
    make_peer('Qwen2ForCausalLM', tmp_path, DECODER)
    ids, real = texts()
    check_saving('Qwen2ForCausalLM', tmp_path, ids, real=real, with_lm='linear')


def test_windows_count_where_the_file_says_so():
    def windows(**options):
        model = Qwen2(SMALL | {'num_hidden_layers': 3} | options)
        types = model.layer_types
        return model.sliding_window, types and [t[0] for t in types[:3]]

    assert windows(sliding_window=5, max_window_layers=1) == (None, None)
    used = {'use_sliding_window': True, 'sliding_window': 5}
    assert windows(**used, max_window_layers=10**12) == (5, ['f', 'f', 'f'])
    assert windows(**used, max_window_layers=1) == (5, ['f', 's', 's'])
    assert windows(**used) == (5, ['f', 'f', 'f'])
    types = ['sliding_attention', 'full_attention', 'sliding_attention']
    assert windows(**used, layer_types=types) == (5, ['s', 'f', 's'])
    assert windows(sliding_window=5, layer_types=types) == (None, None)


def test_laying_the_graph_computes_nothing_on_torch(monkeypatch):
    if keras.config.backend() != 'torch':
        pytest.skip('only Torch lays its graphs by running the layers')
    devices = []
    inner = MultiHeadAttention.call

    @functools.wraps(inner)
    def watched(self, q, *rest, **keywords):
        devices.append(q.device.type)
        return inner(self, q, *rest, **keywords)

    monkeypatch.setattr(MultiHeadAttention, 'call', watched)
    changes = {'num_key_value_heads': 3, 'sliding_window': 4}
    model = build_transformer_model(
        SMALL | changes, model='mistral', application='unilm'
    )
    assert set(devices) <= {'meta'}
    called(model, [IDS, IDS % 2])
    assert 'cpu' in devices
