"""Corpora of named entities: files in many formats to plain (text, entities) rows.

A row is a tuple (text, entities); entities is a sorted list, without duplicates, of
tuples (start, end, type), half-open, in characters.
"""

import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

from keraseff.data.entity_formats import FORMATS
from keraseff.data.entity_formats import Format
from keraseff.data.entity_json import json_records
from keraseff.data.entity_lines import Raw
from keraseff.data.files import atomic_write
from keraseff.data.lines import BadRow
from keraseff.data.lines import brief
from keraseff.data.lines import read_lines
from keraseff.decoding.tags import split_tag

# not just a bracket, with which a text may begin
_JSON = re.compile(r'\s*(\{\s*("|\}|$)|\[\s*(\{|\]|$))')

Entity = tuple[int, int, str]
Example = tuple[str, list[Entity]]


def load_entities(path: str | os.PathLike, format: str | None = None) -> list[Example]:
    """The rows of one file.

    Args:
        path: also .gz, or a .zip with one file inside.
        format: a key of `FORMATS`: 'cluener', 'cmeee_text', 'cmeee_json', 'columns',
            'doccano' or 'label_studio'. None: `detect_format` says.

    Rows without labels, as in test sets, have an empty list.
    Raises BadRow, a ValueError beginning with FILE:LINE, for a row that is not as the
    format says, offsets that are out of range or empty or do not give the words that
    the file names, bytes that are not UTF-8, and damaged archives.
    """
    path = Path(path)
    read = _format(format or detect_format(path)).read
    return [_checked(raw) for raw in read(path)]


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f'format={name!r} is not one of {", ".join(FORMATS)}')
    return FORMATS[name]


def _checked(raw: Raw) -> Example:
    where, text, spans = raw
    if not isinstance(text, str):
        raise BadRow(f'{where}: the text is {brief(text)}, not a string')
    entities = set()
    for start, end, kind, words in spans:
        if type(start) is not int or type(end) is not int:
            numbers = f'{brief(start)}, {brief(end)}'
            raise BadRow(f'{where}: {numbers} are not whole numbers')
        if not isinstance(kind, str) or not kind:
            raise BadRow(f'{where}: the type {brief(kind)} is not a name')
        if not 0 <= start < end <= len(text):
            raise BadRow(
                f'{where}: the {kind} from {brief(start)} to {brief(end)} (exclusive) '
                f'is empty or outside of the {len(text)} characters of {text[:30]!r}'
            )
        if words is not None and text[start:end] != words:
            raise BadRow(
                f'{where}: the {kind} from {start} to {end} (exclusive) is '
                f'{text[start:end]!r}, but the file calls it {brief(words)}'
            )
        entities.add((start, end, kind))
    return text, sorted(entities)


def detect_format(path: str | os.PathLike) -> str:
    """Which of `FORMATS` a file is in, judged by its first lines.

    JSON with nothing but texts counts as 'cluener'.
    Raises ValueError, saying what was looked for, if it looks like none, or is empty;
    BadRow if it begins like JSON but is none, or can not be read.
    """
    path = Path(path)
    texts = (text for _, text in read_lines(path) if text.strip())
    lines = list(itertools.islice(texts, 200))
    if not lines:
        raise ValueError(f'{path} is empty')
    found = None
    # a tag or two may be wrong: reading then says where
    if sum(map(_is_tagged, lines)) >= 0.9 * len(lines):
        found = 'columns'
    elif _JSON.match(lines[0]):
        found = _detect_json(path)
    elif any('|||' in line for line in lines):
        found = 'cmeee_text'
    elif re.match(r'\s*(\{|\[\s*\{)', lines[0]):
        found = _detect_json(path)  # says what hinders it from being JSON
    if found is None:
        known = '; '.join(f'{name}: {form.looks}' for name, form in FORMATS.items())
        raise ValueError(
            f'{path}: looks like no known format ({known}); it begins '
            f'{lines[0][:60]!r}. Name the format if it is one.'
        )
    return found


def _is_tagged(line: str) -> bool:
    fields = re.split('[\t ]', line.rstrip())
    try:
        split_tag(fields[-1])
    except ValueError:
        return line.startswith('-DOCSTART-')
    return len(fields) > 1


def _detect_json(path: Path) -> str | None:
    undecided = None
    for _, item in itertools.islice(json_records(path), 1000):
        found, sure = _recognise(item)
        if sure:
            return found
        undecided = undecided or found
    return undecided


def _recognise(item: dict) -> tuple[str | None, bool]:
    if isinstance(item.get('data'), dict):
        return 'label_studio', True
    for key in ('label', 'labels', 'entities'):
        value = item.get(key)
        if isinstance(value, dict):
            return 'cluener', bool(value)
        if isinstance(value, list) and value:
            cmeee = isinstance(value[0], dict) and 'start_idx' in value[0]
            return 'cmeee_json' if cmeee else 'doccano', True
        if isinstance(value, list):
            return 'cmeee_json' if key == 'entities' else 'doccano', False
    return ('cluener' if 'text' in item else None), False


def write_entities(
    path: str | os.PathLike,
    rows: Iterable[tuple[str, Iterable[tuple]]],
    format: str,
    **options: str,
) -> None:
    """Write rows, say predictions, in one of the `FORMATS`.

    Args:
        rows: (text, entities); an entity may have a score as its fourth value, which
            'cmeee_json', 'doccano' and 'label_studio' (as predictions) write.
        format: a key of `FORMATS`. 'columns' can not say nested entities and keeps
            the best by score, else the longest.
        options: for 'columns' `scheme`: 'BIO' (default), 'BMES', 'BIOES', 'BMEO'.

    The file appears whole or not at all.
    JSON formats escape a lone surrogate (half a character), others refuse it.
    Raises ValueError, naming the row from 0, for entities outside of their text and
    texts that the format can not hold.
    """
    checked = (_writable(i, text, entities) for i, (text, entities) in enumerate(rows))
    pieces = _format(format).write(checked, **options)
    with atomic_write(path) as file:
        first = next(pieces, '')
        # a reader takes the first of these for the file's own mark
        file.write('\ufeff' * first.startswith('\ufeff') + first)
        file.writelines(pieces)


def _writable(i: int, text: str, entities: Iterable[tuple]) -> tuple[str, list]:
    entities = sorted(tuple(entity) for entity in entities)
    for start, end, kind, *_ in entities:
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f'row {i}: the {kind} from {start} to {end} is empty or outside of the '
                f'{len(text)} characters of {text[:30]!r}'
            )
    if re.search('[\ud800-\udbff][\udc00-\udfff]', text):
        raise ValueError(
            f'row {i}: two halves of one character stand side by side in '
            f'{text[:30]!r}; no format can keep them apart'
        )
    return text, entities


def entity_types(rows: Iterable[Example]) -> list[str]:
    """The types that occur, sorted."""
    return sorted({entity[2] for _, entities in rows for entity in entities})
