"""What a hostile file may hold: it loads, or a BadRow begins with FILE:LINE."""

import copy
import gzip
import io
import json
import random
import sys
import zipfile

import pytest

from keraseff.data import BadRow
from keraseff.data import detect_format
from keraseff.data import iter_texts
from keraseff.data import load_entities
from keraseff.data import load_split
from keraseff.data import write_entities

SPAN = {'start': 0, 'end': 2, 'text': '张三', 'labels': ['PER']}
GOOD = {
    'cluener': {'text': '张三走', 'label': {'PER': {'张三': [[0, 1]]}}},
    'cmeee_json': {
        'text': '张三走',
        'entities': [{'start_idx': 0, 'end_idx': 1, 'type': 'PER', 'entity': '张三'}],
    },
    'doccano': {'text': '张三走', 'label': [[0, 2, 'PER']]},
    'label_studio': {
        'data': {'text': '张三走'},
        'annotations': [{'was_cancelled': False, 'result': [{'value': SPAN}]}],
        'predictions': [{'result': [{'value': SPAN}]}],
    },
}
EXPECTED = [('张三走', [(0, 2, 'PER')])]
DEEP, NESTED, DIGITS = '[' * 10**5, '[' * 850 + ']' * 850, '9' * 5000
VALUES = [
    *('5', 'true', 'null', '"text"', '""', '[]', '{}', '["a"]', '[[0]]', '[[0, 3, 5]]'),
    *('[[0, true]]', '{"a": 1}', '-1', '1e999', '"\\ud83d"'),
    *(DEEP, NESTED, DIGITS, '9' * 4300),
]


def places(value, path=()):
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def with_value(record, path, text):
    if not path:
        return text
    record = copy.deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = '@@'
    return json.dumps(record).replace('"@@"', text)


def without(record, path):
    record = copy.deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return json.dumps(record)


def check(path, form, row):
    try:
        loaded = load_entities(path, form)
    except BadRow as error:
        message = str(error)
    else:
        assert loaded[:1] == EXPECTED
        assert [type(text) for text, _ in loaded] == [str, str]
        return
    assert message.startswith(f'{path}:2: '), (row[:80], message)
    assert len(message) < 600


CASES = [(name, path) for name, good in GOOD.items() for path in places(good)]


@pytest.mark.parametrize(('name', 'place'), CASES, ids=str)
def test_any_value_in_any_place(tmp_path, name, place):
    path = tmp_path / 'rows.json'
    good = json.dumps(GOOD[name])
    rows = [with_value(GOOD[name], place, text) for text in VALUES]
    if place:
        rows.append(without(GOOD[name], place))
    for row in rows:
        for content in (f'{good}\n{row}\n', f'[{good},\n{row}]'):
            path.write_text(content, 'utf-8')
            for form in (name, None):
                check(path, form, row)


@pytest.mark.parametrize(
    ('name', 'change'),
    [
        ('doccano', {'label': 5}),
        ('doccano', {'label': True}),
        ('doccano', {'label': False}),
        ('label_studio', {'annotations': ['a']}),
        ('label_studio', {'annotations': {'result': []}}),
        ('label_studio', {'annotations': [{'result': 7}]}),
        ('label_studio', {'annotations': [{'result': ['a']}]}),
        ('label_studio', {'annotations': [{'result': [{'value': None}]}]}),
        (
            'label_studio',
            {'annotations': [{'result': [{'value': SPAN | {'labels': None}}]}]},
        ),
        (
            'label_studio',
            {'annotations': [{'result': [{'value': SPAN | {'labels': 'PER'}}]}]},
        ),
        ('label_studio', {'data': 'text'}),
        ('cluener', {'label': {'PER': {'张三': [[0, 3, 5]]}}}),
        ('cluener', {'label': {'PER': {'张三': [[0]]}}}),
        ('cluener', {'label': {'PER': {'张三': [[0, True]]}}}),
        ('cluener', {'label': {'PER': {'张三': [[False, 1]]}}}),
        ('cluener', {'label': {'PER': {'张三': 3}}}),
        ('cluener', {'label': {'PER': [1]}}),
        ('cluener', {'label': [1]}),
        ('cmeee_json', {'text': None}),
        ('cmeee_json', {'entities': 3}),
        ('cmeee_json', {'entities': [3]}),
    ],
    ids=str,
)
def test_rows_that_must_be_refused(tmp_path, name, change):
    path = tmp_path / 'rows.json'
    rows = [GOOD[name], GOOD[name] | change]
    path.write_text('\n'.join(map(json.dumps, rows)), 'utf-8')
    with pytest.raises(BadRow) as caught:
        load_entities(path, name)
    assert str(caught.value).startswith(f'{path}:2: ')


