"""A small vocabulary with everything a tokenizer can stumble on."""

import pytest

LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789éß한σÅ'
PIECES = ['bert', 'ti', '##ana', '##nm', '##en', 'tian', '##19', '2019', 'Hello']
SIGNS = list('，。！？：；（）《》“”…·、!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~')


@pytest.fixture(scope='session')
def vocabulary():
    tokens = ['[PAD]', '[unused1]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *SIGNS]
    tokens += [chr(code) for code in range(0x4E00, 0x5400)]
    tokens += [*'我爱北京天安门豈', *LETTERS, *('##' + ch for ch in LETTERS), *PIECES]
    tokens += ['北京', '天安门', '北京天安门', '[新]']
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


@pytest.fixture(scope='session')
def vocab_path(vocabulary, tmp_path_factory):
    path = tmp_path_factory.mktemp('vocabulary') / 'vocab.txt'
    path.write_text('\n'.join(vocabulary) + '\n', encoding='utf-8')
    return path
