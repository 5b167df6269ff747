"""Texts to windows of tokens and back: no entity moves, none is invented."""

import pytest

from keraseff.data.builtin import synthetic_entities
from keraseff.data.entity_windows import entity_windows
from keraseff.data.entity_windows import join_windows
from keraseff.data.entity_windows import token_spans
from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers.per_character import CharacterTokenizer


def in_characters(window):
    return [
        (window.mapping[first][0], window.mapping[last][-1] + 1, kind)
        for first, last, kind in window.spans
    ]


@pytest.mark.parametrize('maxlen', [24, 64])
def test_there_and_back(maxlen):
    rows = synthetic_entities(60)
    tokenizer = CharacterTokenizer.from_texts(text for text, _ in rows)
    windows = entity_windows(rows, tokenizer, maxlen, overlap=32)
    assert max(len(w.token_ids) for w in windows) <= maxlen
    found = [in_characters(w) for w in windows]
    joined = join_windows(windows, found, len(rows))
    reach = min(32, (maxlen - 2) // 3)
    for (_, entities), spans in zip(rows, joined, strict=True):
        assert set(spans) <= set(entities)
        lost = set(entities) - set(spans)
        assert all(end - start > reach for start, end, _ in lost)
    # the order of the windows, which batches by length change, makes no difference
    assert join_windows(windows[::-1], found[::-1], len(rows)) == joined


def test_texts_without_a_window_have_no_entities():
    tokenizer = CharacterTokenizer.from_texts(['甲乙'])
    windows = entity_windows([('', []), ('甲乙', [(0, 1, 'x')])], tokenizer, 16)
    assert [w.row for w in windows] == [1]
    assert join_windows(windows, [[(0, 1, 'x')]], 2) == [[], [(0, 1, 'x')]]
    with pytest.raises(ValueError, match='maxlen=2'):
        entity_windows([('甲', [])], tokenizer, 2)


def test_entities_that_no_tokens_begin_and_end_are_left_out():
    vocab = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'iphone', '我', '买']
    tokenizer = Tokenizer({t: i for i, t in enumerate(vocab)}, do_lower_case=True)
    text = '我买iPhone'
    mapping = tokenizer.rematch(text)
    assert token_spans([(2, 8, 'whole')], mapping) == [(3, 3, 'whole')]
    assert token_spans([(2, 4, 'part'), (0, 3, 'part')], mapping) == []
    assert token_spans([(0, 8, 'all'), (1, 2, 'one')], mapping) == [
        (1, 3, 'all'), (2, 2, 'one'),
    ]  # fmt: skip
