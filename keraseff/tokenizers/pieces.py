"""Words cut into pieces, and texts at the specials written in them."""

import re
from collections.abc import Container
from collections.abc import Iterable

from keraseff.tokenizers.characters import split_words


def cut_word(word: str, vocabulary: Container[str], maxlen: int) -> list[str]:
    """WordPiece: always the longest piece from the left, later ones with '##'.

    Returns:
        the pieces; [word] if one is not in the vocabulary or the word is longer than
        `maxlen`.
    """
    if len(word) > maxlen:
        return [word]
    tokens: list[str] = []
    start = 0
    while start < len(word):
        prefix = '##' if start else ''
        for stop in range(len(word), start, -1):
            piece = prefix + word[start:stop]
            if piece in vocabulary:
                break
        else:
            return [word]
        tokens.append(piece)
        start = stop
    return tokens


def one_of(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern that catches any of the tokens, the longest at a place, for `split`;
    None without tokens."""
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    known = '|'.join(re.escape(token) for token in longest_first)
    return re.compile(f'({known})') if known else None


def words_between(
    specials: re.Pattern[str] | None, text: str, lower: bool
) -> list[tuple[str, list[int]]]:
    """`split_words` of what stands between specials, with indices in the whole text."""
    words: list[tuple[str, list[int]]] = []
    offset = 0
    for i, part in enumerate(specials.split(text) if specials else [text]):
        if i % 2 == 0:
            for word, indices in split_words(part, lower):
                words.append((word, [offset + k for k in indices]))
        offset += len(part)
    return words
