"""How good predicted entities are, and what is wrong with the others.

`gold` and `predicted` hold, for each text, tuples (start, end, type, ...); what comes
after the type, such as a score, is not looked at.
"""

import unicodedata
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

Sample = Iterable[Sequence]


def _sets(gold: Iterable[Sample], predicted: Iterable[Sample]) -> list[tuple]:
    gold, predicted = list(gold), list(predicted)
    if len(gold) != len(predicted):
        raise ValueError(f'{len(gold)} gold samples but {len(predicted)} predicted')
    return [
        ({tuple(e[:3]) for e in g}, {tuple(e[:3]) for e in p})
        for g, p in zip(gold, predicted, strict=True)
    ]


def _rates(correct: int, gold: int, predicted: int) -> dict[str, float]:
    return {
        'precision': correct / predicted if predicted else 0.0,
        'recall': correct / gold if gold else 0.0,
        'f1': 2 * correct / (gold + predicted) if gold + predicted else 0.0,
        'correct': correct,
        'gold': gold,
        'predicted': predicted,
    }


def entity_scores(
    gold: Iterable[Sample], predicted: Iterable[Sample]
) -> dict[str, Any]:
    """Strict micro precision, recall and F1: start, end and type must all be right.

    Returns a dict with 'precision', 'recall', 'f1' (0 where undefined), the counts
    'correct', 'gold', 'predicted', 'macro_f1' (the mean over types), and under 'types'
    the same for each type. This is the measure of CMeEE and of most published dev
    scores; for CLUENER's leaderboard see `cluener_macro_f1`.
    """
    counts: dict[str, list[int]] = {}
    for truth, found in _sets(gold, predicted):
        for i, entities in enumerate((truth & found, truth, found)):
            for entity in entities:
                counts.setdefault(entity[2], [0, 0, 0])[i] += 1
    types = {name: _rates(*counts[name]) for name in sorted(counts)}
    total = _rates(*(sum(c[i] for c in counts.values()) for i in range(3)))
    macro = sum(t['f1'] for t in types.values()) / len(types) if types else 0.0
    return total | {'macro_f1': macro, 'types': types}


def cluener_macro_f1(
    texts: Sequence[str],
    gold: Sequence[Sample],
    predicted: Sequence[Sample],
    types: Iterable[str] | None = None,
) -> float:
    """The score of the CLUENER2020 leaderboard.

    Not positions but words are compared, each once a text and type; F1 for each type,
    then the plain mean over types. A type without hits counts 0, where the official
    script fails.

    Args:
        types: the types to average over; None: those in gold (the ten of CLUENER).

    Source: CLUENER2020, https://arxiv.org/abs/2001.04351
    """
    counts: dict[str, list[int]] = {}
    for text, (truth, found) in zip(texts, _sets(gold, predicted), strict=True):
        truth = {(text[s:e], kind) for s, e, kind in truth}
        found = {(text[s:e], kind) for s, e, kind in found}
        for i, words in enumerate((truth & found, truth, found)):
            for _, kind in words:
                counts.setdefault(kind, [0, 0, 0])[i] += 1
    if types is None:
        types = [kind for kind, count in counts.items() if count[1]]
    scores = [_rates(*counts.get(kind, [0, 0, 0]))['f1'] for kind in types]
    return sum(scores) / len(scores) if scores else 0.0


def error_report(
    texts: Sequence[str],
    gold: Sequence[Sample],
    predicted: Sequence[Sample],
    examples: int = 3,
) -> dict[str, dict[str, Any]]:
    """The mistakes, counted by kind, with some of each.

    Kinds: 'type' (right place, wrong type), 'boundary' (right type, overlapping),
    'missed' (in gold, nothing like it predicted), 'invented' (the reverse). Each wrong
    prediction is paired with at most one missed entity.

    Returns {kind: {'count': n, 'examples': [(text, gold or None, predicted or None)]}}.
    """
    report: dict[str, dict[str, Any]] = {
        kind: {'count': 0, 'examples': []}
        for kind in ('boundary', 'type', 'missed', 'invented')
    }
    for text, (truth, found) in zip(texts, _sets(gold, predicted), strict=True):
        missed, extra = sorted(truth - found), sorted(found - truth)
        for kind, right, wrong in _pair_up(missed, extra):
            report[kind]['count'] += 1
            if len(report[kind]['examples']) < examples:
                report[kind]['examples'].append((text, right, wrong))
    return report


def _pair_up(missed: list[tuple], extra: list[tuple]) -> list[tuple]:
    def same_place(right: tuple, wrong: tuple) -> bool:
        return right[:2] == wrong[:2]

    def same_type(right: tuple, wrong: tuple) -> bool:
        overlap = right[0] < wrong[1] and wrong[0] < right[1]
        return overlap and right[2] == wrong[2]

    pairs = []
    for kind, alike in (('type', same_place), ('boundary', same_type)):
        for wrong in list(extra):
            right = next((r for r in missed if alike(r, wrong)), None)
            if right is not None:
                missed.remove(right)
                extra.remove(wrong)
                pairs.append((kind, right, wrong))
    pairs += [('missed', right, None) for right in missed]
    return pairs + [('invented', None, wrong) for wrong in extra]


def format_scores(scores: dict[str, Any], digits: int = 2) -> str:
    """A table of what `entity_scores` returned, in per cent, one line a type."""
    rows = [('type', 'P', 'R', 'F1', 'gold', 'predicted', 'correct')]
    for name, values in [*scores['types'].items(), ('all (micro)', scores)]:
        rates = [f'{100 * values[k]:.{digits}f}' for k in ('precision', 'recall', 'f1')]
        counts = [str(values[k]) for k in ('gold', 'predicted', 'correct')]
        rows.append((name, *rates, *counts))
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        cells = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
        lines.append('  '.join([name + ' ' * (widths[0] - _width(name)), *cells]))
    return '\n'.join(lines)


def format_errors(report: dict[str, dict[str, Any]]) -> str:
    """What `error_report` returned, as lines to print."""
    lines = []
    for kind, entry in report.items():
        lines.append(f'{kind}: {entry["count"]}')
        for text, right, wrong in entry['examples']:
            parts = [
                f'{name} {text[e[0] : e[1]]} ({e[2]})'
                for name, e in (('gold', right), ('predicted', wrong))
                if e is not None
            ]
            lines.append(f'  {", ".join(parts)}  in  {text}')
    return '\n'.join(lines)


def _width(text: str) -> int:
    """Columns on a terminal, where Chinese characters take two."""
    return sum(1 + (unicodedata.east_asian_width(c) in 'WF') for c in text)
