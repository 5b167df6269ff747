"""Documents out of text files of any size, one after another."""

import os
from collections.abc import Iterator
from pathlib import Path

from keraseff.data.lines import BadRow
from keraseff.data.lines import brief
from keraseff.data.lines import parse_json
from keraseff.data.lines import read_lines

SUFFIXES = ('.txt', '.jsonl')
MOST = 256  # lines of plain text in a document


def find_texts(*paths: str | os.PathLike) -> list[Path]:
    """The files among the paths, and those in directories that end in SUFFIXES.

    Raises ValueError where a path does not exist, or nothing is found.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(p for p in path.rglob('*') if p.is_file())
            found += [p for p in files if p.suffix in SUFFIXES]
        elif path.exists():
            found.append(path)
        else:
            raise ValueError(f'{path} does not exist')
    if not found:
        names = ', '.join(map(str, paths))
        raise ValueError(f'{names}: no file there ends in {" or ".join(SUFFIXES)}')
    return found


def read_documents(path: str | os.PathLike) -> Iterator[list[str]]:
    """The documents of a file, each a list of texts; only one of them is in memory.

    `.jsonl`: a line is a document, a string, a list of strings (a dialogue), or an
    object with a `text` that is one of these.  Anything else is plain text: each line
    is a text, an empty line ends a document, as do 256 lines.  Spaces at the ends of
    texts are taken off.  Archives as in `read_lines`.

    Raises BadRow, naming FILE:LINE.
    """
    if Path(path).suffix == '.jsonl' or '.jsonl.' in Path(path).name:
        yield from _json_documents(path)
    else:
        yield from _plain_documents(path)


def _plain_documents(path: str | os.PathLike) -> Iterator[list[str]]:
    document: list[str] = []
    for _, line in read_lines(path):
        line = line.strip()
        if line:
            document.append(line)
        if document and (not line or len(document) == MOST):
            yield document
            document = []
    if document:
        yield document


def _json_documents(path: str | os.PathLike) -> Iterator[list[str]]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        value = parse_json(line, f'{path}:{number}')
        if isinstance(value, dict):
            value = value.get('text')
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise BadRow(
                f'{path}:{number}: expected a text, a list of them, or an object with '
                f'"text", not {brief(value)}'
            )
        yield [text.strip() for text in texts if text.strip()]