def test_an_array_ends_the_file(tmp_path):
    path = tmp_path / 'rows.json'
    array = json.dumps([GOOD['doccano']])
    path.write_text(f'{array}\n{array}\n', 'utf-8')
    with pytest.raises(BadRow, match=r'rows.json:1: after the JSON array comes'):
        load_entities(path)


@pytest.mark.parametrize(
    'line', [f'张三|||0 {DIGITS} PER|||', '张三|||0 x PER|||', '张三|||-1 1 PER|||']
)
def test_bad_lines_of_cmeee(tmp_path, line):
    path = tmp_path / 'rows.txt'
    path.write_text(f'张三|||0 1 PER|||\n{line}\n', 'utf-8')
    with pytest.raises(BadRow, match=r'^.*rows.txt:2: '):
        load_entities(path)


@pytest.mark.parametrize(
    'line', ['{"text": "张三", ', "{'text': '张三'}", '{text: 1}', '[{"text": 张', '{{']
)
def test_a_broken_first_line_is_not_plain_text(tmp_path, line):
    path = tmp_path / 'dev.json'
    path.write_text(f'{line}\n{json.dumps(GOOD["doccano"])}\n', 'utf-8')
    with pytest.raises(BadRow, match=r'dev.json:1: '):
        detect_format(path)
    write_entities(tmp_path / 'train.json', EXPECTED, 'doccano')
    with pytest.raises(BadRow, match=r'dev.json:1: '):
        load_split(tmp_path)  # does not quietly cut dev from train


def test_no_known_format_is_another_error(tmp_path):
    path = tmp_path / 'rows.txt'
    for content in ('今天天气好\n', '{"a": 1}', '[1]肺炎\n'):
        path.write_text(content, 'utf-8')
        with pytest.raises(ValueError, match='looks like no known format') as caught:
            detect_format(path)
        assert not isinstance(caught.value, BadRow)
    path.write_text('{a}肺炎|||3    4    dis|||\n', 'utf-8')
    assert detect_format(path) == 'cmeee_text'


@pytest.mark.parametrize('content', ['', '\n \n', '\ufeff'])
def test_empty_files_are_called_empty(tmp_path, content):
    path = tmp_path / 'rows.txt'
    path.write_text(content, 'utf-8')
    with pytest.raises(ValueError, match=r'rows.txt is empty$'):
        load_split(path)
    with pytest.raises(ValueError, match=r'rows.txt holds no rows'):
        load_split(path, 'doccano')
    path.unlink()
    with pytest.raises(ValueError, match='is an empty directory'):
        load_split(tmp_path)


