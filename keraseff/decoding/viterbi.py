"""The best path through scores of labels and of transitions between them."""

from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np


class ViterbiDecoder:
    """Finds the labels with the greatest sum of node and transition scores.

    Args:
        trans: (c, c); trans[i, j] is for label j right after label i.
        starts: labels that may come first; None: all.
        ends: labels that may come last; None: all.

    Raises ValueError if trans is not square or a label in starts or ends not in it.
    """

    def __init__(
        self,
        trans: np.ndarray,
        starts: Iterable[int] | None = None,
        ends: Iterable[int] | None = None,
    ):
        self.trans = np.asarray(trans)
        if self.trans.ndim != 2 or len(set(self.trans.shape)) != 1:
            raise ValueError(f'trans must be (c, c), not {self.trans.shape}')
        self.num_labels = len(self.trans)
        self.non_starts = self._others('starts', starts)
        self.non_ends = self._others('ends', ends)

    def _others(self, name: str, allowed: Iterable[int] | None) -> list[int]:
        if allowed is None:
            return []
        allowed = set(allowed)
        if not allowed or not allowed <= set(range(self.num_labels)):
            raise ValueError(
                f'{name}={sorted(allowed)} must be labels from 0 to '
                f'{self.num_labels - 1}, at least one'
            )
        return sorted(set(range(self.num_labels)) - allowed)

    def decode(self, nodes: np.ndarray) -> np.ndarray:
        """The best labels (n,) for node scores (n, c), which are left as they are."""
        nodes = np.asarray(nodes)
        if nodes.ndim != 2:
            raise ValueError(f'nodes must be (n, c), not {nodes.shape}')
        return self.decode_batch(nodes[None])[0]

    def decode_batch(
        self, nodes: np.ndarray, lengths: Sequence[int] | None = None
    ) -> list[np.ndarray]:
        """The best labels of each of several sequences, all worked on at once.

        Args:
            nodes: (b, n, c).
            lengths: of each sequence; what comes after is not looked at. None: n.

        Returns a list of b arrays, each as long as its sequence.
        """
        nodes = np.asarray(nodes)
        if nodes.ndim != 3 or nodes.shape[2] != self.num_labels:
            raise ValueError(f'nodes must be (b, n, {self.num_labels}): {nodes.shape}')
        b, n, _ = nodes.shape
        lengths = np.full(b, n) if lengths is None else np.asarray(lengths, dtype=int)
        if len(lengths) != b or (b and not 0 <= lengths.min() <= lengths.max() <= n):
            raise ValueError(f'lengths={lengths} must be {b} numbers from 0 to {n}')
        if 0 in nodes.shape:
            return [np.zeros(0, dtype=int) for _ in range(b)]
        scores, back = self._forward(nodes, lengths)
        scores[:, self.non_ends] = -np.inf
        return _walk_back(scores.argmax(1), back, lengths)

    def _forward(
        self, nodes: np.ndarray, lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        b, n, c = nodes.shape
        scores = np.array(nodes[:, 0], dtype=np.result_type(nodes, self.trans, 'f4'))
        scores[:, self.non_starts] = -np.inf
        back = np.tile(np.arange(c), (n, b, 1))
        for i in range(1, n):
            paths = scores[:, :, None] + self.trans  # (b, from, to)
            best = paths.argmax(1)
            value = np.take_along_axis(paths, best[:, None], 1)[:, 0] + nodes[:, i]
            inside = (i < lengths)[:, None]
            scores = np.where(inside, value, scores)
            back[i] = np.where(inside, best, back[i])
        return scores, back


def _walk_back(
    last: np.ndarray, back: np.ndarray, lengths: np.ndarray
) -> list[np.ndarray]:
    paths = np.zeros((len(last), len(back)), dtype=int)
    # behind a sequence's end `back` points to the same label, so all can begin at n
    for i in range(len(back) - 1, -1, -1):
        paths[:, i] = last
        last = np.take_along_axis(back[i], last[:, None], 1)[:, 0]
    return [path[:length] for path, length in zip(paths, lengths, strict=True)]
