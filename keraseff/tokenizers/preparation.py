"""Texts made ready for a model, with the index of each character's origin."""

import functools
import unicodedata
from collections.abc import Sequence

Prepared = tuple[str, list[int]]


def join_words(words: Sequence[str]) -> Prepared:
    """Words with spaces between, whose origin is -1."""
    origins: list[int] = []
    start = 0
    for k, word in enumerate(words):
        origins += [-1] * (k > 0)
        origins += range(start, start + len(word))
        start += len(word)
    return ' '.join(words), origins


def prepare_albert(text: str, lower: bool) -> Prepared:
    """What ALBERT's authors do to a text: white space is unified, letter forms are
    (NFKD), combining characters are left out, and perhaps capitals made small.

    https://github.com/google-research/albert, `preprocess_text`
    """
    units: list[tuple[str, int]] = []
    gap = False
    for i, ch in enumerate(text):
        if ch.isspace():
            gap = bool(units)
            continue
        if gap:
            units.append((' ', i - 1))
            gap = False
        units += [(c, i) for c in _decompose(ch)]
    text, origins = ''.join(c for c, _ in units), [i for _, i in units]
    if lower:
        # The whole text at once, for the sake of the final sigma.
        sizes = [len(ch.lower()) for ch in text]
        origins = [i for i, n in zip(origins, sizes, strict=True) for _ in range(n)]
        text = text.lower()
    return text, origins


@functools.lru_cache(maxsize=1 << 16)
def _decompose(ch: str) -> str:
    forms = unicodedata.normalize('NFKD', ch)
    return ''.join(c for c in forms if not unicodedata.combining(c))
