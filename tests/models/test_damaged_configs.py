"""Configs damaged in their text and in their meaning: a dict, or an error by name."""

import json
import time

import numpy as np
import pytest
from mutations import damage_json

from keraseff.models.config import make_config
from keraseff.models.config import read_config

CONFIG = {
    'model_type': 'bert',
    'architectures': ['BertForPreTraining'],
    'vocab_size': 21128,
    'hidden_size': 768,
    'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0},
}


def test_damaged_configs(tmp_path):
    path = tmp_path / 'config.json'
    data = json.dumps(CONFIG, indent=1).encode()
    read = unnamed = 0
    began = time.perf_counter()
    for seed in range(1000):
        path.write_bytes(damage_json(data, np.random.default_rng(seed)))
        try:
            read += isinstance(read_config(path), dict)
        except ValueError as error:
            unnamed += str(path) not in str(error)
    assert time.perf_counter() - began < 20
    assert not unnamed
    assert 100 < read < 900


@pytest.mark.parametrize('value', ['[' * 10**6, '9' * 10**5, '{"a":' * 10**5])
def test_endless_values(value, tmp_path):
    path = tmp_path / 'config.json'
    path.write_text(f'{{"vocab_size": {value}')
    with pytest.raises(ValueError, match='config.json'):
        read_config(path)
    path.write_text(f'{{"vocab_size": {value}}}')
    with pytest.raises(ValueError, match='config.json'):
        read_config(path)


def test_sizes_without_end_are_refused_at_once():
    options = dict(CONFIG, num_hidden_layers=1, intermediate_size=4)
    began = time.perf_counter()
    odd = {'hidden_size': 2**31 - 1, 'num_attention_heads': 2**30}
    with pytest.raises(ValueError, match='does not divide hidden_size'):
        make_config(options | odd, {})
    with pytest.raises(ValueError, match='hidden_size=10+ must be .* no more than'):
        make_config(options | {'hidden_size': 10**15, 'num_attention_heads': 1}, {})
    assert time.perf_counter() - began < 1
