"""Corpora of named entities: files in many formats to plain (text, entities) rows.

A row is a tuple (text, entities); entities is a sorted list, without duplicates, of
tuples (start, end, type), half-open, in characters.
"""

import itertools
import os
import re
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from typing import NamedTuple

import numpy as np

from keraseff.data.entity_formats import FORMATS
from keraseff.data.entity_formats import Format
from keraseff.data.entity_json import json_records
from keraseff.data.entity_lines import Raw
from keraseff.data.files import atomic_write
from keraseff.data.files import read_lines
from keraseff.decoding.tags import split_tag

# not just a bracket, with which a text may begin
_JSON = re.compile(r'\s*(\{\s*("|\}|$)|\[\s*(\{|\]|$))')

Entity = tuple[int, int, str]
Example = tuple[str, list[Entity]]


class Split(NamedTuple):
    """Rows to train on and rows to choose by, and the files that they came from.

    `dev_path` is None when dev was cut from the training file.
    """

    train: list[Example]
    dev: list[Example]
    train_path: Path
    dev_path: Path | None
    format: str


def load_entities(path: str | os.PathLike, format: str | None = None) -> list[Example]:
    """The rows of one file.

    Args:
        path: also .gz, or a .zip with one file inside.
        format: a key of `FORMATS`: 'cluener', 'cmeee_text', 'cmeee_json', 'columns',
            'doccano' or 'label_studio'. None: `detect_format` says.

    Rows without labels, as in test sets, have an empty list.
    Raises ValueError, beginning with FILE:LINE, where offsets are out of range or
    empty, or do not give the words that the file names.
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
        raise ValueError(f'{where}: the text is {text!r}, not a string')
    entities = set()
    for start, end, kind, words in spans:
        if type(start) is not int or type(end) is not int:
            raise ValueError(f'{where}: {start!r}, {end!r} are not whole numbers')
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f'{where}: the {kind} from {start} to {end} (exclusive) is empty or '
                f'outside of the {len(text)} characters of {text[:30]!r}'
            )
        if words is not None and text[start:end] != words:
            raise ValueError(
                f'{where}: the {kind} from {start} to {end} (exclusive) is '
                f'{text[start:end]!r}, but the file calls it {words!r}'
            )
        if not isinstance(kind, str) or not kind:
            raise ValueError(f'{where}: the type {kind!r} is not a name')
        entities.add((start, end, kind))
    return text, sorted(entities)


def detect_format(path: str | os.PathLike) -> str:
    """Which of `FORMATS` a file is in, judged by its first lines.

    JSON with nothing but texts counts as 'cluener'.
    Raises ValueError, saying what was looked for, if it looks like none.
    """
    path = Path(path)
    lines = [text for _, text in itertools.islice(read_lines(path), 200)]
    lines = [line for line in lines if line.strip()]
    found = None
    # a tag or two may be wrong: reading then says where
    if lines and sum(map(_is_tagged, lines)) >= 0.9 * len(lines):
        found = 'columns'
    elif lines and _JSON.match(lines[0]):
        found = _detect_json(path)
    elif any('|||' in line for line in lines):
        found = 'cmeee_text'
    if found is None:
        known = '; '.join(f'{name}: {form.looks}' for name, form in FORMATS.items())
        raise ValueError(
            f'{path}: looks like no known format ({known}); it begins '
            f'{lines[0][:60] if lines else ""!r}. Name the format if it is one.'
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


_ROLES = {
    'train': {'train', 'training'},
    'dev': {'dev', 'val', 'valid', 'validation', 'eval'},
    'test': {'test', 'testing'},
}


def load_split(
    path: str | os.PathLike,
    format: str | None = None,
    seed: int = 0,
    fraction: float = 0.1,
) -> Split:
    """The training and development rows of a corpus.

    Args:
        path: a directory with files named as usual (train.json, dev.json;
            train_data_all.txt, val_data.txt; train.char.bmes, example.dev …), or one
            file, from which dev is cut.
        format: as in `load_entities`.
        seed: for cutting; the same text never lands on both sides.
        fraction: share of the texts that are cut off.

    A directory without a dev file uses its test file if that has labels, else cuts.
    Raises ValueError, listing the files, when there is none to train on.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f'{path} does not exist')
    files = {'train': path, 'dev': None, 'test': None}
    if path.is_dir():
        files = {role: _find(path, role) for role in _ROLES}
    if files['train'] is None:
        names = ', '.join(sorted(file.name for file in path.iterdir()))
        raise ValueError(
            f'{path}: no file is named like training data (train.json, '
            f'train_data.txt, train.char.bmes); found {names}. Name one of them.'
        )
    found = format or detect_format(files['train'])
    train = load_entities(files['train'], found)
    for role in ('dev', 'test'):
        dev = _load_labelled(files[role], format)
        if dev:
            return Split(train, dev, files['train'], files[role], found)
    train, dev = _cut(train, seed, fraction)
    return Split(train, dev, files['train'], None, found)


