"""Rows for pretraining: pieces of text packed, corpora mixed.

A row is (3, n) int32: token ids, segment ids, and 1 where a word begins.
"""

import itertools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keraseff.data.words import Pieces
from keraseff.data.words import encoded

Documents = Callable[[], Iterator[Sequence[str]]]


class PackedRows:
    """The rows of one corpus, over and over, shuffled; no row has padding.

    Pieces follow each other with `end` between them until a row is full, and what is
    left begins the next one: start, n - 2 tokens, end.  Half of the rows that hold
    several pieces get segment 1 from one of them on.

    Args:
        documents: gives the documents from the first one on, each time it is called.
        encode: document -> [(ids, starts)], as `WordPieces` does.
        length: n, tokens of a row.
        start, end: ids of [CLS] and [SEP].
        shuffle: how many rows wait, of which one is drawn at random.
        workers: processes that encode; 1 is this one alone.

    `state()` gives arrays from which `restore` goes on with the very same rows.
    Raises ValueError where the documents have too little text for a row.
    """

    def __init__(
        self,
        documents: Documents,
        encode: Callable[[Sequence[str]], Pieces],
        length: int,
        start: int,
        end: int,
        shuffle: int = 1024,
        workers: int = 1,
    ):
        if length < 4 or shuffle < 1:
            raise ValueError(f'length={length} must be 4 or more, shuffle={shuffle} 1')
        self.documents, self.encode = documents, encode
        self.length, self.start, self.end = length, start, end
        self.shuffle, self.workers = shuffle, workers
        self.read = 0  # documents since the beginning of this pass
        self.passes = 0
        self._stream: Iterator[Pieces] | None = None
        self._left: tuple[list[int], list[int]] = [], []
        self._ready: list[np.ndarray] = []
        self._waiting: list[np.ndarray] = []

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A row, (3, length); the generator decides which."""
        while len(self._waiting) < self.shuffle:
            self._waiting.append(self._next())
        i = int(rng.integers(self.shuffle))
        row, self._waiting[i] = self._waiting[i], self._next()
        ids, starts = row
        return np.stack([ids, self._segments(ids, rng), starts])

    def _segments(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        segments = np.zeros_like(ids)
        (ends,) = np.nonzero(ids[:-1] == self.end)
        if len(ends) and rng.random() < 0.5:
            segments[rng.choice(ends) + 1 :] = 1
        return segments

    def _next(self) -> np.ndarray:
        empty = 0
        while not self._ready:
            if self._stream is None:
                documents = itertools.islice(self.documents(), self.read, None)
                self._stream = encoded(documents, self.encode, self.workers)
            pieces = next(self._stream, None)
            if pieces is not None:
                self.read += 1
                self._ready = self._rows(pieces)
                continue
            empty += 1
            if empty > 2:
                raise ValueError(
                    f'the documents have too little text for a row of {self.length}'
                )
            self._stream, self.read, self.passes = None, 0, self.passes + 1
        return self._ready.pop()

    def _rows(self, pieces: Pieces) -> list[np.ndarray]:
        """The rows that are full, the last one first."""
        ids, starts = self._left
        for more, begins in pieces:
            ids += [*more, self.end]
            starts += [*begins, 1]
        rows, size, i = [], self.length - 2, 0
        while len(ids) - i > size:
            rows.append(self._row(ids[i : i + size], starts[i : i + size]))
            i += size + (ids[i + size] == self.end)
        self._left = ids[i:], starts[i:]
        return rows[::-1]

    def _row(self, ids: list[int], starts: list[int]) -> np.ndarray:
        row = [[self.start, *ids, self.end], [1, 1, *starts[1:], 1]]
        return np.array(row, dtype='int32')

    def state(self) -> dict[str, np.ndarray]:
        """Everything that decides the rows to come, but for the generator."""
        empty = np.zeros((0, 2, self.length), 'int32')
        return {
            'counts': np.array([self.read, self.passes]),
            'left': np.array(self._left, 'int32').reshape(2, -1),
            'ready': np.array(self._ready) if self._ready else empty,
            'waiting': np.array(self._waiting) if self._waiting else empty,
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state` was taken."""
        self.read, self.passes = map(int, state['counts'])
        ids, starts = state['left'].tolist()
        self._left = ids, starts
        self._ready, self._waiting = list(state['ready']), list(state['waiting'])
        self._stream = None


class MixedRows:
    """Batches of rows, each row drawn from one of several corpora.

    Args:
        corpora: a `PackedRows` for each.
        weights: how often each is drawn, relative to the others.
        batch_size: rows at a time.
        seed: the same one gives the same batches.

    Iterating gives (rows, rng) without end: (batch_size, 3, n) int32, and a generator
    for what else is random in that batch.  `drawn` counts the batches.
    """

    def __init__(
        self,
        corpora: Sequence[PackedRows],
        weights: Sequence[float],
        batch_size: int,
        seed: int = 0,
    ):
        if len(weights) != len(corpora) or min(weights, default=0) <= 0:
            raise ValueError(
                f'{len(corpora)} corpora need as many positive weights, not {weights}'
            )
        self.corpora, self.batch_size, self.seed = list(corpora), batch_size, seed
        self.weights = np.array(weights) / sum(weights)
        self.drawn = 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
        while True:
            yield self.draw()

    def draw(self) -> tuple[np.ndarray, np.random.Generator]:
        """The next batch; its randomness depends on the seed and its number alone."""
        rng = np.random.default_rng([self.seed, self.drawn])
        chosen = rng.choice(len(self.corpora), self.batch_size, p=self.weights)
        rows = np.stack([self.corpora[i].draw(rng) for i in chosen])
        self.drawn += 1
        return rows, rng

    def state(self) -> dict[str, np.ndarray]:
        """The place in the data, as arrays by name."""
        arrays = {'drawn': np.array(self.drawn)}
        for i, corpus in enumerate(self.corpora):
            arrays |= {f'{i}.{name}': a for name, a in corpus.state().items()}
        return arrays

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state` was taken; ValueError if it is of other corpora."""
        count = sum(name.endswith('.left') for name in state)
        if count != len(self.corpora):
            raise ValueError(
                f'the state is of {count} corpora, not {len(self.corpora)}'
            )
        self.drawn = int(state['drawn'])
        for i, corpus in enumerate(self.corpora):
            names = 'counts', 'left', 'ready', 'waiting'
            corpus.restore({name: state[f'{i}.{name}'] for name in names})


def two_parts(
    ids: np.ndarray, segments: np.ndarray, starts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The segments of rows (b, n) for UniLM: 0 is read, and then 1 is to be written.

    Rows of a single segment are cut where a word begins, in their middle half.
    """
    segments = segments.copy()
    size = ids.shape[1]
    for i in np.nonzero(segments.max(axis=1) == 0)[0]:
        cuts = np.nonzero(starts[i])[0]
        cuts = cuts[(cuts >= size // 4) & (cuts < size - size // 4)]
        segments[i, rng.choice(cuts) if len(cuts) else size // 2 :] = 1
    return segments
