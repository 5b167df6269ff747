"""Plain texts, for language models: read, held out, cut into pieces."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def load_texts(path: str | os.PathLike, least: int = 20) -> list[str]:
    """The texts of a directory of `.txt` files, or of one file, in UTF-8.

    Args:
        path: a file, or a directory with all that is in it.
        least: fewer texts are joined and cut into 2 × least of equal length, so that
            some can be held out.

    Spaces next to each other become one, and none begins or ends a line.
    Raises ValueError where there is no text, or one is not UTF-8.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f'{path} does not exist')
    files = sorted(path.rglob('*.txt')) if path.is_dir() else [path]
    texts = []
    for file in files:
        try:
            lines = file.read_text('utf-8').split('\n')
        except UnicodeDecodeError as error:
            raise ValueError(f'{file} is not UTF-8: {error}') from None
        texts.append('\n'.join(' '.join(line.split()) for line in lines))
    whole = '\n'.join(texts)
    if not whole.strip():
        raise ValueError(f'{path} holds no text; .txt files are read')
    if len(texts) < least:
        size = -(-len(whole) // (2 * least))
        texts = [whole[i : i + size] for i in range(0, len(whole), size)]
    return texts


def hold_out(texts: list[str], every: int = 20) -> tuple[str, str, str]:
    """What to train on, to watch and to score: the last two get one text of `every`.

    The texts of each part are joined by line ends.
    """
    parts: tuple[list[str], ...] = [], [], []
    places = {every // 4: 1, every - every // 4: 2}
    for i, text in enumerate(texts):
        parts[places.get(i % every, 0)].append(text)
    train, watch, score = ('\n'.join(part) for part in parts)
    return train, watch, score


def random_pieces(
    ids: np.ndarray, length: int, batch_size: int, seed: int = 0, repeats: float = 0.0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pieces of a long text at random places, without end.

    Args:
        ids: the tokens of the text, (n,), at least length + 2 of them.
        length: tokens of a piece.
        batch_size: pieces at a time.
        seed: the same one gives the same pieces.
        repeats: share of the pieces that repeat a part of themselves, from 4 tokens to
            half of the piece, short ones rather: a model then learns to look back.

    Yields:
        Inputs and the next tokens, (batch_size, length) int32 each.

    Raises ValueError where the text is too short.
    """
    if len(ids) < length + 2:
        raise ValueError(
            f'{len(ids)} tokens are too few for pieces of {length}; give a longer text '
            'or a smaller length'
        )
    rng, size = np.random.default_rng(seed), length + 1
    while True:
        starts = rng.integers(len(ids) - size, size=(batch_size, 1))
        steps = np.broadcast_to(np.arange(size), (batch_size, size)).copy()
        periods = (4 * (size / 8) ** rng.random((batch_size, 1))).astype(int)
        repeat = rng.random((batch_size, 1)) < repeats
        rows = ids[starts + np.where(repeat, steps % np.maximum(periods, 1), steps)]
        yield rows[:, :-1].astype('int32'), rows[:, 1:].astype('int32')


def following_pieces(
    ids: np.ndarray, length: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces that follow each other from the beginning of a text, at most `count`.

    Returns:
        Inputs and the next tokens, (count, length) int32 each.

    Raises ValueError where the text is too short for one.
    """
    count = min(count, (len(ids) - 1) // length)
    if count < 1:
        raise ValueError(f'{len(ids)} tokens are too few for a piece of {length}')
    inputs, targets = ids[: count * length], ids[1 : count * length + 1]
    shape = count, length
    return inputs.reshape(shape).astype('int32'), targets.reshape(shape).astype('int32')
