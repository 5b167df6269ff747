"""Readers and writers of entity files that are lines of text: |||, columns."""

import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import NamedTuple

from keraseff.data.files import numbered_columns
from keraseff.data.lines import BadRow
from keraseff.data.lines import brief
from keraseff.data.lines import read_lines
from keraseff.decoding.spans import flatten_spans
from keraseff.decoding.tags import spans_to_tags
from keraseff.decoding.tags import tags_to_spans

Row = tuple[str, Sequence[tuple]]


class Raw(NamedTuple):
    """A row as read: where it stood, its text, (start, end, type, words or None)."""

    where: str
    text: str
    spans: list[tuple[Any, Any, Any, str | None]]


def read_cmeee_text(path: Path) -> Iterator[Raw]:
    """CMeEE, first edition: text|||start    end    type|||…, ends inclusive.

    Entities whose end is just before their start, i.e. that hold nothing, are left
    out: the official training file has two.
    """
    for number, line in read_lines(path):
        where = f'{path}:{number}'
        text, *pieces = line.split('|||')
        if not line:
            continue
        spans = []
        for piece in pieces:
            fields = piece.split()
            if not fields:
                continue
            if len(fields) != 3 or not (fields[0] + fields[1]).isdecimal():
                raise BadRow(
                    f'{where}: expected "start end type" between |||, '
                    f'got {brief(piece)}'
                )
            if max(map(len, fields[:2])) > 18:  # Python refuses thousands of digits
                raise BadRow(f'{where}: {brief(piece)} has a number of too many digits')
            start, end = int(fields[0]), int(fields[1]) + 1
            if start != end:
                spans.append((start, end, fields[2], None))
        yield Raw(where, text, spans)


def write_cmeee_text(rows: Iterable[Row]) -> Iterator[str]:
    """As read; a text with a line feed or ||| in it raises ValueError."""
    for i, (text, entities) in enumerate(rows):
        _refuse(i, text, r'\n|\|\|\||[\ud800-\udfff]', 'cmeee_text')
        for entity in entities:
            _refuse(i, entity[2], r'\s|\|\|\||[\ud800-\udfff]', 'cmeee_text', 'type')
        pieces = [f'{s}    {e - 1}    {kind}' for s, e, kind, *_ in entities]
        yield '|||'.join([text, *pieces, '']) + '\n'


def read_tagged(path: Path) -> Iterator[Raw]:
    """One character (or word) a line, tag in the last column, blank between sentences.

    Reads BIO, IOB1, BMES, BIOES and BMEO, also `B_PER` and `PER-B`; ill-formed tags as
    conlleval does. Words are joined without a space, but for two Latin words or
    numbers. A file without a second column has no entities.
    """
    for number, sentence in numbered_columns(path):
        where = f'{path}:{number}'
        text, places = _join([fields[0] for fields in sentence])
        tags = [fields[-1] if len(fields) > 1 else 'O' for fields in sentence]
        try:
            found = tags_to_spans(tags)
        except ValueError as error:
            raise BadRow(f'{_bad_tag(path, number, tags)}: {error}') from error
        spans = [
            (places[s][0], places[e - 1][1], kind or 'entity', None)
            for s, e, kind in found
        ]
        yield Raw(where, text, spans)


def _bad_tag(path: Path, number: int, tags: list[str]) -> str:
    for i, tag in enumerate(tags):
        try:
            tags_to_spans([tag])
        except ValueError:
            return f'{path}:{number + i}'
    return f'{path}:{number}'


def _join(tokens: list[str]) -> tuple[str, list[tuple[int, int]]]:
    text, places, last = '', [], ''
    for token in tokens:
        touching = last[-1:] + token[:1]
        words = len(touching) == 2 and touching.isascii() and touching.isalnum()
        if words and len(last) + len(token) > 2:
            text += ' '
        places.append((len(text), len(text) + len(token)))
        text, last = text + token, token
    return text, places


def write_tagged(rows: Iterable[Row], scheme: str = 'BIO') -> Iterator[str]:
    """One character a line, a tab, its tag.

    Columns can not say nested or overlapping entities: the best by score, else the
    longest, is kept. A text of nothing but spaces is written as any other, and read
    back. A text with a line feed, or an empty one, raises ValueError.
    """
    for i, (text, entities) in enumerate(rows):
        _refuse(i, text, r'\n|[\ud800-\udfff]', 'columns')
        for entity in entities:
            _refuse(i, entity[2], r'[\n\r\t]|[\ud800-\udfff]', 'columns', 'type')
        if not text:
            raise ValueError(f'row {i}: columns can not hold an empty text')
        tags = spans_to_tags(len(text), flatten_spans(entities), scheme)
        pairs = zip(text, tags, strict=True)
        yield ''.join(f'{character}\t{tag}\n' for character, tag in pairs) + '\n'


def _refuse(i: int, text: str, pattern: str, name: str, what: str = 'text') -> None:
    if found := re.search(pattern, text):
        raise ValueError(
            f'row {i}: {name} can not hold a {what} with {found[0]!r}: {text[:40]!r}; '
            f'a JSON format can'
        )
