"""Lines of files and streams, numbered, and what to say of those that are bad."""

import builtins
import gzip
import io
import json
import lzma
import os
import reprlib
import zipfile
import zlib
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from typing import Any

_DAMAGE = (
    EOFError,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    NotImplementedError,  # zipfile: an unknown compression
    RuntimeError,  # zipfile: a password is needed
)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


class BadRow(ValueError):  # noqa: N818 - it names what is bad
    """What is wrong with one row of a file; the message begins with FILE:LINE.

    Other ValueErrors about a file say that it is of no known format, or empty.
    """


def brief(value: Any) -> str:
    """`repr`, shortened, for messages; of anything that JSON can hold."""
    try:
        return _SHORT.repr(value)
    except (RecursionError, ValueError):  # nested deeply; a number of too many digits
        return f'a {type(value).__name__} that is too big to show'


def archive_names(path: str | os.PathLike) -> list[str]:
    """The files in a .zip, or none if it is no such archive."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return [
            name
            for name in archive.namelist()
            if not name.endswith('/') and not name.startswith('__MACOSX/')
        ]


def _member(path: Path) -> IO[bytes] | None:
    """What `archive.zip/folder/file` names, or None."""
    for parent in path.parents:
        if parent.is_file():
            name = path.relative_to(parent).as_posix()
            if name in archive_names(parent):
                with zipfile.ZipFile(parent) as archive:
                    return io.BytesIO(archive.read(name))
    return None


def _open_bytes(path: str | os.PathLike) -> IO[bytes]:
    inside = None if os.path.exists(path) else _member(Path(path))
    if inside is not None:
        return inside
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive_names(path)
            if len(names) != 1:
                raise ValueError(
                    f'{path}: expected one file inside, found {names}; '
                    f'unpack it and name the one you mean'
                )
            return io.BytesIO(archive.read(names[0]))
    file = builtins.open(path, 'rb')
    magic = file.read(4)
    if magic[:2] == b'\x1f\x8b':
        file.close()
        return gzip.open(path)
    if magic == b'PK\x03\x04':
        file.close()
        raise zipfile.BadZipFile('the end of the archive is missing')
    file.seek(0)
    return file


def read_lines(
    path: str | os.PathLike, encoding: str = 'utf-8'
) -> Iterator[tuple[int, str]]:
    """Number (from 1) and content of each line, without line end or byte-order mark.

    Reads plain files, .gz, .zip with one file inside, and `archive.zip/file`. Only a
    line feed ends a line: U+2028, U+0085 and the like, which occur inside real texts,
    do not.
    Raises BadRow, naming FILE:LINE, for bytes that are not in `encoding` and where an
    archive is damaged; ValueError for an archive of several files.
    """
    number = 1
    try:
        with _open_bytes(path) as file:
            for line in file:
                text = _decoded(line, f'{path}:{number}', encoding)
                text = text.removesuffix('\n').removesuffix('\r')
                yield number, text.removeprefix('\ufeff') if number == 1 else text
                number += 1
    except _DAMAGE as error:
        raise BadRow(
            f'{path}:{number}: the archive can not be read from here ({error}); '
            f'pack or fetch it again'
        ) from error


def _decoded(line: bytes, where: str, encoding: str) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadRow(
            f'{where}: not {encoding} ({error.reason} at byte {error.start} of the '
            f'line); convert the file to UTF-8 first'
        ) from error


def iter_texts(source: str | os.PathLike | IO[str] | Iterable[str]) -> Iterator[str]:
    """The lines of a path or of anything that yields lines (sys.stdin), blank ones too.

    Without their line ends; one answer a line keeps both files in step.
    Raises BadRow, naming the file (or 'standard input') and the line, for bytes that
    are not text.
    """
    if isinstance(source, (str, os.PathLike)):
        for _, line in read_lines(source):
            yield line
        return
    number, name, lines = 1, _name(source), iter(source)
    while (line := _next_line(lines, name, number)) is not None:
        # a stream may put undecodable bytes into the text, as sys.stdin does in the
        # C locale
        escaped = getattr(source, 'errors', None) == 'surrogateescape'
        if isinstance(line, bytes) or escaped:
            raw = line if isinstance(line, bytes) else line.encode(errors=source.errors)
            line = _decoded(raw, f'{name}:{number}', 'utf-8')
        line = line.removesuffix('\n').removesuffix('\r')
        yield line.removeprefix('\ufeff') if number == 1 else line
        number += 1


def _name(source: Any) -> str:
    name = getattr(source, 'name', None)
    if name in ('<stdin>', 0):
        return 'standard input'
    return str(name) if isinstance(name, (str, os.PathLike)) else 'the stream'


def _next_line(lines: Iterator, name: str, number: int) -> Any:
    try:
        return next(lines, None)
    except UnicodeDecodeError as error:
        # a text stream decodes a block of lines at once
        number += error.object[: error.start].count(b'\n')
        raise BadRow(
            f'{name}:{number}: not {error.encoding} ({error.reason}); convert it to '
            f'UTF-8 first'
        ) from error


def parse_json(text: str, where: str) -> Any:
    """`json.loads` whose error is a BadRow that begins with `where`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(
            f'{where}: not JSON: {json_problem(error)} of {text[:60]!r}'
        ) from error


def json_problem(error: Exception) -> str:
    """What hinders json from reading, in words."""
    if isinstance(error, json.JSONDecodeError):
        return f'{error.msg} at column {error.colno}'
    if isinstance(error, RecursionError):
        return 'lists or objects nested too deeply, at the beginning'
    return 'a number of too many digits somewhere behind the beginning'
