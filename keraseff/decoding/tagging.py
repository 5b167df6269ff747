"""Spans as one label a token, for a CRF: which labels there are, and the best path."""

from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np

from keraseff.decoding.spans import flatten_spans
from keraseff.decoding.tags import spans_to_tags
from keraseff.decoding.tags import split_tag
from keraseff.decoding.tags import tags_to_spans
from keraseff.decoding.viterbi import ViterbiDecoder

_NEVER = -1e9


class BIOES:
    """The labels O and B-, I-, E-, S- of each type, with their grammar.

    Args:
        types: the names of the types.  `tags` lists the 4 types + 1 labels, O first.

    Labels can not say nested spans: `labels` keeps those that lie in no other.
    """

    def __init__(self, types: Sequence[str]) -> None:
        self.tags = ['O', *(f'{prefix}-{kind}' for kind in types for prefix in 'BIES')]
        self._ids = {tag: i for i, tag in enumerate(self.tags)}

    def __len__(self) -> int:
        return len(self.tags)

    def labels(self, n: int, spans: Iterable[Sequence]) -> list[int]:
        """The label of each of n tokens, for spans (start, end, type), half-open."""
        flat = flatten_spans(span[:3] for span in spans)
        return [self._ids[tag] for tag in spans_to_tags(n, flat, 'BIOES')]

    def decode_batch(
        self, emissions: np.ndarray, trans: np.ndarray, lengths: Sequence[int]
    ) -> list[list[tuple[int, int, str]]]:
        """The spans of the best paths that the grammar allows.

        Args:
            emissions: (b, n, c).
            trans: (c, c), from the row's label to the column's.
            lengths: of each sequence.
        """
        decoder = ViterbiDecoder(
            np.where(self.allowed(), trans, _NEVER), self._having('OBS'),
            self._having('OES'),
        )  # fmt: skip
        paths = decoder.decode_batch(emissions, lengths)
        return [tags_to_spans([self.tags[i] for i in path]) for path in paths]

    def allowed(self) -> np.ndarray:
        """(c, c), whether the column's label may follow the row's."""
        return np.array([[_follows(a, b) for b in self.tags] for a in self.tags])

    def _having(self, prefixes: str) -> list[int]:
        return [i for i, tag in enumerate(self.tags) if tag[0] in prefixes]


def _follows(first: str, second: str) -> bool:
    before, left = split_tag(first)
    after, right = split_tag(second)
    if before in 'BI':
        return after in 'IE' and left == right
    return after in 'OBS'
