"""Scores of spans (GlobalPointer matrices) to entities; overlaps, windows, thresholds.

A span is a tuple (start, end, type, score), half-open.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

Span = tuple[int, int, str, float]


def confidence(score: np.ndarray | float) -> np.ndarray | float:
    """sigmoid(score): the probability a score of the multilabel loss stands for."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(score, dtype='float64')))[()]


def matrix_to_spans(
    scores: np.ndarray,
    threshold: float | Sequence[float] | np.ndarray = 0.0,
    mask: np.ndarray | None = None,
) -> list[tuple[int, int, int, float]]:
    """The cells of score matrices that exceed a threshold.

    Args:
        scores: (types, n, n); cell [t, i, j] is for the tokens i to j inclusive.
        threshold: one number, or one for each type.
        mask: (n,), false where a token can neither begin nor end a span.

    Returns a list of (type index, start, end, score), end exclusive, in the order of
    start, end, type. Cells with j < i are ignored.
    Raises ValueError for scores of another shape.
    """
    scores = np.asarray(scores)
    if scores.ndim != 3 or scores.shape[1] != scores.shape[2]:
        raise ValueError(f'scores must be (types, n, n), not {scores.shape}')
    limits = np.broadcast_to(np.asarray(threshold, dtype='float64'), len(scores))
    kinds, starts, ends = np.nonzero(scores > limits[:, None, None])
    keep = starts <= ends
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        keep &= mask[starts] & mask[ends]
    kinds, starts, ends = kinds[keep], starts[keep], ends[keep]
    order = np.lexsort((kinds, ends, starts))
    kinds, starts, ends = kinds[order], starts[order], ends[order]
    values = scores[kinds, starts, ends].astype('float64')
    return list(
        zip(
            kinds.tolist(),
            starts.tolist(),
            (ends + 1).tolist(),
            values.tolist(),
            strict=True,
        )
    )


def scores_to_entities(
    scores: np.ndarray,
    mapping: Sequence[Sequence[int]],
    types: Sequence[str],
    threshold: float | Mapping[str, float] = 0.0,
    flat: bool = False,
    text_length: int | None = None,
) -> list[Span]:
    """The entities of one text, in characters, from a model's score matrices.

    Args:
        scores: (types, n, n), inclusive ends; n may be more than the tokens (padding).
        mapping: for each token the characters it is made of, as `Tokenizer.rematch`
            gives; tokens with [] ([CLS], [SEP]) never begin or end an entity.
        types: the names of the types, in the order of `scores`.
        threshold: one number, or one for each name; names left out have 0.
        flat: keep only entities that do not overlap, see `flatten_spans`.
        text_length: characters of the text; entities beyond it raise ValueError.

    Returns a sorted list of (start, end, type, score), end exclusive; when two token
    spans give the same characters and type, the best.
    """
    n = min(len(mapping), np.shape(scores)[-1])
    if len(types) != len(scores):
        raise ValueError(f'{len(types)} types for {len(scores)} score matrices')
    if isinstance(threshold, Mapping):
        threshold = [threshold.get(name, 0.0) for name in types]
    found = matrix_to_spans(
        np.asarray(scores)[:, :n, :n], threshold, [len(m) > 0 for m in mapping[:n]]
    )
    best: dict[tuple[int, int, str], float] = {}
    for kind, start, end, score in found:
        key = mapping[start][0], mapping[end - 1][-1] + 1, types[kind]
        best[key] = max(score, best.get(key, -np.inf))
    entities = sorted((*key, score) for key, score in best.items())
    if text_length is not None and any(e[1] > text_length for e in entities):
        raise ValueError(
            f'mapping reaches beyond the {text_length} characters of the text; '
            f'was it made from another text?'
        )
    return flatten_spans(entities) if flat else entities


def flatten_spans(spans: Iterable[Sequence]) -> list[tuple]:
    """The spans that remain when each one taken shuts out those that overlap it.

    Taken in the order of score (if they have one), then longest, then first. Returned
    sorted, as they came.
    """

    def rank(span: Sequence) -> tuple:
        score = span[3] if len(span) > 3 else 0.0
        return -score, span[0] - span[1], span[0], span[2]

    kept: list[tuple] = []
    for span in sorted((tuple(span) for span in spans), key=rank):
        if all(span[1] <= other[0] or other[1] <= span[0] for other in kept):
            kept.append(span)
    return sorted(kept)


