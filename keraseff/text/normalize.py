"""Strings made uniform, and long ones cut."""

import unicodedata

_FULL_TO_HALF = {0x3000: 0x20} | {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SENTENCE_ENDS = '。！？；\n'


def strQ2B(text: str) -> str:  # noqa: N802 (bert4keras' name)
    """Full-width (全角) letters, digits, signs and the space to half-width (半角)."""
    return text.translate(_FULL_TO_HALF)


def lowercase_and_normalize(text: str) -> str:
    """Lower case, and no accents: NFD without its non-spacing marks."""
    text = unicodedata.normalize('NFD', text.lower())
    return ''.join(ch for ch in text if unicodedata.category(ch) != 'Mn')


def text_segmentate(
    text: str, maxlen: int, seps: str = '\n', strips: str | None = None
) -> list[str]:
    """Cuts a text behind separators into pieces of at most `maxlen` characters.

    Neighbouring pieces stay together while they fit. Only a piece that is still too
    long is cut again, at the next separator; without one it stays too long (see
    `sliding_windows` for a bound that holds always).

    Args:
        maxlen: characters a piece.
        seps: separators, one character each, the strongest first.
        strips: characters to strip from both ends of each piece, after white space.
    """
    text = text.strip().strip(strips)
    if not seps or len(text) <= maxlen:
        return [text]
    pieces: list[str] = []
    for chunk in _chunks(text, maxlen, seps[0]):
        pieces.extend(text_segmentate(chunk, maxlen, seps[1:], strips))
    return pieces


def _chunks(text: str, maxlen: int, sep: str) -> list[str]:
    """Joins the parts between separators while they and a separator fit."""
    parts = text.split(sep)
    chunks, chunk = [], ''
    for i, part in enumerate(parts):
        if chunk and part and len(chunk) + len(part) + 1 > maxlen:
            chunks.append(chunk)
            chunk = ''
        chunk += part if i == len(parts) - 1 else part + sep
    return [*chunks, chunk] if chunk else chunks


def sliding_windows(text: str, maxlen: int, overlap: int = 0) -> list[tuple[int, str]]:
    """Covers a text with overlapping windows, cut behind sentences where possible.

    Args:
        maxlen: characters a window, at most.
        overlap: characters that a window shares with the one before it.

    Returns:
        [(offset, text[offset:offset + length])], empty for an empty text. A window
        ends behind the last of 。！？； and line feed in its last third, else at
        `maxlen`.

    Raises:
        ValueError: not 0 <= overlap < maxlen.
    """
    if not 0 <= overlap < maxlen:
        raise ValueError(
            f'overlap={overlap} with maxlen={maxlen} leaves no way forward; use'
            ' 0 <= overlap < maxlen.'
        )
    windows: list[tuple[int, str]] = []
    start = 0
    while text:
        stop = start + maxlen
        if stop >= len(text):
            windows.append((start, text[start:]))
            break
        earliest = max(start + overlap, stop - maxlen // 3)
        ends = [text.rfind(mark, earliest, stop) for mark in _SENTENCE_ENDS]
        stop = max(ends) + 1 or stop
        windows.append((start, text[start:stop]))
        start = stop - overlap
    return windows
