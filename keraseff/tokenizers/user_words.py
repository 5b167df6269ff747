"""A list of words that are to stay whole, found longest first."""

from collections.abc import Iterable

from keraseff.tokenizers.characters import is_punctuation
from keraseff.tokenizers.characters import is_space
from keraseff.tokenizers.characters import is_split_ideograph


class UserWords:
    """Finds words of a list in a text, from the left, the longest at each place.

    A word that begins or ends with a letter or digit only counts where no further
    letter or digit touches it: 'art' is not found in 'party'.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(words) - {''}
        lengths: dict[str, set[int]] = {}
        for word in self._words:
            lengths.setdefault(word[0], set()).add(len(word))
        self._lengths = {ch: sorted(n, reverse=True) for ch, n in lengths.items()}

    def split(self, text: str) -> list[tuple[str, bool]]:
        """Cuts a text into (piece, whether it is one of the words)."""
        pieces: list[tuple[str, bool]] = []
        start = i = 0
        while i < len(text):
            length = self._match(text, i)
            if not length:
                i += 1
                continue
            if start < i:
                pieces.append((text[start:i], False))
            pieces.append((text[i : i + length], True))
            start = i = i + length
        if start < len(text):
            pieces.append((text[start:], False))
        return pieces

    def _match(self, text: str, i: int) -> int:
        for length in self._lengths.get(text[i], ()):
            stop = i + length
            if (
                stop <= len(text)
                and text[i:stop] in self._words
                and not (
                    _touching(text[i - 1 : i], text[i])
                    or _touching(text[stop - 1], text[stop : stop + 1])
                )
            ):
                return length
        return 0


def _touching(left: str, right: str) -> bool:
    """Whether no boundary of words lies between two neighbours."""
    return bool(left and right) and not (_is_word(left) or _is_word(right))


def _is_word(ch: str) -> bool:
    return is_split_ideograph(ch) or is_punctuation(ch) or is_space(ch)
