"""What makes the tokenizer fast: runs of characters that map one by one to ids."""

import re
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from keraseff.tokenizers.characters import is_punctuation

Value = TypeVar('Value')

# Where Chinese text has its punctuation; the rest comes through the slow way.
_PUNCTUATION_BLOCKS = (
    (0x21, 0x7E), (0xA1, 0xBF), (0x2010, 0x205E), (0x3001, 0x303F),
    (0xFE30, 0xFE6F), (0xFF01, 0xFF65),
)  # fmt: skip


def _singles() -> str:
    """The inside of a regular expression's class: characters that are a word by
    themselves wherever they stand and that folding leaves alone."""
    marks = [
        chr(code)
        for first, last in _PUNCTUATION_BLOCKS
        for code in range(first, last + 1)
        if is_punctuation(chr(code))
    ]
    marks = [ch for ch in marks if unicodedata.normalize('NFD', ch) == ch]
    return '\u3400-\u4dbf\u4e00-\u9fff' + re.escape(''.join(marks))


SINGLES = _singles()
# Characters for which folding is `lower`.
is_simple = re.compile(f'[\t\n -~\u3000{SINGLES}]*').fullmatch
SPACES = re.compile('[ \t\n\r\u3000]+')
# 'x12中文,y' -> ['', 'x12', '中文,', 'y', '']: singles at the even places.
split_runs = re.compile(f'([^{SINGLES}]+)').split


class Cache(dict[str, Value]):
    """A dict that computes a value when it is first asked for, and starts afresh at
    `limit` entries; keys of more than `longest` characters are not kept."""

    def __init__(
        self,
        compute: Callable[[str], Value],
        limit: int = 100_000,
        longest: int = 32,
    ) -> None:
        super().__init__()
        self._compute = compute
        self._limit = limit
        self._longest = longest

    def __missing__(self, key: str) -> Value:
        value = self._compute(key)
        if len(key) <= self._longest:
            if len(self) >= self._limit:
                self.clear()
            self[key] = value
        return value
