"""Which labelled texts to train on, to choose by, and to score."""

import os
from pathlib import Path
from typing import NamedTuple

from keraseff.data.labelled import Row
from keraseff.data.labelled import files_of
from keraseff.data.labelled import label_names
from keraseff.data.labelled import load_labelled
from keraseff.data.splits import cut_by_text
from keraseff.data.splits import named_for


class LabelledSplit(NamedTuple):
    """Rows (text, label) of three parts, and the labels, in order.

    `source` says which files they came from, and what was cut or left out.
    """

    train: list[Row]
    dev: list[Row]
    test: list[Row]
    labels: list[str]
    source: str


def load_labelled_split(
    path: str | os.PathLike,
    format: str | None = None,
    label: str | None = None,
    seed: int = 0,
    fraction: float = 0.1,
) -> LabelledSplit:
    """The training, development and test rows of a corpus.

    Args:
        path: a directory or a .zip with files named as usual (train.txt, dev.txt,
            test_public.json, sentiment.valid.data …), or one file.
        format, label: as in `load_labelled`.
        seed: for cutting; the same text never lands on two sides.
        fraction: share of the texts that are cut off for each part that has no file,
            or one without labels.

    Empty texts are left out, and those to train on that are in dev or test too.
    Raises ValueError, listing the files, when there is none to train on, or for a label
    that is in dev or test alone; BadRow for a file that is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f'{path} does not exist')
    parts, source = _read(path, format, label)
    labels = sorted({name for _, name in parts['train']}, key=_order)
    for role in ('dev', 'test'):
        if not parts.get(role):
            parts['train'], parts[role] = cut_by_text(parts['train'], seed, fraction)
            source.append(f'{role}: cut off')
            seed += 1
    known = {text for role in ('dev', 'test') for text, _ in parts[role]}
    kept = [row for row in parts['train'] if row[0] not in known]
    if len(kept) < len(parts['train']):
        twice = len(parts['train']) - len(kept)
        source.append(f'{twice} texts left out that are to be scored')
    for role in ('dev', 'test'):
        for text, name in parts[role]:
            if name not in labels:
                raise ValueError(
                    f'{path}: the label {name!r} of {text[:30]!r} in the {role} part '
                    'is none to train on'
                )
    return LabelledSplit(kept, parts['dev'], parts['test'], labels, '; '.join(source))


def _read(
    path: Path, format: str | None, label: str | None
) -> tuple[dict[str, list[Row]], list[str]]:
    names = files_of(path)
    files = {role: named_for(names, role) for role in ('train', 'dev', 'test')}
    if not names:
        files = {'train': ''}
    if files['train'] is None:
        raise ValueError(
            f'{path}: no file is named like training data (train.txt, train.json); '
            f'found {", ".join(names) or "none"}. Name one of them.'
        )
    called = label_names(path) if not label else {}
    parts, source = {}, []
    for role, name in files.items():
        if name is None:
            continue
        file = path / name if name else path
        rows = load_labelled(file, format, label)
        empty = sum(not text for text, _ in rows)
        if empty:
            source.append(f'{empty} empty texts left out')
        rows = [(t, called.get(x, x)) for t, x in rows if t and x is not None]
        if rows or role == 'train':
            parts[role] = rows
            source.append(f'{role}: {file.name}')
    if not parts['train']:
        raise ValueError(f'{path / files["train"]}: no row has a label')
    return parts, source


def _order(name: str) -> tuple[int, str]:
    return int(name) if name.isdecimal() else -1, name
