"""Texts to token ids and the words they belong to."""

import itertools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from keraseff.data.parallel import parallel_apply_generator

Pieces = list[tuple[list[int], list[int]]]


class WordPieces:
    """Texts to token ids, and which of them begin a word of jieba's.

    Args:
        tokenizer: anything with `encode`, `tokenize` and `rematch`.
        cut: text -> its words, which joined are the text; None is `jieba.lcut`
            without its model for unknown words.

    Called with a document, a sequence of texts; gives (ids, starts) for each text that
    is not empty.  The pieces of a foreign word belong together, whatever `cut` says.
    """

    def __init__(self, tokenizer: Any, cut: Callable[[str], list[str]] | None = None):
        self.tokenizer = tokenizer
        self.cut = cut or _jieba_words
        self._ends = _specials_around(tokenizer)
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, document: Sequence[str]) -> Pieces:
        """[(ids, starts)] of the texts that are not empty."""
        pieces = (self.piece(text) for text in document)
        return [piece for piece in pieces if piece[0]]

    def piece(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of a text, without the specials at its ends, and the starts."""
        ids, words = self._ids(text), self.cut(text)
        joined: list[int] = []
        starts: list[int] = []
        for word in words:
            found = self._word(word)
            joined += found
            starts += [1, *[0] * (len(found) - 1)] if found else []
        # the words one by one are not the text where `cut` goes through a token
        return ids, starts if joined == ids else self._matched(text, words)

    def _word(self, word: str) -> tuple[int, ...]:
        found = self._known.get(word)
        if found is None:
            if len(self._known) > 200_000:
                self._known.clear()
            found = self._known[word] = tuple(self._ids(word))
        return found

    def _ids(self, text: str) -> list[int]:
        return self._inner(self.tokenizer.encode(text)[0])

    def _inner(self, tokens: list) -> list:
        first, last = self._ends
        return tokens[first : len(tokens) - last]

    def _matched(self, text: str, words: list[str]) -> list[int]:
        """The starts, from the characters that each token came from."""
        begins = set(np.cumsum([0, *map(len, words)]).tolist())
        tokens = self.tokenizer.tokenize(text)
        places = self._inner(self.tokenizer.rematch(text, tokens))
        starts, behind = [], -1
        for token, place in zip(self._inner(tokens), places, strict=True):
            stop = place[-1] if place else behind
            word = not begins.isdisjoint(range(behind + 1, stop + 1))
            starts.append(int((word or not starts) and token[:2] != '##'))
            behind = stop
        return starts


def _specials_around(tokenizer: Any) -> tuple[int, int]:
    """How many special tokens `encode` puts before and behind a text."""
    specials, some = tokenizer.encode('')[0], tokenizer.encode('a')[0]
    if len(specials) != 1:
        return len(specials) // 2, len(specials) // 2
    return (1, 0) if some[0] == specials[0] else (0, 1)


def _jieba_words(text: str) -> list[str]:
    import jieba

    return jieba.lcut(text, HMM=False)


class _Several:
    """A function of one thing as a function of several, for other processes."""

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __call__(self, things: Sequence[Any]) -> list:
        return [self.function(thing) for thing in things]


def encoded(
    documents: Iterable[Sequence[str]],
    encode: Callable[[Sequence[str]], Pieces],
    workers: int = 1,
    context: str | None = None,
) -> Iterator[Pieces]:
    """`map(encode, documents)`, in order, by several processes.

    Args:
        workers: how many; 1 is this one.
        context: how they are started, see `parallel_apply_generator`.
    """
    if workers < 2:
        yield from map(encode, documents)
        return
    documents = iter(documents)
    parts = iter(lambda: list(itertools.islice(documents, 32)), [])
    results = parallel_apply_generator(
        _Several(encode), parts, workers, 4 * workers, False, False, context
    )
    early: dict[int, list[Pieces]] = {}
    wanted = 0
    for i, pieces in results:
        early[i] = pieces
        while wanted in early:
            yield from early.pop(wanted)
            wanted += 1
