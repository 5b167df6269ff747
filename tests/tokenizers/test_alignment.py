"""Tokens find the characters they came from."""

import hostile
import pytest
from hostile import VOCABULARY

from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers.characters import is_removed
from keraseff.tokenizers.characters import is_space


@pytest.mark.parametrize('lower', [True, False])
def test_every_token_has_characters_in_order(lower):
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=lower)
    for text in hostile.texts(1500, seed=1) + ['\ud800a\udfff']:
        tokens = tokenizer.tokenize(text)
        spans = tokenizer.rematch(text, tokens)
        flat = [i for span in spans for i in span]
        assert len(spans) == len(tokens)
        assert flat == sorted(flat), ascii(text)
        assert all(spans[1:-1]), ascii(text)
        assert spans[0] == spans[-1] == []
        if not any('\u1100' <= ch <= '\u11ff' or ch >= '\uac00' for ch in text):
            assert len(set(flat)) == len(flat), ascii(text)
        lost = [ch for i, ch in enumerate(text) if i not in set(flat)]
        if not lower:
            assert all(is_space(ch) or is_removed(ch) for ch in lost)


def test_tokens_are_the_folded_characters():
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True)
    text = ' Ti\u200bana\x00nm  É\u0301té İs ＡB 中\u0301。'
    tokens = tokenizer.tokenize(text)
    spans = tokenizer.rematch(text, tokens)
    shown = [''.join(text[i] for i in span) for span in spans]
    pairs = list(zip(tokens, shown, strict=True))[1:-1]
    assert pairs[:3] == [('tian', 'Tian'), ('##a', 'a'), ('##nm', 'nm')]
    assert pairs[3:6] == [('e', 'É'), ('##t', 't'), ('##e', 'é')]
    assert pairs[6:8] == [('i', 'İ'), ('##s', 's')]
    assert pairs[8:] == [('ａb', 'ＡB'), ('中', '中'), ('。', '。')]


@pytest.mark.parametrize('truncate_from', ['right', 'left', 3])
def test_truncated_tokens_keep_their_place(truncate_from):
    tokenizer = Tokenizer(VOCABULARY)
    text = '天天北京天天北京天'
    tokens = tokenizer.tokenize(text)
    ids = tokenizer.encode(text, maxlen=6, truncate_from=truncate_from)[0]
    spans = tokenizer.rematch(text, tokenizer.ids_to_tokens(ids))
    place = {'right': [0, 1, 2, 3], 'left': [5, 6, 7, 8], 3: [0, 1, 7, 8]}
    assert spans[1:-1] == [[i] for i in place[truncate_from]]
    assert len(tokens) == 11


def test_bare_and_changed_tokens():
    tokenizer = Tokenizer(VOCABULARY)
    assert tokenizer.rematch('我爱北京', ['爱', '[MASK]', '京']) == [[1], [], [3]]
    assert tokenizer.rematch('', []) == []
    with pytest.raises(ValueError, match="'天' was not found in the rest of the text"):
        tokenizer.rematch('我爱北京', ['[CLS]', '我', '天', '[SEP]'])


def test_words_that_pre_tokenize_left_out():
    tokenizer = Tokenizer(VOCABULARY, pre_tokenize=lambda text: text.split('的'))
    assert tokenizer.rematch('北京的 天') == [[], [0, 1], [4], []]
