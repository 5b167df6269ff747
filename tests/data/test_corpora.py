import io
import json
import zipfile

import pytest

from keraseff.data import detect_format
from keraseff.data import entity_types
from keraseff.data import iter_texts
from keraseff.data import load_entities
from keraseff.data import load_split
from keraseff.data import write_entities
from keraseff.data.entity_formats import FORMATS

ROWS = [
    ('张三在北京大学。', [(0, 2, 'person'), (3, 5, 'place'), (3, 7, 'org')]),
    (' 李四 去李四家', [(1, 3, 'person'), (5, 7, 'person')]),
    ('没有', []),
    ('𠮷野家\u3000上海\u2028店', [(0, 3, 'org'), (4, 6, 'place')]),
]
FLAT = [
    (text, [e for e in entities if e != (3, 5, 'place')]) for text, entities in ROWS
]


@pytest.fixture
def write(tmp_path):
    def to_file(content, name='file.txt'):
        path = tmp_path / name
        if not isinstance(content, bytes):
            content = content.encode()
        path.write_bytes(content)
        return path

    return to_file


@pytest.mark.parametrize('name', FORMATS)
def test_what_is_written_is_read(tmp_path, name):
    path = tmp_path / 'rows'
    write_entities(path, ROWS, name)
    expected = FLAT if name == 'columns' else ROWS
    assert load_entities(path, name) == expected
    assert detect_format(path) == name
    scored = [(text, [(*e, 0.5) for e in entities]) for text, entities in ROWS]
    write_entities(path, scored, name)
    assert load_entities(path) == expected
    again = tmp_path / 'again'
    write_entities(again, load_entities(path), name)
    assert load_entities(again) == expected


@pytest.mark.parametrize('scheme', ['BIO', 'BMES', 'BIOES', 'BMEO'])
def test_columns_in_every_scheme(tmp_path, scheme):
    write_entities(tmp_path / 'rows', ROWS, 'columns', scheme=scheme)
    assert load_entities(tmp_path / 'rows') == FLAT


def test_scores_are_written(tmp_path):
    rows = [('张三', [(0, 2, 'person', 0.75)])]
    write_entities(tmp_path / 'a', rows, 'doccano')
    assert json.loads((tmp_path / 'a').read_text('utf-8'))['scores'] == [0.75]
    write_entities(tmp_path / 'b', rows, 'cmeee_json')
    (item,) = json.loads((tmp_path / 'b').read_text('utf-8'))
    assert item['entities'] == [
        {
            'start_idx': 0,
            'end_idx': 1,
            'type': 'person',
            'entity': '张三',
            'score': 0.75,
        }
    ]
    write_entities(tmp_path / 'c', rows, 'label_studio')
    (task,) = json.loads((tmp_path / 'c').read_text('utf-8'))
    (result,) = task['predictions'][0]['result']
    assert result['score'] == 0.75
    assert result['value'] == {
        'start': 0,
        'end': 2,
        'text': '张三',
        'labels': ['person'],
    }


def test_columns_keep_the_best_of_nested_ones(tmp_path):
    rows = [('北京大学', [(0, 4, 'org', 0.2), (0, 2, 'place', 0.9)])]
    write_entities(tmp_path / 'rows', rows, 'columns')
    assert load_entities(tmp_path / 'rows') == [('北京大学', [(0, 2, 'place')])]


def test_cluener(write):
    path = write(
        '{"text": "叶老桂认为叶老桂", "label": '
        '{"name": {"叶老桂": [[5, 7], [0, 2], [0, 2]]}}}\n{"id": 1, "text": "无"}\n'
    )
    assert load_entities(path) == [
        ('叶老桂认为叶老桂', [(0, 3, 'name'), (5, 8, 'name')]),
        ('无', []),
    ]
    wrong = write('{"text": "叶老桂", "label": {"name": {"叶老桂": [[0, 3]]}}}\n')
    with pytest.raises(ValueError, match=r'file.txt:1: the name from 0 to 4'):
        load_entities(wrong)
    wrong = write('\n{"text": "叶老桂说", "label": {"name": {"叶老桂": [[0, 3]]}}}')
    message = r"file.txt:2: .* is '叶老桂说', but the file calls it '叶老桂'"
    with pytest.raises(ValueError, match=message):
        load_entities(wrong)
    with pytest.raises(ValueError, match=r'file.txt:1: label must be'):
        load_entities(write('{"text": "a", "label": {"name": [1]}}'))
    with pytest.raises(ValueError, match=r"file.txt:1: '0' is not a whole number"):
        load_entities(write('{"text": "a", "label": {"name": {"a": [[0, "0"]]}}}'))


