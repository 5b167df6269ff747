"""Longest match, against trying every word at every place."""

import random

from keraseff.tokenizers.user_words import UserWords


def plain(words, text):
    pieces, start = [], 0
    while start < len(text):
        found = [w for w in words if text.startswith(w, start)]
        if found:
            pieces.append((max(found, key=len), True))
            start += len(pieces[-1][0])
        elif pieces and not pieces[-1][1]:
            pieces[-1] = (pieces[-1][0] + text[start], False)
            start += 1
        else:
            pieces.append((text[start], False))
            start += 1
    return pieces


def test_longest_match():
    rng = random.Random(0)
    for _ in range(300):
        words = {''.join(rng.choices('甲乙丙', k=rng.randint(1, 4))) for _ in range(4)}
        text = ''.join(rng.choices('甲乙丙丁', k=12))
        assert UserWords(words).split(text) == plain(words, text)


def test_letters_need_a_boundary():
    words = UserWords(['art', 'a1', 'art中', ''])
    assert words.split('party art,a1中 a12') == [
        ('party ', False),
        ('art', True),
        (',', False),
        ('a1', True),
        ('中 a12', False),
    ]
    assert words.split('art中x')[0] == ('art中', True)
    assert words.split('art\u0301') == [('art\u0301', False)]
    assert words.split('') == []
