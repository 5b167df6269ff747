"""Ids are line numbers, whatever the file has in it."""

import os

import pytest

from keraseff.tokenizers import load_vocab
from keraseff.tokenizers import save_vocab


def write(tmp_path, text, encoding='utf-8'):
    path = tmp_path / 'vocab.txt'
    path.write_bytes(text.encode(encoding))
    return path


def test_ids_are_line_numbers(tmp_path):
    path = write(tmp_path, '\ufeff[PAD]\r\n的 17\n\u2028\n##a\nb')
    assert load_vocab(path) == {'[PAD]': 0, '的': 1, '\u2028': 2, '##a': 3, 'b': 4}


def test_repeated_and_empty_lines_shift_nothing(tmp_path):
    path = write(tmp_path, 'a\nb\na\n\nc\n')
    with pytest.warns(UserWarning, match='line') as caught:
        token_dict = load_vocab(path)
    assert token_dict == {'a': 0, 'b': 1, 'c': 4}
    said = ' '.join(str(warning.message) for warning in caught)
    assert 'line 4' in said
    assert "'a' in line 3" in said
    assert {warning.filename for warning in caught} == {__file__}


def test_encoding(tmp_path):
    assert load_vocab(write(tmp_path, '我\n爱\n', 'gbk'), encoding='gbk')['爱'] == 1


def test_no_tokens(tmp_path):
    with pytest.raises(ValueError, match='no tokens'):
        load_vocab(write(tmp_path, '\n\n'))


def test_simplified(tmp_path):
    path = write(tmp_path, 'x\n[CLS]\n##中\n##y\n中国\n中\n。\n...\n[unused1]\n')
    token_dict, keep_tokens = load_vocab(path, simplified=True, startswith=['[CLS]'])
    assert list(token_dict) == ['[CLS]', 'x', '##y', '中', '。']
    assert list(token_dict.values()) == [0, 1, 2, 3, 4]
    assert keep_tokens == [1, 0, 3, 5, 6]
    with pytest.raises(ValueError, match='SEP'):
        load_vocab(path, simplified=True, startswith=['[CLS]', '[SEP]'])


def test_chinese_vocabulary(data_dir):
    path = data_dir / 'chinese_bert_vocab_config' / 'vocab.txt'
    first = ['[PAD]', '[UNK]', '[CLS]', '[SEP]']
    token_dict, keep_tokens = load_vocab(path, simplified=True, startswith=first)
    assert len(token_dict) == len(keep_tokens) == 13584
    full = load_vocab(path)
    assert len(full) == 21128
    assert all(full[t] == keep_tokens[i] for t, i in token_dict.items())


def test_save_and_load(tmp_path):
    path = tmp_path / 'saved.txt'
    token_dict = {'b': 1, 'a': 0, '##中': 2, '\u2028': 3}
    save_vocab(path, token_dict)
    assert load_vocab(path) == token_dict
    save_vocab(path, {'a': 0, 'b': 3})
    with pytest.warns(UserWarning, match='2 empty'):
        assert load_vocab(path) == {'a': 0, 'b': 3}
    assert os.listdir(tmp_path) == ['saved.txt']


@pytest.mark.parametrize(
    'token_dict', [{'a': 0, 'b': 0}, {'a b': 0}, {'': 0}, {'a\n': 0}, {'a': -1}]
)
def test_not_to_be_saved(tmp_path, token_dict):
    with pytest.raises(ValueError, match='must be'):
        save_vocab(tmp_path / 'saved.txt', token_dict)
    assert os.listdir(tmp_path) == []
