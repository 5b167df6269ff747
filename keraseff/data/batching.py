"""Rows to batches: `DataGenerator` shuffles, sorts by length, pads and yields."""

import itertools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np

from keraseff.data.padding import round_up
from keraseff.data.padding import sequence_padding
from keraseff.data.padding import to_array
from keraseff.data.padding import truncate_sequences
from keraseff.data.stream import Stream
from keraseff.data.structures import as_tuples
from keraseff.data.structures import narrow
from keraseff.data.structures import note_varying
from keraseff.data.told_apart import AHEAD
from keraseff.data.told_apart import told_apart

__all__ = ['DataGenerator', 'sequence_padding', 'to_array', 'truncate_sequences']

POOL = 100  # batches that are sorted by length together


class DataGenerator:
    """Batches from rows, for `fit` and `predict`.

    A subclass writes either `encode(row) -> (inputs, targets)`, and collecting and
    padding is done here, or bert4keras' `__iter__(self, random=False)` on top of
    `sample`.

    Args:
        data: rows; a list, or anything iterable that begins anew each time.
        batch_size: rows in a batch; the last one may have fewer.
        buffer_size: rows among which a stream (data without len) is shuffled;
            None is 1000 batches.
        bucketing: True puts rows of like length into the same batch (when random):
            less padding, same rows each epoch. None: the class attribute.
        multiple_of: padded axes become a multiple of this, so that the compiled step
            is made for few shapes. None: the class attribute.
        seed: makes every order the same in each run; None takes one from numpy.

    Random numbers in `encode` (which tokens to mask, …) come from `self.rng`, a
    `numpy.random.Generator` that is made for each batch from the seed and the batch's
    number: so training that goes on in the middle of an epoch sees the same ones.
    """

    bucketing = False
    multiple_of = 16

    def __init__(
        self,
        data: Any,
        batch_size: int = 32,
        buffer_size: int | None = None,
        bucketing: bool | None = None,
        multiple_of: int | None = None,
        seed: int | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f'batch_size={batch_size} must be 1 or more')
        self.data = data
        self.batch_size = batch_size
        self.buffer_size = buffer_size or batch_size * 1000
        self.steps = -(-len(data) // batch_size) if hasattr(data, '__len__') else None
        if bucketing is not None:
            self.bucketing = bucketing
        if multiple_of is not None:
            self.multiple_of = multiple_of
        # numpy's own state, so that keras.utils.set_random_seed is obeyed
        seed = np.random.randint(2**31) if seed is None else seed
        self.seed = int(seed)
        self.rng = np.random.default_rng(seed)
        self.shuffler = np.random.default_rng(seed)
        self.varying: dict[tuple, set[int]] | None = None
        self.listeners: list[Callable[[int, tuple], None]] = []
        self.running: Stream | None = None

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError('a stream has no len; give fit steps_per_epoch')
        return self.steps

    def encode(self, row: Any) -> tuple[Any, Any]:
        """(inputs, targets) of one row: arrays, lists, numbers or tuples of these.

        Tuples are structure, lists are arrays; targets may be None.
        """
        raise NotImplementedError(
            f'{type(self).__name__} must define encode(row) or __iter__(random)'
        )

    def length(self, row: Any) -> int:
        """What `bucketing` sorts by: the length of row, or of its first field."""
        first = row[0] if isinstance(row, (tuple, list)) and len(row) else row
        return len(first) if hasattr(first, '__len__') else 1

    def sample(self, random: bool = False) -> Iterator[tuple[bool, Any]]:
        """Yield (is_end, row); is_end only at the last row."""
        rows = iter(self._rows(random))
        current = next(rows, rows)
        if current is rows:
            return
        for following in rows:
            yield False, current
            current = following
        yield True, current

    def _rows(self, random: bool) -> Iterable[Any]:
        if not random:
            return self.data
        if self.steps is None:
            rows = self._shuffled_stream()
        else:
            order = self.shuffler.permutation(len(self.data)).tolist()
            rows = (self.data[i] for i in order)
        return self._bucketed(rows) if self.bucketing else rows

    def _shuffled_stream(self) -> Iterator[Any]:
        rows = iter(self.data)
        buffer = list(itertools.islice(rows, self.buffer_size))
        for row in rows:
            i = self.shuffler.integers(len(buffer))
            row, buffer[i] = buffer[i], row
            yield row
        self.shuffler.shuffle(buffer)
        yield from buffer

    def _bucketed(self, rows: Iterable[Any]) -> Iterator[Any]:
        size, rows = self.batch_size, iter(rows)
        while pool := list(itertools.islice(rows, POOL * size)):
            # stable, so the shuffled order decides between equal lengths
            pool.sort(key=self.length)
            # a batch that is not full must stay last: somewhere within the pool's
            # lengths, not always the longest
            rest = len(pool) % size
            cut = int(self.shuffler.integers(len(pool) - rest + 1)) if rest else 0
            cut -= cut % size
            short, full = pool[cut : cut + rest], pool[:cut] + pool[cut + rest :]
            for i in self.shuffler.permutation(len(full) // size):
                yield from full[i * size : (i + 1) * size]
            yield from short

    def __iter__(self, random: bool = False) -> Iterator[tuple]:
        yield from self._encoded(random)

    def _encoded(self, random: bool, skip: int = 0, number: int = 0) -> Iterator[tuple]:
        """One pass without its first batches, whose rows are drawn but not encoded."""
        batch = []
        for n, (is_end, row) in enumerate(self.sample(random)):
            if n < skip * self.batch_size:
                continue
            if not batch:
                self.rng = np.random.default_rng((self.seed, number, n))
            batch.append(_pair(self.encode(row)))
            if len(batch) == self.batch_size or is_end:
                yield self._collate(batch)
                batch = []

    def batches_of_pass(
        self, random: bool, number: int, skip: int = 0
    ) -> Iterator[tuple]:
        """The batches of one pass, but for the first `skip`; for `Stream`.

        Where a subclass has an `__iter__` of its own, those are made and dropped.
        """
        if type(self).__iter__ is DataGenerator.__iter__:
            return map(as_tuples, self._encoded(random, skip, number))
        return map(as_tuples, itertools.islice(self.__iter__(random), skip, None))

    def _collate(self, batch: list[tuple[Any, Any]]) -> tuple:
        if self.varying is None:
            self.varying = self._probe()
        inputs = self._stack([x for x, _ in batch], ('inputs',))
        if batch[0][1] is None:
            return (inputs,)
        return inputs, self._stack([y for _, y in batch], ('targets',))

    def _probe(self) -> dict[tuple, set[int]]:
        """Which axes differ between rows, from the shortest, the longest and a few.

        Without it, a batch of equally long rows would not be seen to need rounding up.
        """
        varying: dict[tuple, set[int]] = {}
        if self.steps:
            order = sorted(
                range(len(self.data)), key=lambda i: self.length(self.data[i])
            )
            chosen = order[:: max(1, len(order) // 8)] + order[-1:]
            rows = [_pair(self.encode(self.data[i])) for i in chosen]
            note_varying([x for x, _ in rows], ('inputs',), varying)
            note_varying([y for _, y in rows], ('targets',), varying)
        return varying

    def _stack(self, items: list[Any], path: tuple) -> Any:
        if isinstance(items[0], tuple):
            parts = zip(*items, strict=True)
            return tuple(self._stack(list(p), (*path, i)) for i, p in enumerate(parts))
        arrays = [np.asarray(item) for item in items]
        note_varying(arrays, path, self.varying)
        padded = self.varying.get(path, set())
        lengths = np.max([array.shape for array in arrays], axis=0).tolist()
        for axis in padded:
            lengths[axis] = round_up(lengths[axis], self.multiple_of)
        if not lengths:
            return narrow(np.stack(arrays))
        return narrow(sequence_padding(arrays, lengths, seq_dims=len(lengths)))

    def forfit(self, random: bool = True) -> Iterator[tuple]:
        """Batches without end, as tuples, for `fit`.

        Give `fit` also `steps_per_epoch=len(self)`, and `shuffle=False`, else Keras
        warns that it does not shuffle; the shuffling is done here.

        On TensorFlow, Keras takes an axis that is equal in the first two batches for
        fixed, and fails at a later batch of another length. So the second batch is
        one that differs from the first, brought forward from up to 50 ahead within
        the first epoch; where there is none, the first is padded by one more column
        (by 1, not to a multiple of `multiple_of`).

        Arrays of 64 bits, which an own `__iter__` may yield, become 32.
        """
        self.running = Stream(self, random)
        yield from self.running

    def stream(self, position: dict | None = None, random: bool = True) -> Stream:
        """The batches of `forfit`, as an object that knows where it is.

        Args:
            position: what `Stream.position` gave, here or in another process; None
                begins a first pass.
            random: whether rows are shuffled.

        It draws from a random state of its own.  Raises ValueError if the position is
        one in other data.
        """
        self.running = Stream(self, random, position or Stream(self, random).here())
        return self.running

    def fortest(self, random: bool = False) -> Iterator[tuple]:
        """Batches of inputs alone, once through, as 1-tuples, for `predict`.

        Give `predict` also `steps=len(self)`, else Keras warns at the end. The order is
        kept; where Keras would take a length for fixed (see `forfit`), the first batch
        is padded by one more column.
        """
        batches = (as_tuples(batch)[:1] for batch in self.__iter__(random))
        head = list(itertools.islice(batches, AHEAD))
        yield from told_apart(head, self.varying)
        yield from batches


def _pair(encoded: Any) -> tuple[Any, Any]:
    if not isinstance(encoded, tuple) or len(encoded) != 2:
        raise ValueError(
            f'encode must return a tuple (inputs, targets), targets may be None; '
            f'got {type(encoded).__name__} {str(encoded)[:60]}'
        )
    return encoded
