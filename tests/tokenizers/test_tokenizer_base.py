"""Lengths and pairs, against popping tokens one by one."""

import random

import pytest
from hostile import VOCABULARY

from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers.base import _share
from keraseff.tokenizers.base import _take_out


def pop_until(maxlen, index, *sequences):
    """Pops at `index` from the longest, the first of equals, while all are too long."""
    while sum(map(len, sequences)) > maxlen:
        max(sequences, key=len).pop(index)
    return list(sequences)


@pytest.mark.parametrize('index', [-2, -1, 0, 1, 2, -3])
def test_truncation_equals_popping(index):
    rng = random.Random(index)
    for _ in range(200):
        sequences = [list(range(rng.randint(3, 15))) for _ in range(rng.randint(1, 2))]
        maxlen = rng.randint(6, 30)
        excess = _share([len(s) for s in sequences], maxlen)
        ours = [_take_out(s, index, n) for s, n in zip(sequences, excess, strict=True)]
        assert ours == pop_until(maxlen, index, *map(list, sequences))


@pytest.mark.parametrize('truncate_from', ['right', 'left', 2, -3])
@pytest.mark.parametrize('pattern', ['S*E*E', 'S*ES*E'])
def test_pairs_equal_popping(pattern, truncate_from):
    tokenizer = Tokenizer(VOCABULARY)
    index = {'right': -2, 'left': 1}.get(truncate_from, truncate_from)
    first, second = '我爱北京天安门', 'abc de北京'
    for maxlen in range(7, 24):
        drop = int(pattern == 'S*E*E')
        a, b = pop_until(
            maxlen + drop, index, tokenizer.tokenize(first), tokenizer.tokenize(second)
        )
        b = b[drop:]
        ids, segments = tokenizer.encode(first, second, maxlen, pattern, truncate_from)
        assert tokenizer.ids_to_tokens(ids) == a + b
        assert segments == [0] * len(a) + [1] * len(b)
        assert len(ids) <= maxlen


def test_which_end_is_cut():
    tokenizer = Tokenizer(VOCABULARY)
    right = tokenizer.encode('我爱北京', maxlen=4)[0]
    left = tokenizer.encode('我爱北京', maxlen=4, truncate_from='left')[0]
    assert tokenizer.ids_to_tokens(right) == ['[CLS]', '我', '爱', '[SEP]']
    assert tokenizer.ids_to_tokens(left) == ['[CLS]', '北', '京', '[SEP]']
    assert tokenizer.tokenize('我爱北京', maxlen=4) == ['[CLS]', '我', '爱', '[SEP]']


def test_maxlen_without_room():
    tokenizer = Tokenizer(VOCABULARY)
    assert len(tokenizer.encode('我爱', maxlen=2)[0]) == 2
    assert len(tokenizer.encode('我爱', '我', maxlen=3)[0]) == 3
    for arguments in [('我',), ('我', '爱')]:
        with pytest.raises(ValueError, match='has no room'):
            tokenizer.encode(*arguments, maxlen=len(arguments))
    with pytest.raises(ValueError, match='has no room'):
        tokenizer.tokenize('我', maxlen=1)
    with pytest.raises(ValueError, match='truncate_from'):
        tokenizer.encode('我', maxlen=2, truncate_from='middle')
    with pytest.raises(ValueError, match='at index'):
        tokenizer.encode('我爱北京', maxlen=4, truncate_from=5)


def test_tokens_in_place_of_texts():
    tokenizer = Tokenizer(VOCABULARY)
    tokens = tokenizer.tokenize('我爱北京')
    kept = list(tokens)
    assert tokenizer.encode(tokens, 'ab', maxlen=6) == tokenizer.encode(
        '我爱北京', tokenizer.tokenize('ab'), maxlen=6
    )
    assert tokens == kept


@pytest.mark.parametrize(
    ('start', 'end'), [(None, None), ('[CLS]', None), (None, '[SEP]')]
)
def test_without_one_of_the_ends(start, end):
    tokenizer = Tokenizer(VOCABULARY, token_start=start, token_end=end)
    ids, segments = tokenizer.encode('我爱', '北')
    shown = [start, '我', '爱', end, '北', end]
    assert tokenizer.ids_to_tokens(ids) == [t for t in shown if t]
    assert sum(segments) == 1 + (end is not None)
    assert len(tokenizer.encode('我爱北京', maxlen=3)[0]) == 3
