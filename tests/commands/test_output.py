"""Sizes, columns and bars as people read them."""

import io

import pytest

from keraseff.commands.output import Progress
from keraseff.commands.output import columns
from keraseff.commands.output import human_count
from keraseff.commands.output import human_size
from keraseff.commands.output import paint
from keraseff.commands.output import plain


@pytest.mark.parametrize(
    ('size', 'text'),
    [
        (0, '0 bytes'),
        (999, '999 bytes'),
        (1000, '1.0 kB'),
        (1234567, '1.2 MB'),
        (5 * 10**9, '5.0 GB'),
        (10**16, '10000.0 TB'),
    ],
)
def test_sizes(size, text):
    assert human_size(size) == text


@pytest.mark.parametrize(
    ('count', 'text'),
    [
        (0, '0'),
        (9999, '9,999'),
        (23500, '23,500 (23.5 thousand)'),
        (102267648, '102,267,648 (102 M)'),
        (494032768, '494,032,768 (494 M)'),
        (7 * 10**9, '7,000,000,000 (7 B)'),
    ],
)
def test_counts(count, text):
    assert human_count(count) == text


def test_columns_are_aligned():
    lines = columns([('a', '1'), ('long', ''), ('bb', '3')], '  ')
    assert lines == ['  a     1', '  long', '  bb    3']


def test_plain_text_is_one_harmless_line():
    assert plain('\033[1mbold\033[0m\nnext') == 'bold next'
    assert plain('a\0b\u202e\ud800') == 'a\ufffdb\ufffd\ufffd'
    assert len(plain('x' * 10**6)) < 2000
    assert plain('北京') == '北京'


def test_colour_is_for_terminals():
    assert paint('x', 'bad', True) == '\033[31mx\033[0m'
    assert paint('x', 'bad', False) == 'x'


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_its_share_on_a_terminal_only(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr('time.monotonic', lambda: next(clock))
    for stream, seen in ((Terminal(), True), (io.StringIO(), False)):
        bar = Progress(200, 'converting', stream)
        bar.add(50)
        assert ('25%' in stream.getvalue()) is seen
        bar.add(150)
        assert ('100%' in stream.getvalue()) is seen
        bar.close()
        assert stream.getvalue().endswith('\r\033[K') is seen
