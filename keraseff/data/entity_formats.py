"""The file formats of named entities, one reader and one writer each.

A reader yields `Raw` rows, whose spans are half-open already; `corpora` checks them. A
writer yields the pieces of the file's text.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from keraseff.data import entity_json
from keraseff.data import entity_lines
from keraseff.data.entity_lines import Raw
from keraseff.data.entity_lines import Row


class Format(NamedTuple):
    """How a file is read and written, and what it looks like, in words."""

    read: Callable[[Path], Iterator[Raw]]
    write: Callable[[Iterable[Row]], Iterator[str]]
    looks: str


FORMATS = {
    'cluener': Format(
        entity_json.read_cluener,
        entity_json.write_cluener,
        'JSON lines with a "label" that is an object',
    ),
    'cmeee_text': Format(
        entity_lines.read_cmeee_text,
        entity_lines.write_cmeee_text,
        'lines with ||| before each entity',
    ),
    'cmeee_json': Format(
        entity_json.read_cmeee_json,
        entity_json.write_cmeee_json,
        'JSON with "entities" that have start_idx',
    ),
    'columns': Format(
        entity_lines.read_tagged,
        entity_lines.write_tagged,
        'a character and a tag like B-PER a line',
    ),
    'doccano': Format(
        entity_json.read_doccano,
        entity_json.write_doccano,
        'JSON with "label": [[start, end, type]]',
    ),
    'label_studio': Format(
        entity_json.read_label_studio,
        entity_json.write_label_studio,
        'JSON tasks with "data"',
    ),
}
