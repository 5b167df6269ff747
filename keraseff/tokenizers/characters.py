"""Which characters BERT's tokenizers remove, split at, isolate or fold.

The rules are those of BERT's original tokenizer, at the Unicode version that the
published implementations froze (8.0): punctuation, marks and format characters that
Unicode added later are ordinary characters to them, and so they are here, whatever
the version of Python. Hence the ids do not change with an upgrade.
"""

import functools
import unicodedata

_remembered = functools.lru_cache(maxsize=1 << 16)


def _code_points(ranges: str) -> frozenset[str]:
    """The characters in a list of hexadecimal code points and ranges."""
    characters: set[str] = set()
    for item in ranges.split():
        first, _, last = item.partition('-')
        stop = int(last or first, 16) + 1
        characters.update(chr(code) for code in range(int(first, 16), stop))
    return frozenset(characters)


_LATER_PUNCTUATION = _code_points("""
61d 9fd a76 c77 c84 1b4e-1b4f 1b7d-1b7f 2e43-2e4f 2e52-2e5d 2e60-2e63 10d6e 10ead
10ed0 10f55-10f59 10f86-10f89 113d4-113d5 113d7-113d8 1144b-1144f 1145a-1145b 1145d
11660-1166c 116b9 1183b 11944-11946 119e2 11a3f-11a46 11a9a-11a9c 11a9e-11aa2
11b00-11b09 11be1 11c41-11c45 11c70-11c71 11ef7-11ef8 11f43-11f4f 11fff 12ff1-12ff2
16d6d-16d6f 16e97-16e9a 16fe2 1e5ff 1e95e-1e95f
""")
_LATER_MARKS = _code_points("""
5c8-5c9 7fd 897-89f 8ca-8e1 9fe afa-aff b53-b55 c04 c3c d00 d3b-d3c d81 eba ece 180f
1885-1886 1abf-1af0 1df6-1dfb a82c a8c5 a8ff a9bd 10d24-10d27 10d69-10d6d 10eab-10eac
10ecb-10ecf 10ef0-10eff 10f46-10f50 10f82-10f85 11070 11073-11074 110c2 111c9 111cf
1123e 11241 1133b 113bb-113c0 113ce 113d0 113d2 113e1-113e2 11438-1143f 11442-11444
11446 1145e 1182f-11837 11839-1183a 1193b-1193c 1193e 11943 119d4-119d7 119da-119db
119e0 11a01-11a0a 11a33-11a38 11a3b-11a3e 11a47 11a51-11a56 11a59-11a5b 11a8a-11a96
11a98-11a99 11b60 11b62-11b64 11b66 11c30-11c36 11c38-11c3d 11c3f 11c92-11ca7
11caa-11cb0 11cb2-11cb3 11cb5-11cb6 11d31-11d36 11d3a 11d3c-11d3d 11d3f-11d45 11d47
11d90-11d91 11d95 11d97 11df0 11ef3-11ef4 11f00-11f01 11f36-11f3a 11f40 11f42 11f5a
13440 13447-13455 1611e-16129 1612d-1612f 16f4f 16fe4 1cf00-1cf2d 1cf30-1cf46
1d127-1d128 1d25b-1d25c 1e000-1e006 1e008-1e018 1e01b-1e021 1e023-1e024 1e026-1e02a
1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef
1e6f5 1e944-1e94a
""")
_LATER_FORMATS = _code_points("""
890-891 8e2 110cd 13430-1343f
""")

# Categories that were corrected since.
_WAS_PUNCTUATION = frozenset('\u166d\U000111c9')
_WAS_MARK = frozenset('\u1734\U0001171e')

_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def is_ideograph(ch: str) -> bool:
    """Whether `ch` is a Chinese character (neither kana nor Hangul)."""
    code = ord(ch)
    return any(first <= code <= last for first, last in _IDEOGRAPHS)


