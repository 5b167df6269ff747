"""Texts of which each has one label: files in several formats to plain rows.

A row is a tuple (text, label), both strings; the label is None where there is none.
"""

import csv
import os
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keraseff.data.lines import BadRow
from keraseff.data.lines import archive_names
from keraseff.data.lines import brief
from keraseff.data.lines import parse_json
from keraseff.data.lines import read_lines

Row = tuple[str, str | None]
Numbered = tuple[int, dict[str, Any]]

_TEXTS = 'text', 'sentence', 'review', 'content', 'title'
_LABELS = 'label', 'class', 'category'
_NAMES = 'label_zh', 'label_des', 'label_desc'


def load_labelled(
    path: str | os.PathLike, format: str | None = None, label: str | None = None
) -> list[Row]:
    """The rows of one file.

    Args:
        path: also .gz, a .zip with one file inside, or `archive.zip/file`.
        format: 'json' (an object a line), 'csv' (with a heading) or 'tsv' (text and
            label, or label and text, between tabs, no heading); None: it is recognised.
        label: the field that is the label; by default one of label, class, category,
            of which label_zh, label_des and label_desc are the names.

    In 'tsv' the label is the column with fewer different values.  Texts are stripped of
    white space around them, and may be empty.
    Raises BadRow, a ValueError beginning with FILE:LINE, for a row that is not as the
    format says; ValueError for an empty file or an unknown format.
    """
    path = Path(path)
    format = format or _detect(path)
    if format not in _READERS:
        raise ValueError(f'format={format!r} is not one of {", ".join(_READERS)}')
    rows = _READERS[format](path, label)
    if not rows:
        raise ValueError(f'{path} holds no rows')
    return rows


def _detect(path: Path) -> str:
    first = next((text for _, text in read_lines(path) if text.strip()), '')
    if first.lstrip()[:1] == '{':
        return 'json'
    if '\t' in first:
        return 'tsv'
    if {*_TEXTS} & {*first.strip().split(',')}:
        return 'csv'
    raise ValueError(
        f'{path}: looks like no known format (json: an object a line; tsv: text and '
        f'label between tabs; csv: a heading with {", ".join(_TEXTS)}); it begins '
        f'{first[:60]!r}'
    )


def _read_tsv(path: Path, label: str | None) -> list[Row]:
    rows = []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        fields = line.split('\t')
        if len(fields) != 2 or not all(field.strip() for field in fields):
            raise BadRow(
                f'{path}:{number}: expected a text and a label with one tab between '
                f'them, found {brief(line)}'
            )
        rows.append([field.strip() for field in fields])
    different = [len({row[i] for row in rows}) for i in (0, 1)]
    if different[0] < different[1]:
        return [(text, name) for name, text in rows]
    return [(text, name) for text, name in rows]


def _json_records(path: Path) -> Iterator[Numbered]:
    for number, line in read_lines(path):
        if line.strip():
            value = parse_json(line, f'{path}:{number}')
            if not isinstance(value, dict):
                raise BadRow(f'{path}:{number}: {brief(value)} is no object {{…}}')
            yield number, value


def _csv_records(path: Path) -> Iterator[Numbered]:
    lines = csv.reader(text + '\n' for _, text in read_lines(path))
    try:
        heading = next(lines, [])
        for fields in lines:
            if not fields:
                continue
            if len(fields) != len(heading):
                raise BadRow(
                    f'{path}:{lines.line_num}: {len(fields)} fields, and the heading '
                    f'has {len(heading)}: {", ".join(heading)}'
                )
            yield lines.line_num, dict(zip(heading, fields, strict=True))
    except csv.Error as error:
        raise BadRow(f'{path}:{lines.line_num}: {error}') from error


def _fields(
    read: Callable[[Path], Iterator[Numbered]],
) -> Callable[[Path, str | None], list[Row]]:
    def rows(path: Path, label: str | None) -> list[Row]:
        found = []
        for number, record in read(path):
            where = f'{path}:{number}'
            keys = [key for key in _TEXTS if key in record]
            if not keys:
                raise BadRow(
                    f'{where}: none of {", ".join(_TEXTS)} is among its fields, '
                    f'{", ".join(record) or "of which there are none"}'
                )
            text = record[keys[0]]
            if not isinstance(text, str):
                raise BadRow(f'{where}: the {keys[0]} is {brief(text)}, no string')
            found.append((text.strip(), _label(record, label, where)))
        return found

    return rows


def _label(record: dict[str, Any], label: str | None, where: str) -> str | None:
    if label and label not in record:
        raise BadRow(f'{where}: there is no field {label!r}')
    for key in [label] if label else [*_NAMES, *_LABELS]:
        value = record.get(key)
        if value is None or value == '':
            continue
        if isinstance(value, (str, int)):
            return str(value)
        raise BadRow(f'{where}: the {key} {brief(value)} is neither name nor number')
    return None


_READERS = {
    'tsv': _read_tsv,
    'json': _fields(_json_records),
    'csv': _fields(_csv_records),
}


def label_names(path: str | os.PathLike) -> dict[str, str]:
    """{label: name} as a file beside the data says, or nothing.

    Args:
        path: a directory, in which `label_index2en2zh.json` (as tnews has it) or
            `class.txt` (as THUCNews has it: line by line, for 0, 1, …) is looked for.
    """
    path = Path(path)
    listed = path / 'label_index2en2zh.json'
    if listed.is_file():
        found = {}
        for number, record in _json_records(listed):
            where = f'{listed}:{number}'
            name = _label(record, None, where)
            for key in ('label', 'label_desc'):
                found[str(record.get(key))] = name
        return found
    listed = path / 'class.txt'
    if listed.is_file():
        return {str(i): name.strip() for i, (_, name) in enumerate(read_lines(listed))}
    return {}


def files_of(path: str | os.PathLike) -> list[str]:
    """The files of a directory, or of an archive with several; else none."""
    path = Path(path)
    if path.is_dir():
        return sorted(file.name for file in path.iterdir() if file.is_file())
    names = archive_names(path) if path.is_file() else []
    return names if len(names) > 1 else []
