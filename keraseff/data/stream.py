"""`Stream`: batches without end that can begin anywhere."""

import copy
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keraseff.data.told_apart import AHEAD
from keraseff.data.told_apart import unlike_second
from keraseff.data.told_apart import varying_axes

if TYPE_CHECKING:
    from keraseff.data.batching import DataGenerator


class Stream:
    """The batches that `fit` trains on, counted from the first of the training.

    Args:
        generator: a `DataGenerator`.
        random: whether its rows are shuffled.
        position: where to begin, as `position` or `here` gave it, with a random state
            of its own; None begins a first pass, in the generator's random state.

    Raises ValueError if the position is one in other data.
    """

    def __init__(
        self, generator: 'DataGenerator', random: bool, position: dict | None = None
    ):
        self.generator = generator
        self.random = random
        self.start = position
        self._passes: list[dict] = []
        self._known: list[tuple[int, Any]] = []
        if position is not None:
            self._check(position['data'])

    @property
    def first(self) -> int:
        """The number of the first batch."""
        return self.start['step'] if self.start else 0

    def here(self) -> dict:
        """The position before a first pass, in the generator's present random state."""
        return self._beginning(self.generator, 0, 0) | {'step': 0}

    def position(self, step: int) -> dict:
        """Where batch number `step` is, as JSON can hold it.

        The number may be that of any batch that has been made, or of the next one.
        """
        begun = [p for p in self._passes if p['begun'] <= step]
        if not begun:
            return self.start or self.here()
        known = [axes for first, axes in self._known if first <= step]
        anew = not begun[-1]['pass'] and step < AHEAD  # see `_pass`
        varying = known[-1] if known and not anew else begun[-1]['varying']
        return begun[-1] | {'step': step, 'varying': varying}

    def since(self, step: int) -> 'Stream':
        """The same batches once more, from number `step` on."""
        return Stream(self.generator, self.random, self.position(step))

    def ahead(self) -> tuple[list[tuple], dict[tuple, set[int]]]:
        """The next batches, and {path in a batch: axes in which batches differ}."""
        head = list(itertools.islice(self, AHEAD))
        return head, varying_axes(head, _read(self._known[-1][1]))

    def __iter__(self) -> Iterator[tuple]:
        generator, number, begun, step = self.generator, 0, 0, 0
        if self.start is not None:
            generator = self._copy()
            number, begun, step = (self.start[n] for n in ('pass', 'begun', 'step'))
        # local: Keras on TensorFlow may begin anew while an older one still runs
        self._passes, self._known = passes, known = [], []
        while True:
            passes.append(self._beginning(generator, number, begun))
            for batch in self._pass(generator, number, step - begun):
                for listener in self.generator.listeners:
                    listener(step, batch)
                step += 1
                axes = _written(generator.varying)
                if not known or known[-1][1] != axes:
                    known.append((step, axes))  # as known before batch `step`
                yield batch
            if step == begun:
                raise ValueError(
                    'the data gave no rows; give a list, or an object whose iter() '
                    'begins anew each epoch (a generator is used up after one)'
                )
            number, begun = number + 1, step

    def _copy(self) -> 'DataGenerator':
        """The generator with the random state of the beginning, as its own."""
        generator = copy.copy(self.generator)
        generator.shuffler = np.random.default_rng(0)
        generator.shuffler.bit_generator.state = self.start['random']
        generator.seed = self.start['seed']
        if self.start['varying'] is not None:
            generator.varying = _read(self.start['varying'])
        return generator

    def _pass(
        self, generator: 'DataGenerator', number: int, skip: int
    ) -> Iterator[tuple]:
        if number or skip >= AHEAD:
            yield from generator.batches_of_pass(self.random, number, skip)
            return
        batches = generator.batches_of_pass(self.random, number)
        head = list(itertools.islice(batches, AHEAD))
        yield from unlike_second(head, generator.varying)[skip:]
        yield from batches

    def _beginning(self, generator: 'DataGenerator', number: int, begun: int) -> dict:
        return {
            'pass': number,
            'begun': begun,
            'random': generator.shuffler.bit_generator.state,
            'seed': generator.seed,
            'data': self._about(),
            'varying': _written(generator.varying),
        }

    def _about(self) -> dict:
        names = 'batch_size', 'steps', 'bucketing', 'multiple_of'
        about = {name: getattr(self.generator, name) for name in names}
        rows = len(self.generator.data) if about['steps'] is not None else None
        return about | {'rows': rows, 'shuffled': self.random}

    def _check(self, saved: dict) -> None:
        for name, value in self._about().items():
            if saved.get(name) != value:
                raise ValueError(
                    f'the position is one in data with {name}={saved.get(name)}, and '
                    f'these have {name}={value}; give the same, or begin anew'
                )


def _written(varying: dict | None) -> list | None:
    if varying is None:
        return None
    return [[list(path), sorted(axes)] for path, axes in varying.items()]


def _read(written: list | None) -> dict | None:
    if written is None:
        return None
    return {tuple(path): set(axes) for path, axes in written}
