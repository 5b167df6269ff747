"""The cache stays small and asks once."""

import re

from keraseff.tokenizers.characters import fold
from keraseff.tokenizers.tables import SINGLES
from keraseff.tokenizers.tables import Cache
from keraseff.tokenizers.tables import is_simple
from keraseff.tokenizers.tables import split_runs


def test_cache_asks_once_and_starts_afresh():
    asked = []
    cache = Cache(lambda key: asked.append(key) or len(key), limit=3, longest=5)
    assert [cache[key] for key in ['a', 'bb', 'a', 'ccc', 'a']] == [1, 2, 1, 3, 1]
    assert asked == ['a', 'bb', 'ccc']
    assert cache['dd'] == 2
    assert list(cache) == ['dd']
    assert cache['x' * 6] == 6
    assert list(cache) == ['dd']


def test_folding_simple_characters_is_lower():
    simple = [ch for ch in map(chr, range(0x10000)) if is_simple(ch)]
    assert len(simple) > 27000
    assert not is_simple('中é')
    assert fold(''.join(simple))[0] == ''.join(simple).lower()


def test_runs_alternate_and_lose_nothing():
    text = 'x12 中文,y\u3000。é-'
    parts = split_runs(text)
    assert parts == ['', 'x12 ', '中文,', 'y\u3000', '。', 'é', '-']
    assert ''.join(parts) == text
    assert all(re.fullmatch(f'[{SINGLES}]*', part) for part in parts[::2])
