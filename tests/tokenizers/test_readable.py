"""Decoded texts read as people write them."""

import pytest
from hostile import VOCABULARY

from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers.readable import join_tokens

SENTENCES = [
    '我爱北京天安门，你呢？',
    'hello, world! how are you?',
    "he's fine; they'll come, i'd say.",
    '他说“bert很好”（2019年）。',
    'pi is 3.14, at 12:30 for $1,000.50 (or 50%).',
    'the state-of-the-art and/or at&t',
    'she said "yes, please" twice.',
    "the 'quoted' word",
    '用keras写bert模型,很快!',
    'ラーメンを食べる',
    'x=a+b_c',
    'wait... what?!',
    '',
]


@pytest.mark.parametrize('text', SENTENCES)
def test_there_and_back(text):
    words = set(join_tokens([]).split())
    tokens = Tokenizer(
        {'[UNK]': 0, **dict.fromkeys(words, 1)}, token_start=None, token_end=None
    ).tokenize(text)
    assert join_tokens(tokens) == text


def test_pieces_are_joined():
    tokens = ['ti', '##ana', '##nm', 'bert', '中', '##国', 'a', '##', '##b']
    assert join_tokens(tokens) == 'tiananm bert中国a ##b'


def test_words_of_several_ideographs():
    assert join_tokens(['北京', 'bert', '天安门', 'a', 'b']) == '北京bert天安门a b'


def test_decode_leaves_specials_out():
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True)
    ids, _ = tokenizer.encode('我爱Tiananmen2019!', '北京')
    assert tokenizer.decode(ids) == '我爱tiananmen2019!北京'
    assert tokenizer.decode([], ['[CLS]', 'a', '[UNK]', '##b']) == 'ab'
    assert tokenizer.decode([tokenizer._token_unk_id]) == ''
