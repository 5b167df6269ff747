"""Text files: random access by line, JSON lines, tables, columns, safe writing."""

import builtins
import contextlib
import json
import os
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from typing import Any

from keraseff.data.lines import BadRow
from keraseff.data.lines import parse_json
from keraseff.data.lines import read_lines


class open:  # noqa: N801 - bert4keras' name
    """A file whose lines can also be fetched by number, however big it is.

    Args:
        name: path of the file.
        mode: as in Python's open.
        encoding: of a text file; None is UTF-8.
        errors: what to do with bytes that do not decode, as in Python's open.
        indexable: True finds where every line begins, so that `f[i]` and `len(f)`
            work; a path does the same and keeps the index there as JSON for the
            next time (it is made anew when the file has changed).

    Lines keep their line end, as Python's do.
    Raises TypeError for `f[i]` or `len(f)` without `indexable`.
    """

    def __init__(
        self,
        name: str | os.PathLike,
        mode: str = 'r',
        encoding: str | None = None,
        errors: str = 'strict',
        indexable: bool | str | os.PathLike = False,
    ):
        self.name = name
        self.binary = 'b' in mode
        self.encoding = encoding or 'utf-8'
        self.errors = errors
        if indexable and mode not in ('r', 'rt', 'rb'):
            raise ValueError(f'indexable needs a file opened for reading, not {mode!r}')
        if self.binary or indexable:
            self.file = builtins.open(name, 'rb' if indexable else mode)
        else:
            self.file = builtins.open(name, mode, encoding=self.encoding, errors=errors)
        self.offsets = self._index(indexable) if indexable else None

    def _index(self, cache: bool | str | os.PathLike) -> list[int]:
        stat = os.stat(self.name)
        stamp = [stat.st_size, stat.st_mtime_ns]
        if cache is not True and os.path.exists(cache):
            with builtins.open(cache, encoding='utf-8') as file:
                known = json.load(file)
            if isinstance(known, dict) and known.get('stamp') == stamp:
                return known['offsets']
        offsets, position = [], 0
        for line in self.file:
            offsets.append(position)
            position += len(line)
        if cache is not True:
            with atomic_write(cache) as file:
                json.dump({'stamp': stamp, 'offsets': offsets}, file)
        return offsets

    def _indexed(self) -> list[int]:
        if self.offsets is None:
            raise TypeError(f'{self.name} was opened without indexable=True')
        return self.offsets

    def __len__(self) -> int:
        return len(self._indexed())

    def __getitem__(self, i: int | slice) -> Any:
        offsets = self._indexed()
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(offsets)))]
        self.file.seek(offsets[i])
        return self._decode(self.file.readline())

    def _decode(self, line: Any) -> Any:
        if self.binary or isinstance(line, str):
            return line
        return line.decode(self.encoding, self.errors)

    def __iter__(self) -> Iterator[Any]:
        if self.offsets is None:
            yield from self.file
        else:
            for i in range(len(self.offsets)):
                yield self[i]

    def read(self, size: int = -1) -> Any:
        """The next `size` characters (bytes if binary); all of the rest if -1."""
        return self._decode(self.file.read(size))

    def readline(self) -> Any:
        """The next line."""
        return self._decode(self.file.readline())

    def readlines(self) -> list:
        """All remaining lines."""
        return [self._decode(line) for line in self.file]

    def write(self, content: Any) -> int:
        """Write a string (bytes if binary)."""
        return self.file.write(content)

    def seek(self, offset: int = 0) -> int:
        """Go to a byte offset."""
        return self.file.seek(offset)

    def tell(self) -> int:
        """Where in the file the next read or write happens."""
        return self.file.tell()

    def flush(self) -> None:
        """Hand what was written to the system."""
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> 'open':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike, mode: str = 'w', encoding: str = 'utf-8'
) -> Iterator[IO]:
    """Open a file that appears under its name only when the block ends well.

    It is written beside `path` under a temporary name and then renamed, so that no
    reader ever sees half of it and a failure leaves the old file as it was.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
    text = {} if 'b' in mode else {'encoding': encoding, 'newline': '\n'}
    try:
        with os.fdopen(handle, mode, **text) as file:
            yield file
        os.chmod(temporary, _mode_for(path))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _mode_for(path: Path) -> int:
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0)  # the only way to ask for it is to set it
    os.umask(umask)
    return 0o666 & ~umask


def read_jsonl(path: str | os.PathLike) -> Iterator[Any]:
    """The value on each line that is not blank.

    Raises BadRow naming FILE:LINE for a line that is not JSON.
    """
    for number, line in read_lines(path):
        if line.strip():
            yield parse_json(line, f'{path}:{number}')


def write_jsonl(path: str | os.PathLike, values: Iterable[Any]) -> None:
    """Write one JSON value a line, Chinese characters as they are."""
    with atomic_write(path) as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + '\n')


def read_tsv(
    path: str | os.PathLike, columns: int | None = None, separator: str = '\t'
) -> Iterator[tuple[str, ...]]:
    """The fields of each line that is not empty.

    Args:
        columns: how many a line must have; None takes any number.
        separator: between fields; there is no quoting.

    Raises BadRow naming FILE:LINE for a line with another number of fields.
    """
    for number, line in read_lines(path):
        if not line:
            continue
        fields = tuple(line.split(separator))
        if columns is not None and len(fields) != columns:
            raise BadRow(
                f'{path}:{number}: {len(fields)} fields instead of {columns} between '
                f'{separator!r}: {line[:60]!r}'
            )
        yield fields


def read_columns(path: str | os.PathLike) -> Iterator[list[tuple[str, ...]]]:
    """The sentences of a file with one token a line and blank lines between sentences.

    A sentence is a list of tuples (token, ..., tag). Fields stand between tabs if the
    line has any, else between spaces; a token may itself be a space. `-DOCSTART-` lines
    are left out.
    """
    for _, sentence in numbered_columns(path):
        yield sentence


def numbered_columns(
    path: str | os.PathLike,
) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    """As `read_columns`, each sentence with the number of its first line."""
    first, sentence = 0, []
    for number, line in read_lines(path):
        # str.strip() alone would take U+3000 and U+00A0, which are tokens in real files
        blank = not line.strip(' \t')
        if blank or line.startswith('-DOCSTART-'):
            if sentence:
                yield first, sentence
            sentence = []
            continue
        if not sentence:
            first = number
        sentence.append(_fields(line))
    if sentence:
        yield first, sentence


def _fields(line: str) -> tuple[str, ...]:
    separator = '\t' if '\t' in line else ' '
    if line[0] != separator:
        return tuple(field for field in line.split(separator) if field)
    token = separator if line[1] == separator else ' '
    return (token, *(field for field in line.split(separator) if field))
