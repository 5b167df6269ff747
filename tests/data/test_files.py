import gzip
import json
import os
import stat
import zipfile

import pytest

from keraseff.data import files
from keraseff.data import read_columns
from keraseff.data import read_jsonl
from keraseff.data import read_tsv
from keraseff.data import write_jsonl

LINES = ['第一行\n', 'second\n', '\n', '四\u2028行\x85still\n', '没有换行']


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'text.txt'
    path.write_bytes(''.join(LINES).encode())
    return path


def test_lines_by_number(path):
    with files.open(path, indexable=True) as f:
        assert len(f) == 5
        assert [f[i] for i in (3, 0, -1, 1, 2)] == [LINES[i] for i in (3, 0, -1, 1, 2)]
        assert f[1:3] == LINES[1:3]
        seen = []
        for line in f:  # a look elsewhere does not disturb the loop
            seen.append(line)
            assert f[0] == LINES[0]
        assert seen == LINES
        with pytest.raises(IndexError):
            f[5]


def test_the_index_is_kept_and_renewed(path, tmp_path):
    cache = tmp_path / 'index.json'
    with files.open(path, indexable=cache) as f:
        offsets = f.offsets
    kept = json.loads(cache.read_text())
    assert kept['offsets'] == offsets
    kept['offsets'] = [0]  # what is found there is believed
    cache.write_text(json.dumps(kept))
    with files.open(path, indexable=cache) as f:
        assert len(f) == 1
    with path.open('ab') as f:
        f.write('\n又一行'.encode())
    with files.open(path, indexable=cache) as f:
        assert len(f) == 6
        assert f[5] == '又一行'


def test_open_as_pythons_own(path):
    with files.open(path) as ours, open(path, encoding='utf-8') as peer:
        assert ours.readline() == peer.readline()
        assert list(ours) == list(peer)
        with pytest.raises(TypeError, match='indexable'):
            ours[0]
        with pytest.raises(TypeError, match='indexable'):
            len(ours)
    with files.open(path, 'rb', indexable=True) as f:
        assert f[0] == LINES[0].encode()
    with files.open(path, 'w') as f:
        f.write('新')
    assert path.read_bytes() == '新'.encode()
    with pytest.raises(ValueError, match='for reading'):
        files.open(path, 'w', indexable=True)


def test_undecodable_bytes(tmp_path):
    path = tmp_path / 'gbk.txt'
    path.write_bytes(b'ok\n' + '中文\n'.encode('gb18030'))
    with files.open(path, indexable=True, errors='ignore') as f:
        assert f[0] == 'ok\n'
        assert f[1].endswith('\n')
    with pytest.raises(ValueError, match=r'gbk.txt:2: not utf-8'):
        list(files.read_lines(path))
    assert list(files.read_lines(path, 'gb18030'))[1] == (2, '中文')


def test_packed_files_read_the_same(tmp_path, path):
    plain = list(files.read_lines(path))
    assert [text for _, text in plain] == [line.rstrip('\n') for line in LINES]
    with gzip.open(tmp_path / 'text.gz', 'wb') as f:
        f.write(path.read_bytes())
    with zipfile.ZipFile(tmp_path / 'text.zip', 'w') as archive:
        archive.write(path, 'folder/text.txt')
        archive.writestr('__MACOSX/._text.txt', 'x')
    assert list(files.read_lines(tmp_path / 'text.gz')) == plain
    assert list(files.read_lines(tmp_path / 'text.zip')) == plain
    with zipfile.ZipFile(tmp_path / 'two.zip', 'w') as archive:
        archive.writestr('a', '')
        archive.writestr('b', '')
    with pytest.raises(ValueError, match=r"one file inside, found \['a', 'b'\]"):
        list(files.read_lines(tmp_path / 'two.zip'))


def test_bom_and_dos_lines(tmp_path):
    path = tmp_path / 'dos.txt'
    path.write_bytes('\ufeff一\r\n二\r\n'.encode())
    assert list(files.read_lines(path)) == [(1, '一'), (2, '二')]


def test_json_lines(tmp_path):
    path = tmp_path / 'rows.jsonl'
    values = [{'文': '字\u2028'}, [1, None], 'x']
    write_jsonl(path, values)
    assert list(read_jsonl(path)) == values
    assert '文' in path.read_text(encoding='utf-8')
    path.write_text('{"a": 1}\n\n{"a": \n', encoding='utf-8')
    with pytest.raises(ValueError, match=r'rows.jsonl:3: not JSON'):
        list(read_jsonl(path))


def test_tables(tmp_path):
    path = tmp_path / 'rows.tsv'
    path.write_text('很好\t1\n\n"不好\t0\n', encoding='utf-8')
    assert list(read_tsv(path, 2)) == [('很好', '1'), ('"不好', '0')]
    with pytest.raises(ValueError, match=r'rows.tsv:1: 2 fields instead of 3'):
        list(read_tsv(path, 3))


def test_columns(tmp_path):
    path = tmp_path / 'rows.bio'
    path.write_bytes(
        '\ufeff-DOCSTART- -X- O\r\n\r\n我 O\r\n  O\r\n\u3000 O\r\n\r\n \r\n'
        '北\tNS\tB-LOC\r\n\tO\r\n\t\tO\r\n京 I-LOC'.encode()
    )
    assert list(read_columns(path)) == [
        [('我', 'O'), (' ', 'O'), ('\u3000', 'O')],
        [('北', 'NS', 'B-LOC'), (' ', 'O'), ('\t', 'O'), ('京', 'I-LOC')],
    ]
    assert [number for number, _ in files.numbered_columns(path)] == [3, 8]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'out.txt'
    path.write_text('old')
    path.chmod(0o640)

    def fail():
        with files.atomic_write(path) as f:
            f.write('half')
            f.flush()
            assert path.read_text() == 'old'
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == 'old'
    with files.atomic_write(path) as f:
        f.write('新\n')
    assert path.read_bytes() == '新\n'.encode()
    assert os.listdir(tmp_path) == ['out.txt']
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
