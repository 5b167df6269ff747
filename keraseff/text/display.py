"""Texts with their entities shown: on a terminal, and as a page of HTML.

A span is a tuple (start, end, type[, score]), half-open; spans may nest and overlap.
"""

import html
import os
import sys
import unicodedata
import zlib
from collections.abc import Iterable
from collections.abc import Sequence

_TERMINAL = (31, 32, 34, 35, 36, 33, 91, 92, 94, 95)
_LIGHT = ('#c0392b', '#1e8449', '#2458b8', '#8e44ad', '#117a8b')
_LIGHT += ('#a04000', '#ad1457', '#5d6d00', '#4527a0', '#37474f')
_DARK = ('#ff8a80', '#7be0a0', '#8ab4ff', '#dda0f5', '#76d7ea')
_DARK += ('#ffb074', '#ff9ac0', '#d4e157', '#b39ddb', '#b0bec5')


def _number(kind: str, types: Sequence[str] | None) -> int:
    """Which colour a type has: its place in types, else the same one everywhere."""
    if types is not None and kind in types:
        return list(types).index(kind) % len(_LIGHT)
    return zlib.crc32(kind.encode()) % len(_LIGHT)


def _visible(text: str) -> str:
    """Text whose control characters, which could steer a terminal, are replaced."""
    return ''.join(
        '\ufffd' if unicodedata.category(c) == 'Cc' and c not in '\n\t' else c
        for c in text
    )


def colour_spans(
    text: str,
    spans: Iterable[Sequence],
    colour: bool | None = None,
    types: Sequence[str] | None = None,
) -> str:
    """One line for a terminal: `[[北京:place]大学:organisation]`.

    Args:
        spans: (start, end, type[, score]); they may nest.
        colour: None colours if standard output is a terminal and NO_COLOR is not set.
        types: fixes the colours: types in this order get different ones.
    """
    if colour is None:
        colour = sys.stdout.isatty() and not os.environ.get('NO_COLOR')
    spans = sorted({tuple(span[:3]) for span in spans}, key=lambda s: (s[0], -s[1]))
    cuts = sorted({0, len(text), *(b for span in spans for b in span[:2])})
    pieces = []
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        closing = [s for s in spans if s[1] == start]
        for span in sorted(closing, key=lambda s: (-s[0], s[1])):
            pieces.append(_painted(f':{span[2]}]', span[2], colour, types))
        for span in spans:
            if span[0] == start:
                pieces.append(_painted('[', span[2], colour, types))
        over = [s for s in spans if s[0] <= start < s[1]]
        innermost = max(over, key=lambda s: (s[0], -s[1]))[2] if over else None
        content = _visible(text[start:end])
        pieces.append(_painted(content, innermost, colour, types, bold=True))
    return ''.join(pieces)


def _painted(
    text: str,
    kind: str | None,
    colour: bool,
    types: Sequence[str] | None,
    bold: bool = False,
) -> str:
    if not colour or kind is None or not text:
        return text
    code = _TERMINAL[_number(kind, types)]
    return f'\033[{"1;" if bold else ""}{code}m{text}\033[0m'


_STYLE = """
:root { color-scheme: light dark; %s }
@media (prefers-color-scheme: dark) { :root { %s } }
body { font: 17px/1.5 system-ui, sans-serif; max-width: 52em; margin: 2em auto;
  padding: 0 1em; background: Canvas; color: CanvasText; }
li { margin: .7em 0; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2.2; }
b { font: 600 11px/1 system-ui, sans-serif; margin: 0 .35em 0 .1em; }
.legend { margin: 1em 0; } .legend b { font-size: 14px; margin-right: 1em; }
.wrong { text-decoration: line-through; } .missed { opacity: .75; font-style: italic; }
"""