def test_cmeee_text(write):
    path = write('肺炎|||0    1    dis|||0    0    bod|||\n|||\n无\n空|||0  -1 x|||\n')
    with pytest.raises(ValueError, match=r'file.txt:4: expected "start end type"'):
        load_entities(path)
    path = write('肺炎|||0    1    dis|||0    0    bod|||\n无\n炎症|||1    0    dis|||')
    assert load_entities(path) == [
        ('肺炎', [(0, 1, 'bod'), (0, 2, 'dis')]),
        ('无', []),
        ('炎症', []),  # an entity of nothing, as in the official file
    ]
    with pytest.raises(ValueError, match=r'file.txt:1: the dis from 0 to 3'):
        load_entities(write('肺炎|||0    2    dis|||'))


def cmeee(*ends):
    entities = [
        {'start_idx': 0, 'end_idx': end, 'type': 'dis', 'entity': '肺炎'}
        for end in ends
    ]
    return [{'text': '肺炎病人', 'entities': entities}]


@pytest.mark.parametrize('end', [1, 2])
@pytest.mark.parametrize('lines', [True, False])
def test_cmeee_json_ends_either_way(write, end, lines):
    items = cmeee(end) + [{'text': '无', 'entities': []}]
    content = (
        '\n'.join(map(json.dumps, items)) if lines else json.dumps(items, indent=2)
    )
    assert load_entities(write(content)) == [('肺炎病人', [(0, 2, 'dis')]), ('无', [])]


def test_cmeee_json_that_fits_neither(write):
    with pytest.raises(ValueError, match='1 disagree when ends are inclusive, 1 when'):
        load_entities(write(json.dumps(cmeee(1, 2))))
    unnamed = '[{"text": "肺炎", "entities": [{"start_idx":0,"end_idx":1,"type":"d"}]}]'
    with pytest.raises(ValueError, match='add the words or convert'):
        load_entities(write(unnamed))


def test_json_array_errors_name_the_line(write):
    path = write('[\n  {"text": "a",\n   "label": []},\n  {"text": "b", "label": [[0,')
    with pytest.raises(ValueError, match=r'file.txt:4: the JSON array can not be read'):
        load_entities(path, 'doccano')
    path = write(
        '[\n{"text": "a",\n "label": []},\n{"text": "b", "label": [[0, 2, "x"]]}]'
    )
    with pytest.raises(ValueError, match=r"file.txt:4: the x from 0 to 2 .* 'b'"):
        load_entities(path)
    with pytest.raises(ValueError, match=r'file.txt:1: a row must be a JSON object'):
        load_entities(write('[1]'), 'doccano')


def test_doccano(write):
    path = write(
        '{"id": 1, "text": "张三走", "label": [[0, 2, "PER"]]}\n'
        '{"text": "李四", "labels": [[0, 2, "PER"], [0, 1, "X"]]}\n'
        '{"text": "王五", "entities": [{"id": 7, "label": "PER", "start_offset": 0,'
        ' "end_offset": 2}], "relations": []}\n{"data": "无", "label": []}\n'
    )
    assert load_entities(path) == [
        ('张三走', [(0, 2, 'PER')]),
        ('李四', [(0, 1, 'X'), (0, 2, 'PER')]),
        ('王五', [(0, 2, 'PER')]),
        ('无', []),
    ]
    for bad in ('[0, 2]', '[0, 2.5, "x"]', '[2, 2, "x"]', '[-1, 1, "x"]', '[0, 1, ""]'):
        with pytest.raises(ValueError, match=r'file.txt:1: '):
            load_entities(write(f'{{"text": "张三走", "label": [{bad}]}}'))


def label_studio_task(*annotations):
    return {'id': 3, 'data': {'text': '张三走'}, 'annotations': list(annotations)}


def annotation(start, end, words, cancelled=False):
    value = {'start': start, 'end': end, 'text': words, 'labels': ['PER']}
    result = [{'type': 'choices', 'value': {'choices': ['ok']}}]
    result.append({'type': 'labels', 'value': value})
    return {'was_cancelled': cancelled, 'result': result}


@pytest.mark.parametrize('dump', [lambda t: json.dumps([t]), json.dumps])
def test_label_studio(write, dump):
    task = label_studio_task(
        annotation(0, 3, '张三走', cancelled=True),
        annotation(0, 2, '张三'),
        annotation(0, 1, '张'),
    )
    path = write(dump(task), 'export.json')
    assert detect_format(path) == 'label_studio'
    assert load_entities(path) == [('张三走', [(0, 2, 'PER')])]
    empty = write(dump(label_studio_task(annotation(0, 1, '张', True))))
    assert load_entities(empty) == [('张三走', [])]
    wrong = write(dump(label_studio_task(annotation(0, 1, '张三'))))
    with pytest.raises(ValueError, match=r"file.txt:1: .* is '张'"):
        load_entities(wrong)


