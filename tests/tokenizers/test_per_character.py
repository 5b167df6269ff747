"""One token a character, whatever the character."""

import pytest

from keraseff.tokenizers.per_character import SPECIALS
from keraseff.tokenizers.per_character import CharacterTokenizer

HOSTILE = ['', 'Ａb Ｃ\t1', '\U0001f600é\u0301', 'İß', '\u3000\n', '\ud800', '𠮷野家']


@pytest.mark.parametrize('text', HOSTILE)
def test_a_token_for_each_character(text):
    tokenizer = CharacterTokenizer.from_texts([text])
    tokens = tokenizer.tokenize(text)
    assert len(tokens) == len(text) + 2
    assert tokenizer.rematch(text, tokens) == [[], *([i] for i in range(len(text))), []]
    assert tokenizer.rematch(text) == tokenizer.rematch(text, tokens)
    cut = tokenizer.tokenize(text, maxlen=3)
    assert len(tokenizer.rematch(text, cut)) == len(cut)


def test_vocabulary():
    tokenizer = CharacterTokenizer.from_texts(['Aab', 'ac'], least=2, known='丙')
    assert tokenizer.tokens == [*SPECIALS, 'a', '丙']
    ids, segments = tokenizer.encode('AX丙')
    assert ids == [2, 4, 1, 5, 3]
    assert segments == [0] * 5
    assert tokenizer.decode(ids) == 'a丙'
    with pytest.raises(ValueError, match='must begin with'):
        CharacterTokenizer(['a', 'b'])
