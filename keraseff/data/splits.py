"""Which files of a corpus to train on and which to choose by."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from typing import NamedTuple
from typing import TypeVar

import numpy as np

from keraseff.data.corpora import Example
from keraseff.data.corpora import detect_format
from keraseff.data.corpora import load_entities
from keraseff.data.lines import BadRow

R = TypeVar('R', bound=tuple[Any, ...])


class Split(NamedTuple):
    """Rows to train on and rows to choose by, and the files that they came from.

    `dev_path` is None when dev was cut from the training file.
    """

    train: list[Example]
    dev: list[Example]
    train_path: Path
    dev_path: Path | None
    format: str


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
    Raises ValueError, listing the files, when there is none to train on; BadRow for a
    file that is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f'{path} does not exist')
    files = {'train': path, 'dev': None, 'test': None}
    if path.is_dir():
        files = {role: _find(path, role) for role in _ROLES}
    if files['train'] is None:
        names = sorted(file.name for file in path.iterdir())
        if not names:
            raise ValueError(f'{path} is an empty directory')
        raise ValueError(
            f'{path}: no file is named like training data (train.json, '
            f'train_data.txt, train.char.bmes); found '
            f'{", ".join(names)}. Name one of them.'
        )
    found = format or detect_format(files['train'])
    train = load_entities(files['train'], found)
    for role in ('dev', 'test'):
        dev = _load_labelled(files[role], format)
        if dev:
            return Split(train, dev, files['train'], files[role], found)
    if not train:
        raise ValueError(f'{files["train"]} holds no rows')
    train, dev = cut_by_text(train, seed, fraction)
    return Split(train, dev, files['train'], None, found)


def _find(folder: Path, role: str) -> Path | None:
    names = [file.name for file in folder.iterdir() if file.is_file()]
    found = named_for(names, role)
    return folder / found if found else None


def named_for(names: Iterable[str], role: str) -> str | None:
    """The file that is named like 'train', 'dev' or 'test' data, or None."""

    def parts(name: str) -> list[str]:
        return re.findall('[a-z]+', Path(name).name.lower())

    # the first part that names a role decides: test_val.txt is a test file
    candidates = []
    for name in names:
        roles = [r for part in parts(name) for r in _ROLES if part in _ROLES[r]]
        if roles[:1] == [role] and Path(name).name[0] != '.':
            candidates.append(name)
    candidates.sort(key=lambda name: ('all' not in parts(name), len(name), name))
    return candidates[0] if candidates else None


def _load_labelled(path: Path | None, format: str | None) -> list[Example]:
    if path is None:
        return []
    try:
        name = format or detect_format(path)
    except BadRow:
        raise
    except ValueError:  # plain texts, such as an unlabelled test file
        return []
    rows = load_entities(path, name)
    return rows if any(entities for _, entities in rows) else []


def cut_by_text(rows: list[R], seed: int, fraction: float) -> tuple[list[R], list[R]]:
    """Rows whose first field is a text, in two, and no text in both.

    Raises ValueError where there is but one text, or fraction is not between 0 and 1.
    """
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