def merge_windows(
    windows: Sequence[tuple[int, Sequence[Sequence]]],
    lengths: Sequence[int] | None = None,
) -> list[tuple]:
    """Put the spans that were found in overlapping windows of a long text together.

    Args:
        windows: for each window, in the order of the text, where it begins and its
            spans (start, end, type[, score]), counted from its beginning.
        lengths: how long each window is. With them, a span that touches the border of
            its window inside the text may have been cut there: it is dropped if
            another window saw that place whole, border not touching.

    Returns sorted spans in the whole text's positions; one found twice counts once,
    with its best score.
    """
    if lengths is not None and len(lengths) != len(windows):
        raise ValueError(f'{len(lengths)} lengths for {len(windows)} windows')
    best: dict[tuple, tuple] = {}
    for i, (offset, spans) in enumerate(windows):
        for start, end, *rest in spans:
            span = (start + offset, end + offset, *rest)
            if lengths is not None and _cut(span, i, windows, lengths):
                continue
            if span[:3] not in best or best[span[:3]][3:] < span[3:]:
                best[span[:3]] = span
    return sorted(best.values())


def _cut(span: tuple, i: int, windows: Sequence[tuple], lengths: Sequence[int]) -> bool:
    """Whether span touches an inner border and another window sees beyond it."""
    start, end = span[:2]
    text_end = max(o + n for (o, _), n in zip(windows, lengths, strict=True))
    first, last = windows[i][0], windows[i][0] + lengths[i]
    left, right = start == first > 0, end == last < text_end
    if not left and not right:
        return False
    for j, (offset, _) in enumerate(windows):
        if j == i:
            continue
        before = offset < start or offset == start == 0
        after = offset + lengths[j] > end or offset + lengths[j] == end == text_end
        if before and after:
            return True
    return False


def tune_thresholds(
    gold: Sequence[Iterable[Sequence]],
    predicted: Sequence[Iterable[Sequence]],
    types: Iterable[str] | None = None,
    default: float = 0.0,
) -> dict[str, float]:
    """The threshold of each type that gives the best F1 on these samples.

    Args:
        gold: for each sample the true (start, end, type).
        predicted: for each sample (start, end, type, score), made with a threshold well
            below the usual one (say -5), so that there is something to choose from.
        types: names to give thresholds for; None: those that occur in either.
        default: for types that are never right, or where it is as good as any other.

    Thresholds lie halfway between two scores, so keep `score > threshold`.
    """
    truth = [{tuple(e[:3]) for e in sample} for sample in gold]
    scored: dict[str, list[tuple[float, bool]]] = {}
    total: dict[str, int] = {}
    for sample, spans in zip(truth, predicted, strict=True):
        for *_, kind in sample:
            total[kind] = total.get(kind, 0) + 1
        for start, end, kind, score in spans:
            right = (start, end, kind) in sample
            scored.setdefault(kind, []).append((score, right))
    names = sorted({*total, *scored}) if types is None else list(types)
    return {
        name: _best_threshold(scored.get(name, []), total.get(name, 0), default)
        for name in names
    }


def _best_threshold(
    scored: list[tuple[float, bool]], total: int, default: float
) -> float:
    if not scored or not total:
        return default
    scored = sorted(scored, reverse=True)
    scores = np.array([score for score, _ in scored])
    hits = np.cumsum([right for _, right in scored])
    f1 = 2 * hits / (np.arange(1, len(scored) + 1) + total)
    # between equal scores there is no threshold
    f1[:-1][scores[:-1] == scores[1:]] = -1
    taken = int((scores > default).sum())
    usual = f1[taken - 1] if taken else 0.0
    best = int(f1.argmax())
    if f1[best] <= usual:
        return default
    after = scores[best + 1] if best + 1 < len(scores) else scores[best] - 1.0
    return float((scores[best] + after) / 2)
