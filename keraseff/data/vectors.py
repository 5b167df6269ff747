"""Pretrained character vectors, from the files that people publish them in."""

import os
from pathlib import Path

import numpy as np

from keraseff.checkpoints import load_restricted_pickle
from keraseff.data.lines import BadRow
from keraseff.data.lines import read_lines


def load_character_vectors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The vector of each character in a file of pretrained vectors.

    Args:
        path: a directory (or the `.npz` in it) with `vocab.pkl`, {character: row}, and
            one `.npz` of the rows, as Chinese-Text-Classification-Pytorch publishes
            Tencent's; or word2vec's text, `character number number …` a line.  Of
            entries longer than one character nothing is kept.

    Raises ValueError when neither is there, rows are missing, or a line has another
    number of values; the pickle is read without running anything in it.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f'{path} does not exist')
    if path.is_dir() or path.suffix == '.npz':
        vectors = _read_arrays(path)
    else:
        vectors = _read_text(path)
    vectors = {key: value for key, value in vectors.items() if len(key) == 1}
    if not vectors:
        raise ValueError(f'{path} has no vector of a single character')
    return vectors


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    folder = path if path.is_dir() else path.parent
    arrays = [path] if path.is_file() else sorted(folder.glob('*.npz'))
    pickle = folder / 'vocab.pkl'
    if len(arrays) != 1 or not pickle.exists():
        raise ValueError(
            f'{folder}: expected vocab.pkl and one .npz, found '
            f'{", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"}'
        )
    with np.load(arrays[0], allow_pickle=False) as file:
        if len(file.files) != 1:
            raise ValueError(f'{arrays[0]} has {len(file.files)} arrays, expected one')
        rows = file[file.files[0]].astype('float32')
    vocab = load_restricted_pickle(pickle)
    if not isinstance(vocab, dict) or max(vocab.values(), default=0) >= len(rows):
        raise ValueError(
            f'{pickle} does not number the {len(rows)} rows of {arrays[0]}'
        )
    return {character: rows[i] for character, i in vocab.items()}


def _read_text(path: Path) -> dict[str, np.ndarray]:
    vectors: dict[str, np.ndarray] = {}
    size = None
    for number, line in read_lines(path):
        key, *values = line.rstrip().split(' ')
        if number == 1 and len(values) == 1:  # how many vectors of what size
            continue
        if len(key) != 1:
            continue
        size = size or len(values)
        try:
            vectors[key] = np.array(values, dtype='float32')
        except ValueError as error:
            raise BadRow(f'{path}:{number}: {line[:40]!r}: {error}') from error
        if len(values) != size:
            raise BadRow(f'{path}:{number}: {len(values)} values, expected {size}')
    return vectors
