"""Vocabularies with damaged bytes: a dict, or an error that names the file."""

import warnings

import numpy as np
import pytest
from mutations import scramble

from keraseff.tokenizers import load_vocab


def test_damaged_vocabularies(tmp_path):
    path = tmp_path / 'vocab.txt'
    tokens = ['[PAD]', '[UNK]', *'北京大学生物', '##ing', 'é', '😀']
    data = '\n'.join(tokens).encode()
    read = unnamed = 0
    for seed in range(1000):
        path.write_bytes(scramble(data, np.random.default_rng(seed)))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try:
                read += isinstance(load_vocab(path), dict)
            except ValueError as error:
                unnamed += str(path) not in str(error)
    assert not unnamed
    assert 100 < read < 900


def test_another_encoding_is_named(tmp_path):
    (tmp_path / 'vocab.txt').write_text('北京\n大学', encoding='gb18030')
    with pytest.raises(ValueError, match=r"vocab.txt' is not a vocabulary in utf-8"):
        load_vocab(tmp_path / 'vocab.txt')
    assert load_vocab(tmp_path / 'vocab.txt', 'gb18030') == {'北京': 0, '大学': 1}
