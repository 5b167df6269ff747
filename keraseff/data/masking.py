"""Which tokens a model has to find, and what it sees in their place."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np


class Masked(NamedTuple):
    """What masking makes of rows (b, n).

    Attributes:
        ids: (b, n), what the model sees.
        places: (b, k), the positions to be found, in order; 0 where there are fewer.
        labels: (b, k), the ids that stood there.
        weights: (b, k) float32, 1 at the positions and 0 where there are fewer.
    """

    ids: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


class Masker:
    """Masks whole words, or runs of them, of a share of the tokens.

    A chosen token becomes [MASK] 8 times in 10, any token 1 time in 10, and stays as
    it is 1 time in 10, each token of a word for itself.

    Args:
        mask_id: of [MASK].
        vocab_size: ids from which random ones are taken.
        special_ids: never chosen, nor put in another's place.
        rate: share of the tokens that are no special ones.
        ngrams: the most words that are masked together; n words 1/n times as often as
            one.
        ids: those that random ones are taken from, in place of all of vocab_size.

    BERT https://arxiv.org/abs/1810.04805, whole words https://arxiv.org/abs/1906.08101,
    n-grams https://arxiv.org/abs/1909.11942.
    """

    def __init__(
        self,
        mask_id: int,
        vocab_size: int,
        special_ids: Collection[int],
        rate: float = 0.15,
        ngrams: int = 1,
    ):
        if not 0 < rate <= 1 or ngrams < 1:
            raise ValueError(f'rate={rate} must be within 0 and 1, ngrams={ngrams} 1')
        self.mask_id, self.rate, self.ngrams = mask_id, rate, ngrams
        self.special = np.array(sorted({mask_id, *special_ids}))
        self.others = np.setdiff1d(np.arange(vocab_size), self.special)
        lengths = 1 / np.arange(1, ngrams + 1)
        self.chances = lengths / lengths.sum()

    def slots(self, length: int) -> int:
        """k, the most tokens that are chosen of a row."""
        return max(1, round(length * self.rate))

    def __call__(
        self, ids: np.ndarray, starts: np.ndarray, rng: np.random.Generator
    ) -> Masked:
        """Mask rows.

        Args:
            ids: (b, n).
            starts: (b, n), true where a word begins.
            rng: decides everything.
        """
        slots = self.slots(ids.shape[1])
        usual = ~np.isin(ids, self.special)
        places = np.zeros((len(ids), slots), 'int32')
        weights = np.zeros((len(ids), slots), 'float32')
        for i in range(len(ids)):
            found = self.choose(usual[i], starts[i], rng)
            places[i, : len(found)] = found
            weights[i, : len(found)] = 1
        labels = np.take_along_axis(ids, places, axis=1)
        seen = self._replaced(labels, weights > 0, rng)
        ids = ids.copy()
        rows, columns = np.nonzero(weights)
        ids[rows, places[rows, columns]] = seen[rows, columns]
        return Masked(ids, places, labels, weights)

    def _replaced(self, labels, chosen, rng):
        dice = rng.random(labels.shape)
        random = rng.choice(self.others, labels.shape)
        seen = np.where(dice < 0.8, self.mask_id, np.where(dice < 0.9, random, labels))
        return np.where(chosen, seen, labels).astype('int32')

    def choose(
        self, usual: np.ndarray, starts: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The positions to mask of one row, in order.

        Args:
            usual: (n,) bool, false at special tokens.
            starts: (n,) bool, where words begin.
        """
        budget = round(self.rate * np.count_nonzero(usual))
        budget = min(max(budget, 1), self.slots(len(usual)))
        words = _words(usual, starts)
        free, chosen = np.ones(len(words), bool), []
        order = rng.permutation(len(words))
        lengths = rng.choice(self.ngrams, len(words), p=self.chances) + 1
        for word, most in zip(order, lengths, strict=True):
            run = self._run(words, free, word, most, budget - len(chosen))
            free[word : word + run] = False
            for begin, stop in words[word : word + run]:
                chosen += range(begin, stop)
            if len(chosen) == budget:
                break
        return np.array(sorted(chosen), 'int32')

    @staticmethod
    def _run(words, free, first, most, budget):
        """How many words are masked from there: free, adjoining, within the budget."""
        run, tokens = 0, 0
        while run < most and first + run < len(words) and free[first + run]:
            begin, stop = words[first + run]
            adjoining = not run or words[first + run - 1][1] == begin
            tokens += stop - begin
            if not adjoining or tokens > budget:
                break
            run += 1
        return run


def _words(usual: np.ndarray, starts: np.ndarray) -> list[tuple[int, int]]:
    """(begin, stop) of each word that has no special token."""
    edges = np.nonzero(starts | ~usual | np.roll(~usual, 1))[0].tolist()
    stops = [*edges[1:], len(usual)]
    return [(a, b) for a, b in zip(edges, stops, strict=True) if usual[a]]
