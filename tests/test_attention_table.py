"""The table of what goes with what, in docs/attention.md, is what the code does.

`KERASEFF_WRITE_DOCS=1 python -m pytest tests/test_attention_table.py` writes it anew.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from harness import MECHANISM_OPTIONS

from keraseff.layers import MECHANISMS
from keraseff.layers import MIXERS
from keraseff.layers import POSITIONS
from keraseff.layers import MultiHeadAttention
from keraseff.layers.base import accepted
from keraseff.models.mixer_options import mixer_options

DOCS = Path(__file__).parent.parent / 'docs'
TABLE = re.compile(r'(<!-- table -->\n).*?(\n<!-- end -->)', re.S)
OPTIONS_TABLE = re.compile(r'(<!-- options -->\n).*?(\n<!-- end -->)', re.S)
# Rows with equal answers share a column.
COLUMNS = (
    ('rotary', 'rotary_2d', 'xpos'),
    ('alibi', 'kerple', 'relative', 'sandwich', 't5'),
    ('leaky_rerope', 'rerope', 'self_extend'),
)
ROTARY = (
    'rotary',
    'pi',
    'ntk',
    'ntk_fixed',
    'ntk_mixed',
    'ntk_by_parts',
    'yarn',
    'dynamic',
)
OPTIONS = {
    'rotary_2d': {'width': 3},
    'dynamic': {'factor': 2, 'max_position': 8},
    **{name: {'factor': 2, 'max_position': 8} for name in ROTARY[1:7]},
}


def make(mechanism, position=None, causal=True, **options):
    return MultiHeadAttention(
        2,
        4,
        mechanism=mechanism,
        mechanism_options=MECHANISM_OPTIONS.get(mechanism),
        position=position,
        position_options=OPTIONS.get(position),
        causal=causal,
        **options,
    )


def refusal(function):
    """What is said against it, or nothing."""
    try:
        function()
    except ValueError as error:
        return str(error)
    return ''


def allowed(function):
    """Whether it runs; what does not says what is wrong, and what to do."""
    said = refusal(function)
    assert not said or re.search(r'[.;,] ', said), said
    return not said


def answers(name):
    """{what: whether it goes with that mechanism}, by trying."""
    kind = MECHANISMS[name]
    causal = kind.can_be_causal
    x = np.zeros((1, 3, 8), 'float32')
    dense = np.ones((1, 3, 3), bool)

    def steps():
        layer = make(name)
        layer.build((1, 8, 8))
        layer.start(1, 8)

    found = {'causal': allowed(lambda: make(name)), 'steps': allowed(steps)}
    for position in POSITIONS:
        found[position] = allowed(lambda p=position: make(name, p, causal))
    found['cross'] = allowed(lambda: make(name, causal=False)(x, x + 1))
    found['dense'] = allowed(lambda: make(name, causal=False)(x, dense=dense))
    found['window'] = allowed(lambda: make(name, causal=causal, window=2))
    found['residual'] = allowed(
        lambda: make(name, causal=causal, return_attention_scores=True)
    )
    return found


def row(name):
    found = answers(name)
    groups = (ROTARY, ('rotary_2d',), ('xpos',), *COLUMNS[1:])
    cells = [found['causal'], found['steps']]
    for group in groups:
        same = {found[position] for position in group}
        assert len(same) == 1, (name, group, found)
        cells.append(same.pop())
    cells += [found[what] for what in ('dense', 'window', 'residual', 'cross')]
    return [f'`{name}`', *('✓' if cell else '' for cell in cells)]


def mixer_row(name):
    kind = MIXERS[name]
    causal = getattr(kind, 'can_be_causal', True)
    gau = name == 'gau'
    cells = [causal, causal, *[gau] * 8, False]
    return [f'`{name}`', *('✓' if cell else '' for cell in cells)]


HEAD = (
    '`attention=`',
    'causal (`lm`)',
    'step by step',
    '`rotary` and its scalings',
    '`rotary_2d`',
    '`xpos`',
    '`alibi` `kerple` `relative` `sandwich` `t5`',
    '`rerope` `leaky_rerope` `self_extend`',
    'dense mask (`unilm`)',
    '`window=`',
    'residual scores',
    'another sequence (T5)',
)


def table():
    rows = [HEAD, ('---',) * len(HEAD)]
    rows += [row(name) for name in sorted(MECHANISMS)]
    rows += [mixer_row(name) for name in sorted(MIXERS)]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in rows)


def options_table():
    rows = [('`attention=`', 'options'), ('---', '---')]
    taken = {name: accepted(MECHANISMS[name]) for name in sorted(MECHANISMS)}
    taken |= {name: mixer_options(name) for name in sorted(MIXERS)}
    for name, keys in taken.items():
        rows.append((f'`{name}`', ' '.join(f'`{key}`' for key in keys)))
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in rows)


def test_columns_hold_every_position():
    held = {*ROTARY, *(name for group in COLUMNS for name in group)}
    assert held == set(POSITIONS)


@pytest.mark.parametrize('file', ['attention.md', 'attention_zh.md'])
def test_the_documents_say_what_the_code_does(file):
    path = DOCS / file
    text = path.read_text(encoding='utf-8')
    expected = TABLE.sub(lambda m: m[1] + table() + m[2], text)
    expected = OPTIONS_TABLE.sub(lambda m: m[1] + options_table() + m[2], expected)
    if os.environ.get('KERASEFF_WRITE_DOCS'):
        path.write_text(expected, encoding='utf-8')
    assert text == expected, f'{path} is out of date; see the docstring of this test'


def test_mixers_are_what_the_table_says():
    from keraseff.layers import Attention

    for name, kind in MIXERS.items():
        assert issubclass(kind, Attention) == (name == 'gau')