@pytest.mark.parametrize('kind', ['short', 'flipped', 'checksum', 'zip', 'short zip'])
def test_damaged_archives(tmp_path, kind):
    letters = random.Random(0).choices('零一二三四五六七八九', k=30000)
    rows = [(''.join(letters[i : i + 10]), []) for i in range(0, 30000, 10)]
    path = tmp_path / 'rows'
    write_entities(path, rows, 'doccano')
    content = path.read_bytes()
    if 'zip' in kind:
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('rows.json', content)
        packed = bytearray(path.read_bytes())
    else:
        packed = bytearray(gzip.compress(content))
    if 'short' in kind:
        packed = packed[: len(packed) // 2]
    else:
        at = -6 if kind == 'checksum' else len(packed) // 2
        packed[at : at + 2] = bytes(255 - b for b in packed[at : at + 2])
    path.write_bytes(packed)
    with pytest.raises(BadRow) as caught:
        load_entities(path, 'doccano')
    file, line, *_ = str(caught.value).split(': ')[0].rpartition(':')[::2]
    assert file == str(path)
    assert 1 <= int(line) <= len(rows) + 1


@pytest.mark.parametrize('name', GOOD)
def test_half_characters_come_back_from_json(tmp_path, name):
    path = tmp_path / 'rows'
    rows = [('笑\ud83d脸\udc00', [(1, 3, 'x\ud800')])]
    write_entities(path, rows, name)
    assert load_entities(path, name) == rows
    with pytest.raises(ValueError, match='row 1: two halves of one character'):
        write_entities(path, [*rows, ('\ud83d\ude00', [])], name)


@pytest.mark.parametrize('name', ['columns', 'cmeee_text'])
@pytest.mark.parametrize(
    'row',
    [
        ('笑\ud83d', []),
        ('一\n二', []),
        ('一二', [(0, 1, 'x\ny')]),
        ('一二', [(0, 1, 'x\ty')]),
    ],
)
def test_lines_refuse_what_they_can_not_hold(tmp_path, name, row):
    with pytest.raises(ValueError, match=f'^row 1: {name} can not hold a t'):
        write_entities(tmp_path / 'rows', [('好', []), row], name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['columns', 'cmeee_text', 'doccano'])
def test_a_text_that_begins_with_a_mark(tmp_path, name):
    rows = [('\ufeff三、', [(1, 2, 'x')])] * 2
    write_entities(tmp_path / 'rows', rows, name)
    assert load_entities(tmp_path / 'rows') == rows


def test_columns_of_nothing_but_spaces_come_back(tmp_path):
    path = tmp_path / 'rows'
    path.write_text('  O\n\n\t\tO\n\n字 B-x\n\n\u3000 O\n', 'utf-8')
    rows = load_entities(path)
    assert [text for text, _ in rows] == [' ', '\t', '字', '\u3000']
    rows.append((' \t ', [(1, 2, 'x')]))
    rows.append(('一\r', []))
    write_entities(path, rows, 'columns')
    assert load_entities(path) == rows
    with pytest.raises(ValueError, match='row 1: columns can not hold an empty text'):
        write_entities(path, [('a', []), ('', [])], 'columns')


BAD_TEXT = '一\n'.encode() * 5000 + b'\xff\n'


@pytest.mark.parametrize('errors', ['strict', 'surrogateescape'])
@pytest.mark.parametrize('stdin', [True, False])
def test_texts_that_are_not_utf8(monkeypatch, errors, stdin):
    class Named(io.BytesIO):
        name = '<stdin>' if stdin else 'texts.txt'

    stream = io.TextIOWrapper(Named(BAD_TEXT), 'utf-8', errors)
    monkeypatch.setattr(sys, 'stdin', stream)
    where = 'standard input' if stdin else 'texts.txt'
    with pytest.raises(BadRow, match=f'^{where}:5001: not utf-8'):
        list(iter_texts(sys.stdin))


def test_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / 'texts.txt'
    path.write_bytes(BAD_TEXT)
    with pytest.raises(BadRow, match=r'texts.txt:5001: not utf-8'):
        list(iter_texts(path))
    with path.open('rb') as file, pytest.raises(BadRow, match=r'txt:5001: not utf-8'):
        list(iter_texts(file))
    assert list(iter_texts(['一\n'.encode(), b'b'])) == ['一', 'b']
