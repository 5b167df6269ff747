import json
import zipfile
from collections import Counter

import pytest

from keraseff.data import BadRow
from keraseff.data import load_labelled
from keraseff.data import load_labelled_split
from keraseff.data.lines import read_lines
from keraseff.data.topics import TOPICS
from keraseff.data.topics import synthetic_topics

ROWS = [('今天很好', '1'), ('太差了', '0'), ('很好吃', '1')]
FORMS = {
    'a.tsv': '今天很好\t1\n太差了\t0\n\n很好吃\t1\n',
    'b.txt': '1\t今天很好\r\n0\t太差了\r\n1\t很好吃\r\n',
    'c.csv': 'cat,label,review\n书,1,今天很好\n饭,0,太差了\n饭,1,"很好吃"\n',
    'd.json': '{"sentence": "今天很好", "label": 1}\n'
    '{"sentence": " 太差了", "label": 0}\n{"text": "很好吃", "label": "1"}\n',
}


def put(folder, name, text):
    path = folder / name
    path.write_text(text, 'utf-8')
    return path


@pytest.mark.parametrize('name', FORMS)
def test_each_format_gives_the_same_rows(tmp_path, name):
    assert load_labelled(put(tmp_path, name, FORMS[name])) == ROWS


def test_the_label_is_the_field_that_is_named(tmp_path):
    path = put(tmp_path, 'c.csv', FORMS['c.csv'])
    assert [label for _, label in load_labelled(path, label='cat')] == [
        '书',
        '饭',
        '饭',
    ]
    with pytest.raises(BadRow, match=r"c\.csv:2: there is no field 'kind'"):
        load_labelled(path, label='kind')