def html_page(
    rows: Iterable[tuple[str, Iterable[Sequence]]],
    title: str = 'Entities',
    gold: Iterable[Iterable[Sequence]] | None = None,
    types: Sequence[str] | None = None,
) -> str:
    """A page of texts with underlined entities, that needs no other file.

    Nested and overlapping entities are underlined at different depths. Everything is
    escaped; colours follow the reader's light or dark setting.

    Args:
        rows: (text, spans); a fourth value of a span is shown on pointing at it.
        title: heading of the page.
        gold: the true spans of each row; wrong predictions are then struck out and
            missed ones dashed.
        types: order of the legend and of the colours; None: sorted.

    Raises ValueError if gold has another number of rows.
    """
    rows = [(text, [tuple(span) for span in spans]) for text, spans in rows]
    truths = [None] * len(rows) if gold is None else [list(g) for g in gold]
    if len(truths) != len(rows):
        raise ValueError(f'{len(truths)} rows of gold for {len(rows)} rows')
    every = [span for _, spans in rows for span in spans]
    every += [span for truth in truths for span in truth or []]
    names = sorted({span[2] for span in every})
    types = [t for t in types if t in names] if types is not None else []
    types += [name for name in names if name not in types]
    items = [
        f'<li>{_line(text, _judged(spans, truth), types)}</li>'
        for (text, spans), truth in zip(rows, truths, strict=True)
    ]
    legend = ''.join(f'{_label(name, "", types)} ' for name in types)
    if gold is not None:
        legend += '<b class="wrong">wrong</b><b class="missed">missed</b>'
    variables = [
        ' '.join(f'--c{i}: {value};' for i, value in enumerate(palette))
        for palette in (_LIGHT, _DARK)
    ]
    return (
        f'<!doctype html>\n<html lang="zh">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f'<title>{html.escape(title)}</title>\n<style>{_STYLE % tuple(variables)}'
        f'</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n'
        f'<p class="legend">{legend}</p>\n<ol>\n' + '\n'.join(items) + '\n</ol>\n'
        '</body>\n</html>\n'
    )


def _judged(spans: list[tuple], truth: list | None) -> list[tuple]:
    """(start, end, type, state, score as text), state '' | 'wrong' | 'missed'."""
    right = None if truth is None else {tuple(t[:3]) for t in truth}
    judged = {}
    for span in spans:
        state = '' if right is None or span[:3] in right else 'wrong'
        score = f'{span[3]:.3g}' if len(span) > 3 else ''
        judged[span[:3]] = (*span[:3], state, score)
    for span in (right or set()) - set(judged):
        judged[span] = (*span, 'missed', '')
    return sorted(judged.values(), key=lambda s: (s[0], -s[1], s[2]))


def _label(kind: str, state: str, types: list[str]) -> str:
    colour = f'color: var(--c{_number(kind, types)})'
    return f'<b class="{state}" style="{colour}">{html.escape(kind)}</b>'


def _levels(spans: list[tuple]) -> dict[tuple, int]:
    """How deep each span is underlined: below all shorter ones that it touches."""
    levels: dict[tuple, int] = {}
    for span in sorted(spans, key=lambda s: s[1] - s[0]):
        taken = {n for s, n in levels.items() if s[0] < span[1] and span[0] < s[1]}
        levels[span] = max(taken, default=-1) + 1
    return levels


def _line(text: str, spans: list[tuple], types: list[str]) -> str:
    levels = _levels(spans)
    cuts = sorted({0, len(text), *(b for span in spans for b in span[:2])})
    pieces = []
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        closing = [s for s in spans if s[1] == start]
        for span in sorted(closing, key=lambda s: levels[s]):
            pieces.append(_label(span[2], span[3], types))
        over = [s for s in spans if s[0] <= start < s[1]]
        content = html.escape(_visible(text[start:end]))
        if over and content:
            style = _underlines(over, levels, types)
            hint = ', '.join(f'{s[2]} {s[4] or s[3]}'.strip() for s in over)
            content = f'<span style="{style}" title="{html.escape(hint)}">{content}'
            content += '</span>'
        pieces.append(content)
    return ''.join(pieces)


def _underlines(over: list[tuple], levels: dict[tuple, int], types: list[str]) -> str:
    depth = max(levels[span] for span in over)
    layers = []
    for span in over:
        colour = f'var(--c{_number(span[2], types)})'
        image = f'linear-gradient({colour},{colour})'
        if span[3] == 'missed':
            dashes = f'90deg,{colour} 0 4px,transparent 4px 8px'
            image = f'repeating-linear-gradient({dashes})'
        height = 4 * (depth - levels[span])
        layers.append(f'{image} 0 calc(100% - {height}px)/100% 2px no-repeat')
    return f'background:{",".join(layers)};padding-bottom:{4 * depth + 3}px'
