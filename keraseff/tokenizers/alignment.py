"""Where in a text its tokens came from."""

from collections.abc import Mapping
from collections.abc import Sequence

from keraseff.tokenizers.vocab import is_special
from keraseff.tokenizers.vocab import stem

Word = tuple[str, list[int]]


def align(
    words: Sequence[Word],
    source: Sequence[str],
    tokens: Sequence[str],
    translate: Mapping[str, str],
    ends: tuple[str | None, str | None],
) -> list[list[int]]:
    """The character indices of each token.

    Tokens that are the beginning and the end of `source`, with nothing or a gap
    between, are matched by place, which is exact; others are searched from the left.

    Args:
        words: (word, the index of each of its characters) of the text.
        source: all tokens of the text, without specials, before translation.
        tokens: the tokens to align.
        translate: {source token: token}.
        ends: the start and the end token.
    """
    stream = ''.join(word for word, _ in words)
    origins = [i for _, indices in words for i in indices]
    first = int(bool(tokens) and tokens[0] == ends[0])
    last = len(tokens) - int(len(tokens) > first and tokens[-1] == ends[1])
    body = list(tokens[first:last])
    shown = [translate.get(token, token) for token in source]
    head = _common(shown, body)
    if head < len(body) and shown[len(shown) - len(body) :] == body:
        head = 0
    tail = _common(shown[head:][::-1], body[head:][::-1])
    if head + tail == len(body):
        spans = _search(stream, origins, source)
        spans = spans[:head] + spans[len(spans) - tail :]
        return [[]] * first + spans + [[]] * (len(tokens) - last)
    original = {new: old for old, new in translate.items()}
    return _search(stream, origins, [original.get(t, t) for t in tokens])


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """How many items two sequences share from the start."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


def _search(
    stream: str, origins: Sequence[int], tokens: Sequence[str]
) -> list[list[int]]:
    spans: list[list[int]] = []
    offset = 0
    for token in tokens:
        if is_special(token):
            spans.append([])
            continue
        piece = stem(token)
        start = stream.find(piece, offset)
        if start < 0:
            raise ValueError(
                f'Token {token!r} was not found in the rest of the text,'
                f' {stream[offset : offset + 20]!r}; rematch needs the text the tokens'
                ' were made of, and the same do_lower_case.'
            )
        offset = start + len(piece)
        spans.append(sorted(set(origins[start:offset])))
    return spans