def test_a_name_beside_the_number_is_the_label(tmp_path):
    row = {'label': 10, 'label_des': '社区服务', 'sentence': '买菜', 'id': 1}
    bare = {'sentence': '没有标签', 'id': 2}
    text = '\n'.join(json.dumps(r, ensure_ascii=False) for r in (row, bare))
    found = load_labelled(put(tmp_path, 'a.json', text))
    assert found == [('买菜', '社区服务'), ('没有标签', None)]


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.tsv', '好\t1\n坏\t0\t\n', r'a\.tsv:2: expected a text and a label'),
        ('a.tsv', '好\t1\n\n坏\n', r'a\.tsv:3: expected'),
        ('a.tsv', '好\t1\n坏\t\n', r'a\.tsv:2: expected'),
        (
            'a.csv',
            'label,text\n1,好\n1,好,坏\n',
            r'a\.csv:3: 3 fields, and the heading',
        ),
        ('a.json', '{"text": "好", "label": 1}\n{"text": ', r'a\.json:2: not JSON'),
        ('a.json', '{"text": "好"}\n[1]\n', r'a\.json:2: \[1\] is no object'),
        ('a.json', '{"text": 3, "label": 1}\n', r'a\.json:1: the text is 3'),
        ('a.json', '{"text": "好", "label": [1]}\n', r'a\.json:1: the label \[1\]'),
        ('a.json', '{"sentence1": "好"}\n', r'a\.json:1: none of .* sentence1'),
        ('a.txt', '好\n', 'looks like no known format'),
        ('a.txt', '\n', 'looks like no known format'),
    ],
)
def test_a_bad_row_is_named(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        load_labelled(put(tmp_path, name, text))


def test_a_quoted_text_may_have_lines(tmp_path):
    path = put(tmp_path, 'a.csv', 'label,text\n1,"好\n的"\n0,坏\n1,好,坏\n')
    with pytest.raises(BadRow, match=r'a\.csv:5: '):
        load_labelled(path)
    path = put(tmp_path, 'b.csv', 'label,text\n1,"好\n的"\n0,坏\n')
    assert load_labelled(path) == [('好\n的', '1'), ('坏', '0')]


def test_a_file_within_an_archive(tmp_path):
    path = tmp_path / 'some.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('x/a.train.data', '好\t1\n坏\t0\n')
        archive.writestr('x/a.valid.data', '好的\t1\n')
        archive.writestr('x/a.test.data', '坏的\t0\n不好\t\n')
    assert list(read_lines(path / 'x' / 'a.valid.data')) == [(1, '好的\t1')]
    with pytest.raises(NotADirectoryError):
        next(read_lines(path / 'x' / 'nothing'))
    with pytest.raises(BadRow, match=r'some\.zip.x.a\.test\.data:2: '):
        load_labelled_split(path)


def test_parts_named_and_cut(tmp_path):
    put(tmp_path, 'train.txt', '好\t0\n坏\t1\n行\t0\n一\t1\n二\t0\n')
    put(tmp_path, 'dev.txt', '好\t0\n')
    put(tmp_path, 'class.txt', 'good\nbad\n')
    split = load_labelled_split(tmp_path, fraction=0.4)
    assert split.dev == [('好', 'good')]
    assert split.labels == ['bad', 'good']
    texts = {text for text, _ in split.train}, {text for text, _ in split.test}
    assert len(texts[1]) == 2
    assert texts[0].isdisjoint(texts[1] | {'好'})
    assert texts[0] | texts[1] | {'好'} == {*'好坏行一二'}
    again = load_labelled_split(tmp_path, fraction=0.4)
    assert again == split
    different = {
        tuple(load_labelled_split(tmp_path, fraction=0.4, seed=s).test)
        for s in range(8)
    }
    assert len(different) > 1


def test_what_is_scored_is_not_trained_on(tmp_path):
    put(tmp_path, 'train.csv', 'label,text\n0,好\n1,坏\n1,\n0,行\n')
    put(tmp_path, 'dev.csv', 'label,text\n0,行\n')
    put(tmp_path, 'test.csv', 'label,text\n1,坏\n0,无\n')
    split = load_labelled_split(tmp_path)
    assert split.train == [('好', '0')]
    assert split.labels == ['0', '1']
    assert '1 empty texts left out' in split.source
    assert '2 texts left out that are to be scored' in split.source


def test_a_label_without_examples_is_named(tmp_path):
    put(tmp_path, 'train.tsv', '好的\t0\n坏的\t1\n')
    put(tmp_path, 'dev.tsv', '无\t2\n')
    put(tmp_path, 'test.tsv', '有\t1\n')
    with pytest.raises(ValueError, match="the label '2' of '无' in the dev part"):
        load_labelled_split(tmp_path)


def test_a_directory_without_training_data(tmp_path):
    put(tmp_path, 'rows.csv', 'label,text\n0,好\n')
    with pytest.raises(ValueError, match=r'no file is named like .* rows\.csv'):
        load_labelled_split(tmp_path)


def test_synthetic_topics_are_balanced_and_told_by_their_words():
    rows = synthetic_topics(600, seed=3)
    assert rows == synthetic_topics(600, seed=3)
    assert rows != synthetic_topics(600, seed=4)
    counts = Counter(label for _, label in rows)
    assert set(counts) == set(TOPICS)
    assert min(counts.values()) > 25
    for text, label in rows:
        found = {
            topic: sum(text.count(word) for word in words.split())
            for topic, words in TOPICS.items()
        }
        assert found[label] >= 2
        assert sum(count > 0 for count in found.values()) <= 3


@pytest.mark.parametrize(
    ('path', 'sizes', 'labels'),
    [
        ('sentiment_bert4keras/sentiment.zip', (15178, 2111, 2111), 2),
        ('fewclue/tnews', (1185, 1098, 2010), 15),
        ('fewclue/iflytek', (2722, 302, 1749), 119),
        ('thucnews_titles', (33494, 10000, 10000), 10),
    ],
)
def test_real_corpora(data_dir, path, sizes, labels):
    split = load_labelled_split(data_dir / path)
    assert tuple(len(part) for part in split[:3]) == sizes
    assert len(split.labels) == labels
