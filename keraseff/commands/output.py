"""How commands show names, sizes, tables and progress."""

import os
import re
import sys
import time
import unicodedata

_BOLD, _RED, _GREEN, _YELLOW, _DIM = '1', '31', '32', '33', '2'
STYLES = {'bold': _BOLD, 'bad': _RED, 'good': _GREEN, 'warn': _YELLOW, 'dim': _DIM}
_LONGEST = 1200
_COLOURS = re.compile('\033\\[[0-9;]*m')
# Control and format characters, lone surrogates, separators of lines.
_STEERING = 'Cc', 'Cf', 'Cs', 'Zl', 'Zp'


def plain(text):
    """Text from a file on one line, cut if it is long, harmless for a terminal."""
    text = _COLOURS.sub('', str(text)).replace('\n', ' ')
    text = text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…'
    return ''.join(
        c if unicodedata.category(c) not in _STEERING else '\ufffd' for c in text
    )


def coloured(stream=None):
    """Whether to colour: a terminal, and NO_COLOR not set."""
    stream = sys.stdout if stream is None else stream
    return stream.isatty() and not os.environ.get('NO_COLOR')


def paint(text, style, colour=None):
    """Text in one of `STYLES`, on a terminal."""
    colour = coloured() if colour is None else colour
    return f'\033[{STYLES[style]}m{text}\033[0m' if colour else text


def human_size(size):
    """Bytes as people say them: 1234567 -> '1.2 MB'."""
    for unit in ('bytes', 'kB', 'MB', 'GB', 'TB'):
        if size < 1000 or unit == 'TB':
            return f'{size:.1f} {unit}' if unit != 'bytes' else f'{size} bytes'
        size /= 1000


def human_count(count):
    """A number with what it comes to: '102,267,648 (102 M)'."""
    value, unit = count, ''
    for following in ('', ' thousand', ' M', ' B', ' T'):
        unit = following
        if value < 1000:
            break
        value /= 1000
    short = f'{value:.3g}' if value < 999.5 else f'{value:.0f}'
    return f'{count:,} ({short}{unit})' if count >= 10_000 else f'{count:,}'


def columns(rows, indent=''):
    """Lines of two columns, the first as wide as its widest entry."""
    width = max((len(left) for left, _ in rows), default=0)
    return [f'{indent}{left:<{width}}  {right}'.rstrip() for left, right in rows]


class Progress:
    """A bar on standard error, if that is a terminal and the work takes a while.

    Args:
        total: bytes to do.
        title: what is done.
        stream: standard error by default.
    """

    def __init__(self, total, title, stream=None):
        self.total = max(1, total)
        self.title = title
        self.stream = sys.stderr if stream is None else stream
        self.done = 0
        self.began = self.shown = time.monotonic()
        self.visible = False

    def add(self, count):
        """Count some bytes as done."""
        self.done += count
        now = time.monotonic()
        if self.stream.isatty() and now - self.shown > 0.2:
            self.shown = now
            self._draw(now)

    def _draw(self, now):
        share = min(1.0, self.done / self.total)
        bar = '█' * round(30 * share)
        speed = human_size(self.done / max(1e-9, now - self.began))
        left = (now - self.began) * (1 - share) / max(1e-9, share)
        self.stream.write(
            f'\r{self.title} {bar:<30} {share:4.0%}  {speed}/s  {left:4.0f} s left '
        )
        self.stream.flush()
        self.visible = True

    def close(self):
        """Take the bar away."""
        if self.visible:
            self.stream.write('\r\033[K')
            self.stream.flush()
