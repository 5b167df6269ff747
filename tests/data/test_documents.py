import gzip
import json
import tracemalloc

import pytest

from keraseff.data import BadRow
from keraseff.data.documents import MOST
from keraseff.data.documents import find_texts
from keraseff.data.documents import read_documents


def test_plain_text(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('第一行\n 第二行 \n\n\n第三行', encoding='utf-8')
    assert list(read_documents(path)) == [['第一行', '第二行'], ['第三行']]
    path.write_text('行\n' * (MOST + 1), encoding='utf-8')
    assert [len(d) for d in read_documents(path)] == [MOST, 1]
    path.write_text('\n\n')
    assert list(read_documents(path)) == []


def test_json_lines(tmp_path):
    path = tmp_path / 'a.jsonl'
    rows = ['一', ['二', ' 三 ', ''], {'text': '四', 'x': 1}, {'text': ['五', '六']}]
    path.write_text('\n\n'.join(map(json.dumps, rows)))
    expected = [['一'], ['二', '三'], ['四'], ['五', '六']]
    assert list(read_documents(path)) == expected
    packed = tmp_path / 'b.jsonl.gz'
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_documents(packed)) == expected


@pytest.mark.parametrize('row', ['1', '{"label": "一"}', '["一", 2]', '["一'])
def test_a_bad_row_is_named(tmp_path, row):
    path = tmp_path / 'a.jsonl'
    path.write_text(f'"一"\n{row}\n', encoding='utf-8')
    with pytest.raises(BadRow, match=r'a\.jsonl:2: '):
        list(read_documents(path))


def test_files_are_found(tmp_path):
    for name in 'b.txt', 'c.jsonl', 'd.csv', 'sub/a.txt':
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in find_texts(tmp_path)]
    assert found == ['b.txt', 'c.jsonl', 'sub/a.txt']
    assert find_texts(tmp_path / 'd.csv', tmp_path / 'sub') == [
        tmp_path / 'd.csv',
        tmp_path / 'sub' / 'a.txt',
    ]
    with pytest.raises(ValueError, match='does not exist'):
        find_texts(tmp_path / 'nothing')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='no file there'):
        find_texts(tmp_path / 'empty')


def test_a_file_is_never_whole_in_memory(tmp_path):
    path = tmp_path / 'big.txt'
    with path.open('w', encoding='utf-8') as file:
        for _ in range(200):
            file.write('这是一行文字，不长也不短。\n' * 400)
    size = path.stat().st_size
    tracemalloc.start()
    count = sum(len(document) for document in read_documents(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 80_000
    assert peak < size / 10