def _find(folder: Path, role: str) -> Path | None:
    def parts(file: Path) -> list[str]:
        return re.findall('[a-z]+', file.name.lower())

    # the first part that names a role decides: test_val.txt is a test file
    candidates = []
    for file in folder.iterdir():
        roles = [r for part in parts(file) for r in _ROLES if part in _ROLES[r]]
        if file.is_file() and roles[:1] == [role] and file.name[0] != '.':
            candidates.append(file)
    candidates.sort(key=lambda file: ('all' not in parts(file), len(file.name), file))
    return candidates[0] if candidates else None


def _load_labelled(path: Path | None, format: str | None) -> list[Example]:
    if path is None:
        return []
    try:
        name = format or detect_format(path)
    except ValueError:  # plain texts, such as an unlabelled test file
        return []
    rows = load_entities(path, name)
    return rows if any(entities for _, entities in rows) else []


def _cut(
    rows: list[Example], seed: int, fraction: float
) -> tuple[list[Example], list[Example]]:
    if not 0 < fraction < 1:
        raise ValueError(f'fraction={fraction} must lie between 0 and 1')
    texts = sorted({text for text, _ in rows})
    if len(texts) < 2:
        raise ValueError(f'{len(texts)} different texts can not be split in two')
    count = min(max(1, round(fraction * len(texts))), len(texts) - 1)
    chosen = np.random.default_rng(seed).permutation(len(texts))[:count]
    held = {texts[i] for i in chosen}
    return (
        [row for row in rows if row[0] not in held],
        [row for row in rows if row[0] in held],
    )


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
    Raises ValueError for entities outside of their text and texts that the format
    can not hold.
    """
    checked = (_writable(i, text, entities) for i, (text, entities) in enumerate(rows))
    pieces = _format(format).write(checked, **options)
    with atomic_write(path) as file:
        file.writelines(pieces)


def _writable(i: int, text: str, entities: Iterable[tuple]) -> tuple[str, list]:
    entities = sorted(tuple(entity) for entity in entities)
    for start, end, kind, *_ in entities:
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f'row {i}: the {kind} from {start} to {end} is empty or outside of the '
                f'{len(text)} characters of {text[:30]!r}'
            )
    return text, entities


def iter_texts(source: str | os.PathLike | IO[str] | Iterable[str]) -> Iterator[str]:
    """The lines of a path or of anything that yields lines (sys.stdin), blank ones too.

    Without their line ends; one answer a line keeps both files in step.
    """
    if isinstance(source, (str, os.PathLike)):
        for _, line in read_lines(source):
            yield line
        return
    for i, line in enumerate(source):
        line = line.removesuffix('\n').removesuffix('\r')
        yield line.removeprefix('\ufeff') if i == 0 else line


def entity_types(rows: Iterable[Example]) -> list[str]:
    """The types that occur, sorted."""
    return sorted({entity[2] for _, entities in rows for entity in entities})