def test_columns_of_every_kind(write):
    expected = [('张三 在\u3000北京', [(0, 2, 'PER'), (5, 7, 'LOC')]), ('无', [])]
    bio = '张 B-PER\n三 I-PER\n  O\n在 O\n\u3000 O\n北 B-LOC\n京 I-LOC\n\n无 O'
    for content in (
        bio,
        '\ufeff-DOCSTART- O\n\n' + bio + '\n\n\n',
        bio.replace('\n', '\r\n'),
        bio.replace('  O', '\tO').replace('\u3000 ', '\u3000\t'),
        bio.replace('B-', 'B_').replace('I-', 'I_'),
        bio.replace('B-PER', 'PER-B').replace('I-PER', 'PER-I'),
        bio.replace('B-', 'I-'),
        bio.replace('I-', 'E-'),
        bio.replace('张 ', '张 NR '),
    ):
        path = write(content)
        assert detect_format(path) == 'columns'
        assert load_entities(path) == expected, content


def test_words_in_columns(write):
    path = write(
        'EU B-ORG\nrejects O\n2 O\n德国 B-LOC\ncall O\n. O\n\n北 O\nA O\nB O\n'
    )
    assert load_entities(path) == [
        ('EU rejects 2德国call.', [(0, 2, 'ORG'), (12, 14, 'LOC')]),
        ('北AB', []),
    ]


def test_texts_that_begin_with_brackets(write):
    assert detect_format(write('[ O\n1 O\n] O\n\n{ O\n')) == 'columns'
    path = write('[1]肺炎|||3    4    dis|||\n')
    assert load_entities(path) == [('[1]肺炎', [(3, 5, 'dis')])]
    with pytest.raises(ValueError, match=r'file.txt:1: not JSON'):
        detect_format(write('{"text": "a|||b", \n'))


def test_a_wrong_tag_is_found(write):
    path = write('张 B-PER\n三 I-PER\n\n李 B-PER\n四 名词\n' + '字 O\n' * 9)
    with pytest.raises(ValueError, match=r"file.txt:5: '名词' is not a tag"):
        load_entities(path)


def test_tokens_without_tags_are_unlabelled(write):
    assert load_entities(write('张\n三\n\n李\n'), 'columns') == [
        ('张三', []),
        ('李', []),
    ]


@pytest.mark.parametrize(
    'content', ['今天天气好\n明天\n', '标题\t1\n', '{"a": 1}', '5']
)
def test_unknown_formats_are_refused(write, content):
    with pytest.raises(
        ValueError, match='looks like no known format .*columns.*doccano'
    ):
        detect_format(write(content))


def test_formats_that_can_not_say_it(tmp_path):
    path = tmp_path / 'rows'
    for text, name in (('a|||b', 'cmeee_text'), ('a\nb', 'columns'), ('', 'columns')):
        with pytest.raises(ValueError, match=name):
            write_entities(path, [(text, [])], name)
    with pytest.raises(ValueError, match='row 1: the x from 0 to 3'):
        write_entities(path, [('a', []), ('b', [(0, 3, 'x')])], 'cluener')
    with pytest.raises(ValueError, match="format='conll' is not one of cluener"):
        write_entities(path, [], 'conll')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('names', 'train', 'dev'),
    [
        (['train.json', 'dev.json', 'test.json'], 'train.json', 'dev.json'),
        (
            ['example.train', 'example.dev', 'example.test'],
            'example.train',
            'example.dev',
        ),
        (['CMeEE-V2_train.json', 'CMeEE-V2_dev.json'], *['CMeEE-V2_%s.json'] * 2),
        (
            ['train_data.txt', 'train_data_all.txt', 'val_data.txt'],
            '%s_data_all.txt',
            '',
        ),
        (['x_train.bio', 'x_test1.bio', 'README.md'], 'x_train.bio', 'x_test1.bio'),
        (['train.txt', 'notes.txt'], 'train.txt', None),
    ],
)
def test_the_files_of_a_folder(tmp_path, names, train, dev):
    for name in names:
        write_entities(tmp_path / name, ROWS, 'doccano')
    split = load_split(tmp_path)
    assert split.format == 'doccano'
    assert split.train_path.name == train.replace('%s', 'train')
    if dev is None:
        assert split.dev_path is None
        assert len(split.train) + len(split.dev) == len(ROWS)
    else:
        dev = dev.replace('%s', 'dev') or 'val_data.txt'
        assert split.dev_path.name == dev
        assert split.train == split.dev == ROWS