@_remembered
def is_split_ideograph(ch: str) -> bool:
    """Whether `ch` becomes a word of its own as a Chinese character.

    U+2B820 to U+2B91F do not: the Rust tokenizer's range starts at U+2B920, and ids
    follow it.
    """
    return is_ideograph(ch) and not '\U0002b820' <= ch <= '\U0002b91f'


@_remembered
def is_space(ch: str) -> bool:
    """Whether `ch` separates words."""
    return ch in ' \t\n\r' or unicodedata.category(ch) in ('Zs', 'Zl', 'Zp')


@_remembered
def is_removed(ch: str) -> bool:
    """Whether `ch` vanishes without separating: controls, formats, private use,
    surrogates, NUL and U+FFFD."""
    if ch in '\t\n\r':
        return False
    if unicodedata.category(ch) in ('Cc', 'Cf', 'Co', 'Cs'):
        return ch not in _LATER_FORMATS
    return ch == '\ufffd'


def is_control(ch: str) -> bool:
    """Whether `ch` is a control or format character, as bert4keras has it."""
    return unicodedata.category(ch) in ('Cc', 'Cf')


@_remembered
def is_punctuation(ch: str) -> bool:
    """Whether `ch` becomes a word of its own as punctuation.

    All ASCII that is neither letter, digit, space nor control counts.
    """
    if '!' <= ch <= '~':
        return not ch.isalnum()
    if unicodedata.category(ch)[0] == 'P':
        return ch not in _LATER_PUNCTUATION
    return ch in _WAS_PUNCTUATION


@_remembered
def is_mark(ch: str) -> bool:
    """Whether `ch` is a non-spacing mark, such as a combining accent."""
    if unicodedata.category(ch) == 'Mn':
        return ch not in _LATER_MARKS
    return ch in _WAS_MARK


def fold(text: str) -> tuple[str, list[int]]:
    """Takes the accents off and lower-cases, character by character.

    Returns:
        the folded text, and for each of its characters the index in `text` that it
        came from.
    """
    units = [(c, i) for i, ch in enumerate(text) for c in _decompose(ch)]
    _reorder(units)
    folded = [(c, i) for ch, i in units if not is_mark(ch) for c in ch.lower()]
    return ''.join(c for c, _ in folded), [i for _, i in folded]


@_remembered
def _decompose(ch: str) -> str:
    return ch if ch < '\xa0' else unicodedata.normalize('NFD', ch)


def _reorder(units: list[tuple[str, int]]) -> None:
    """Sorts each run of combining characters by class, as NFD of a whole text does."""
    start = 0
    while start < len(units):
        stop = start
        while stop < len(units) and unicodedata.combining(units[stop][0]):
            stop += 1
        if stop - start > 1:
            run = units[start:stop]
            units[start:stop] = sorted(run, key=lambda u: unicodedata.combining(u[0]))
        start = stop + 1


def split_words(text: str, lower: bool) -> list[tuple[str, list[int]]]:
    """Splits a text into words as BERT does: at spaces, around ideographs and
    punctuation.

    Args:
        lower: also lower-cases and takes accents off.

    Returns:
        (word, for each of its characters the index in `text` that it came from).
    """
    spaced, origins = [], []
    for i, ch in enumerate(text):
        if is_space(ch):
            piece = ' '
        elif is_removed(ch):
            continue
        else:
            piece = f' {ch} ' if is_split_ideograph(ch) else ch
        spaced.append(piece)
        origins.extend([i] * len(piece))
    cleaned = ''.join(spaced)
    if lower:
        cleaned, sources = fold(cleaned)
        origins = [origins[i] for i in sources]
    return _split(cleaned, origins)


def _split(text: str, origins: list[int]) -> list[tuple[str, list[int]]]:
    words: list[tuple[str, list[int]]] = []
    start = 0
    for i, ch in enumerate(text):
        space = is_space(ch)
        if not space and not is_punctuation(ch):
            continue
        if start < i:
            words.append((text[start:i], origins[start:i]))
        if not space:
            words.append((ch, origins[i : i + 1]))
        start = i + 1
    if start < len(text):
        words.append((text[start:], origins[start:]))
    return words
