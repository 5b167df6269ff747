"""Texts with entities to windows of tokens, as a model takes them, and back."""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

from keraseff.data.corpora import Example
from keraseff.decoding.spans import merge_windows
from keraseff.text.normalize import sliding_windows
from keraseff.tokenizers.base import TokenizerBase


class Window(NamedTuple):
    """A piece of a text, tokenized.

    `token_ids` comes first, for its length is what batches are sorted by; `mapping` is
    `rematch`'s; `spans` are (first token, last token, type), both included; `row` and
    `offset` say where the piece stood, `length` how many characters it has.
    """

    token_ids: list[int]
    mapping: list[list[int]]
    spans: list[tuple[int, int, str]]
    row: int
    offset: int
    length: int


def entity_windows(
    rows: Iterable[Example], tokenizer: TokenizerBase, maxlen: int, overlap: int = 32
) -> list[Window]:
    """Windows of at most `maxlen` tokens over the texts of (text, entities) rows.

    Args:
        tokenizer: with `tokenize`, `tokens_to_ids` and `rematch`.
        maxlen: tokens a window, [CLS] and [SEP] counted.
        overlap: characters that two windows of a text share, at most a third of one;
            an entity no longer than this stands whole in one of them.

    An entity that is not whole in a window, or begins or ends inside of a token, is
    left out of it.
    """
    size = maxlen - 2
    if size < 1:
        raise ValueError(f'maxlen={maxlen} leaves no token beside [CLS] and [SEP]')
    windows = []
    for row, (text, entities) in enumerate(rows):
        for offset, piece in sliding_windows(text, size, min(overlap, size // 3)):
            tokens = tokenizer.tokenize(piece, maxlen=maxlen)
            mapping = tokenizer.rematch(piece, tokens)
            inside = [(s - offset, e - offset, kind) for s, e, kind in entities]
            windows.append(
                Window(
                    tokenizer.tokens_to_ids(tokens),
                    mapping,
                    token_spans(inside, mapping),
                    row,
                    offset,
                    len(piece),
                )
            )
    return windows


def token_spans(
    entities: Iterable[Sequence], mapping: Sequence[Sequence[int]]
) -> list[tuple[int, int, str]]:
    """(first token, last token, type) of the entities that tokens begin and end.

    Args:
        entities: (start, end, type, …), half-open, in characters.
        mapping: for each token the characters it is made of.
    """
    firsts, lasts = {}, {}
    for i, characters in enumerate(mapping):
        if characters:
            firsts.setdefault(characters[0], i)
            lasts[characters[-1] + 1] = i
    return [
        (firsts[start], lasts[end], kind)
        for start, end, kind, *_ in entities
        if start in firsts and end in lasts and firsts[start] <= lasts[end]
    ]


def join_windows(
    windows: Sequence[Window], found: Sequence[Iterable[Sequence]], count: int
) -> list[list[tuple]]:
    """The entities of each of `count` texts, from those found in their windows.

    Args:
        windows: in any order.
        found: for each window (start, end, type[, score]) in characters of the window.
    """
    parts: list[list] = [[] for _ in range(count)]
    for window, spans in zip(windows, found, strict=True):
        parts[window.row].append((window.offset, list(spans), window.length))
    for row in parts:
        row.sort(key=lambda part: part[0])
    return [
        merge_windows([part[:2] for part in row], [part[2] for part in row])
        for row in parts
    ]