def test_an_unlabelled_test_file_is_no_dev_file(tmp_path):
    write_entities(tmp_path / 'train.json', ROWS, 'cluener')
    (tmp_path / 'test.json').write_text('{"text": "无"}', 'utf-8')
    assert load_split(tmp_path).dev_path is None
    (tmp_path / 'test.json').write_text('只是文字', 'utf-8')
    assert load_split(tmp_path).dev_path is None
    (tmp_path / 'train.json').unlink()
    with pytest.raises(ValueError, match='found test.json'):
        load_split(tmp_path)
    with pytest.raises(ValueError, match='does not exist'):
        load_split(tmp_path / 'nowhere')


def test_cutting_one_file(tmp_path):
    rows = [(f'第{i % 80}句', [(0, 1, 'x')]) for i in range(100)]  # 20 occur twice
    path = tmp_path / 'rows.jsonl'
    write_entities(path, rows, 'doccano')
    split = load_split(path)
    assert split == load_split(path)
    assert split.dev != load_split(path, seed=1).dev
    assert sorted(split.train + split.dev) == sorted(rows)
    assert len({text for text, _ in split.dev}) == 8
    assert not {text for text, _ in split.dev} & {text for text, _ in split.train}
    assert (split.train_path, split.dev_path) == (path, None)
    with pytest.raises(ValueError, match='fraction=1'):
        load_split(path, fraction=1)


def test_texts_to_predict(tmp_path):
    path = tmp_path / 'texts'
    path.write_bytes('\ufeff一\r\n\n  二\u2028 \n三'.encode())
    expected = ['一', '', '  二\u2028 ', '三']
    assert list(iter_texts(path)) == expected
    stream = io.StringIO('\ufeff一\n\n  二\u2028 \n三')
    assert list(iter_texts(stream)) == expected


def test_types_are_sorted():
    assert entity_types(ROWS) == ['org', 'person', 'place']


# What the real files hold: counts as published, or counted with another program.


def count(rows):
    return len(rows), sum(len(entities) for _, entities in rows)


def test_cluener_files(data_dir):
    split = load_split(data_dir / 'cluener2020')
    assert (count(split.train), count(split.dev)) == ((10748, 23972), (1343, 3072))
    assert len(entity_types(split.train)) == 10
    test = load_entities(data_dir / 'cluener2020' / 'test.json')
    assert count(test) == (1345, 0)


def test_cmeee_files(data_dir):
    split = load_split(data_dir / 'cmeee_v1')
    # two of the 61,796 entities of the training file are empty: lines 6052 and 6422
    assert (count(split.train), count(split.dev)) == ((15000, 61794), (5000, 20300))
    inner = sum(
        any(a[:2] != b[:2] and b[0] <= a[0] and a[1] <= b[1] for b in entities)
        for _, entities in split.dev
        for a in entities
    )
    assert inner == 1209
    assert len(entity_types(split.dev)) == 9


def test_resume_files(data_dir):
    split = load_split(data_dir / 'resume_ner')
    assert (len(split.train), len(split.dev)) == (3821, 463)
    assert split.dev_path.name == 'dev.char.bmes'
    # as many as there are B- and S- tags
    assert count(split.train)[1] == 13440
    assert len(entity_types(split.train)) == 8


@pytest.mark.real_data
def test_msra_zip(data_dir):
    rows = load_entities(data_dir / 'msra_ner' / 'dh_msra.zip')
    assert len(rows) == 55289
    assert sum(len(text) for text, _ in rows) == 2342480
    with zipfile.ZipFile(data_dir / 'msra_ner' / 'dh_msra.zip') as archive:
        content = archive.read('dh_msra.txt').decode()
    begins = {kind: content.count(f'B-{kind}') for kind in ('LOC', 'ORG', 'PER')}
    assert begins == {'LOC': 39394, 'ORG': 21902, 'PER': 19588}
    # 17 more begin with a stray I-, which conlleval counts
    assert count(rows)[1] == sum(begins.values()) + 17


@pytest.mark.real_data
@pytest.mark.parametrize('name', ['cluener2020', 'cmeee_v1', 'resume_ner'])
def test_real_files_come_back(data_dir, tmp_path, name):
    split = load_split(data_dir / name)
    write_entities(tmp_path / 'dev', split.dev, split.format)
    assert load_entities(tmp_path / 'dev', split.format) == split.dev
