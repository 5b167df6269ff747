import html.parser
import re
import sys

import pytest

from keraseff.text.display import colour_spans
from keraseff.text.display import html_page

TEXT = '张三在北京大学。'
SPANS = [(0, 2, 'person', 0.9), (3, 5, 'place', 0.8), (3, 7, 'org', 0.75)]


def test_brackets():
    plain = colour_spans(TEXT, SPANS, colour=False)
    assert plain == '[张三:person]在[[北京:place]大学:org]。'
    assert colour_spans('', [], colour=False) == ''
    assert colour_spans('无', [], colour=False) == '无'
    assert colour_spans('北京', [(0, 2, 'a'), (0, 2, 'a')], colour=False) == '[北京:a]'
    crossing = colour_spans('甲乙丙', [(0, 2, 'a'), (1, 3, 'b')], colour=False)
    assert crossing == '[甲[乙:a]丙:b]'
    inner = colour_spans('北京大学', [(2, 4, 'b'), (0, 4, 'a')], colour=False)
    assert inner == '[北京[大学:b]:a]'


def test_colours_add_nothing_but_codes():
    coloured = colour_spans(TEXT, SPANS, colour=True)
    assert coloured != colour_spans(TEXT, SPANS, colour=False)
    bare = re.sub('\033\\[[0-9;]*m', '', coloured)
    assert bare == colour_spans(TEXT, SPANS, colour=False)
    assert coloured.count('\033[0m') == len(re.findall('\033\\[[1-9]', coloured))
    ordered = colour_spans('ab', [(0, 1, 'x'), (1, 2, 'y')], True, types=['x', 'y'])
    codes = re.findall('\033\\[1;(\\d+)m', ordered)
    assert len(set(codes)) == 2


def test_colour_by_terminal_and_environment(monkeypatch):
    monkeypatch.delenv('NO_COLOR', raising=False)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    assert '\033' in colour_spans(TEXT, SPANS)
    monkeypatch.setenv('NO_COLOR', '1')
    assert '\033' not in colour_spans(TEXT, SPANS)
    monkeypatch.delenv('NO_COLOR')
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: False, raising=False)
    assert '\033' not in colour_spans(TEXT, SPANS)


def test_a_text_can_not_steer_the_terminal():
    assert colour_spans('a\033[2Jb\tc', [], colour=False) == 'a\ufffd[2Jb\tc'


class Page(html.parser.HTMLParser):
    """The structure of a page: open tags, text outside of labels, styles, titles."""

    def __init__(self, page):
        super().__init__()
        self.stack, self.rows, self.labels, self.hints, self.styles = [], [], [], [], []
        self.feed(page)
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert not {'src', 'href'} & set(attributes)
        if tag in ('meta',):
            return
        self.stack.append((tag, attributes))
        if tag == 'li':
            self.rows.append('')
        if tag == 'span':
            self.hints.append(attributes['title'])
            self.styles.append(attributes['style'])

    def handle_endtag(self, tag):
        assert self.stack.pop()[0] == tag

    def handle_data(self, data):
        tags = [tag for tag, _ in self.stack]
        if 'li' in tags and 'b' in tags:
            self.labels.append((data, self.stack[-1][1]['class']))
        elif 'li' in tags:
            self.rows[-1] += data


def test_the_page_holds_the_texts():
    rows = [(TEXT, SPANS), ('<script>alert("&")</script>', [(1, 7, '<b>')]), ('', [])]
    raw = html_page(rows, title='<NER & more>')
    page = Page(raw)
    assert page.rows == [text for text, _ in rows]
    assert '<script>' not in raw
    assert '<title>&lt;NER &amp; more&gt;</title>' in raw
    assert page.labels == [('person', ''), ('place', ''), ('org', ''), ('<b>', '')]
    assert page.hints[:3] == ['person 0.9', 'org 0.75, place 0.8', 'org 0.75']
    assert 'http' not in raw
    assert 'url(' not in raw
    assert 'prefers-color-scheme: dark' in raw


def test_nested_underlines_lie_apart():
    page = Page(html_page([(TEXT, SPANS)]))
    single, both, outer = page.styles
    offsets = [re.findall(r'100% - (\d+)px', s) for s in (single, both, outer)]
    assert offsets == [['0'], ['0', '4'], ['0']]
    crossing = Page(html_page([('甲乙丙', [(0, 2, 'a'), (1, 3, 'b')])]))
    heights = re.findall(r'100% - (\d+)px', crossing.styles[1])
    assert len(set(heights)) == 2


def test_against_gold():
    gold = [[(0, 2, 'person'), (2, 3, 'place'), (3, 7, 'org')]]
    raw = html_page([(TEXT, SPANS)], gold=gold)
    assert sorted(Page(raw).labels) == [
        ('org', ''),
        ('person', ''),
        ('place', 'missed'),
        ('place', 'wrong'),
    ]
    assert 'repeating-linear-gradient' in raw
    assert 'place missed' in raw
    with pytest.raises(ValueError, match='2 rows of gold for 1'):
        html_page([(TEXT, SPANS)], gold=[[], []])
