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
    chosen = places([translate.get(token, token) for token in source], tokens, ends)
    if chosen is not None:
        spans = _search(stream, origins, source)
        return [spans[i] if i >= 0 else [] for i in chosen]
    original = {new: old for old, new in translate.items()}
    return _search(stream, origins, [original.get(t, t) for t in tokens])


def places(
    source: Sequence[str], tokens: Sequence[str], ends: tuple[str | None, str | None]
) -> list[int] | None:
    """For each token its index in `source`, -1 for the start and the end token.

    None unless the tokens between those are the beginning and the end of `source`, with
    nothing or a gap between.
    """
    first = int(bool(tokens) and tokens[0] == ends[0])
    last = len(tokens) - int(len(tokens) > first and tokens[-1] == ends[1])
    body = list(tokens[first:last])
    shown = list(source)
    head = _common(shown, body)
    if head < len(body) and shown[len(shown) - len(body) :] == body:
        head = 0
    tail = _common(shown[head:][::-1], body[head:][::-1])
    if head + tail != len(body):
        return None
    kept = [*range(head), *range(len(shown) - tail, len(shown))]
    return [-1] * first + kept + [-1] * (len(tokens) - last)


def pick(
    spans: Sequence[list[int]],
    source: Sequence[str],
    tokens: Sequence[str],
    ends: tuple[str | None, str | None],
) -> list[list[int]]:
    """The spans that belong to `tokens`, when `spans` belong to `source`.

    Raises:
        ValueError: the tokens are not those of `source`, perhaps truncated.
    """
    chosen = places(source, tokens, ends)
    if chosen is None:
        raise ValueError(
            f'The {len(tokens)} tokens {list(tokens[:5])}… are not what `tokenize`'
            ' gives for this text, nor a part of it; pass the text they were made of.'
        )
    return [spans[i] if i >= 0 else [] for i in chosen]


def without_spaces(text: str, indices: Sequence[int]) -> list[int]:
    """Indices of characters, less the white space at both ends unless it is all."""
    kept = [i for i, k in enumerate(indices) if not text[k].isspace()]
    return list(indices[kept[0] : kept[-1] + 1] if kept else indices)


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
