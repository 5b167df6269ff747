"""The classes of characters, against Unicode's and against the Rust library's."""

import random
import unicodedata

import pytest

from keraseff.tokenizers import characters
from keraseff.tokenizers.tables import SINGLES
from keraseff.tokenizers.tables import split_runs

SAMPLE = [
    *range(0x3400),
    *random.Random(0).sample(range(0x3400, 0xD800), 3000),
    *range(0xE000, 0x10000, 7),
    *random.Random(1).sample(range(0x10000, 0x110000), 10000),
    *map(ord, characters._LATER_PUNCTUATION | characters._LATER_MARKS),
    *map(ord, characters._LATER_FORMATS | characters._WAS_MARK),
    *map(ord, characters._WAS_PUNCTUATION),
    *range(0x2B810, 0x2B930),
]


def test_classes_equal_the_rust_library():
    normalizers = pytest.importorskip('tokenizers.normalizers')
    pre_tokenizers = pytest.importorskip('tokenizers.pre_tokenizers')
    clean = normalizers.BertNormalizer(True, False, False, False)
    chinese = normalizers.BertNormalizer(False, True, False, False)
    accents = normalizers.BertNormalizer(False, False, True, False)
    split = pre_tokenizers.BertPreTokenizer()
    for code in SAMPLE:
        ch = chr(code)
        cleaned = clean.normalize_str(f'a{ch}b')
        assert characters.is_removed(ch) == (cleaned == 'ab'), hex(code)
        space = cleaned == 'a b'
        assert (characters.is_space(ch) and not characters.is_removed(ch)) == space
        ideograph = chinese.normalize_str(ch) != ch
        assert characters.is_split_ideograph(ch) == ideograph, hex(code)
        assert characters.is_mark(ch) == (accents.normalize_str(ch) == ''), hex(code)
        alone = len(split.pre_tokenize_str(f'a{ch}b')) == 3
        assert characters.is_punctuation(ch) == alone, hex(code)


def test_fold_equals_folding_the_whole_text():
    rng = random.Random(0)
    pool = [chr(c) for c in [*range(0xC0, 0x250), *range(0x300, 0x345), 0x4E00, 0xAC01]]
    for _ in range(500):
        text = ''.join(rng.choices(pool, k=8))
        whole = unicodedata.normalize('NFD', text)
        whole = ''.join(c for c in whole if unicodedata.category(c) != 'Mn')
        folded, origins = characters.fold(text)
        assert folded == ''.join(c.lower() for c in whole)
        assert origins == sorted(origins)
        assert len(origins) == len(folded)


def test_combining_characters_are_put_in_order():
    text = 'a\U0001d16d\u302e'
    assert unicodedata.normalize('NFD', text) == 'a\U0001d16d\u302e'[0] + (
        '\U0001d16d\u302e'
        if unicodedata.combining('\u302e') > unicodedata.combining('\U0001d16d')
        else '\u302e\U0001d16d'
    )
    assert characters.fold(text)[0] == unicodedata.normalize('NFD', text)
    assert sorted(characters.fold(text)[1]) == [0, 1, 2]


@pytest.mark.parametrize('lower', [True, False])
def test_singles_are_words_by_themselves(lower):
    singles = [ch for ch in map(chr, range(0x10000)) if split_runs(ch) == [ch]]
    assert len(singles) > 27000
    assert '，' in singles
    assert '\\' in singles
    for ch in singles:
        words = characters.split_words(f'a{ch}\u0301b', lower)
        assert (ch, [1]) in words
    assert not set('aé1 \u3000한～\u0301\uf900') & set(singles)
    assert SINGLES


def test_words_and_where_they_stand():
    assert characters.split_words(' Ab\x00c中 É,', True) == [
        ('abc', [1, 2, 4]),
        ('中', [5]),
        ('e', [7]),
        (',', [8]),
    ]
