import pytest

from keraseff.decoding import cluener_macro_f1
from keraseff.decoding import entity_scores
from keraseff.decoding import error_report
from keraseff.decoding import format_errors
from keraseff.decoding import format_scores

TEXTS = ['张三去北京大学', '李四在上海', '无']
GOLD = [
    [(0, 2, 'person'), (3, 5, 'place'), (3, 7, 'org')],
    [(0, 2, 'person'), (3, 5, 'place')],
    [],
]
FOUND = [
    [(0, 2, 'person', 0.9), (3, 7, 'place', 0.8), (3, 7, 'org', 0.5)],
    [(0, 1, 'person', 0.9), (3, 5, 'org', 0.2)],
    [(0, 1, 'place', 0.1)],
]


def test_by_hand():
    scores = entity_scores(GOLD, FOUND)
    assert (scores['correct'], scores['gold'], scores['predicted']) == (2, 5, 6)
    assert scores['precision'] == pytest.approx(2 / 6)
    assert scores['recall'] == pytest.approx(2 / 5)
    assert scores['f1'] == pytest.approx(4 / 11)
    types = scores['types']
    assert types['person']['f1'] == pytest.approx(0.5)
    assert types['place']['f1'] == 0.0
    assert types['org']['precision'] == pytest.approx(0.5)
    assert types['org']['recall'] == 1.0
    assert scores['macro_f1'] == pytest.approx((0.5 + 0 + 2 / 3) / 3)


def test_limits():
    assert entity_scores(GOLD, GOLD)['f1'] == 1.0
    assert entity_scores([[]], [[]])['f1'] == 0.0
    assert entity_scores(GOLD, [[], [], []])['precision'] == 0.0
    twice = [[e for e in sample for _ in range(2)] for sample in FOUND]
    assert entity_scores(GOLD, twice) == entity_scores(GOLD, FOUND)
    with pytest.raises(ValueError, match='3 gold samples but 1'):
        entity_scores(GOLD, [[]])


def test_flat_entities_as_seqeval_counts_them(rng):
    metrics = pytest.importorskip('seqeval.metrics')
    from keraseff.decoding import tags_to_spans

    labels = ['O', 'B-X', 'I-X', 'B-Y', 'I-Y']
    gold = [[labels[i] for i in rng.integers(5, size=9)] for _ in range(50)]
    found = [
        [labels[rng.integers(5)] if rng.random() < 0.3 else tag for tag in tags]
        for tags in gold
    ]
    ours = entity_scores(map(tags_to_spans, gold), map(tags_to_spans, found))
    assert ours['f1'] == pytest.approx(metrics.f1_score(gold, found))
    macro = metrics.f1_score(gold, found, average='macro')
    assert ours['macro_f1'] == pytest.approx(macro)


def test_cluener_counts_words_not_places():
    texts = ['叶老桂说，叶老桂走了', '在北京']
    gold = [[(0, 3, 'name'), (5, 8, 'name')], [(1, 3, 'address')]]
    # one of the two mentions is enough, and the other type has no hit
    found = [[(5, 8, 'name')], [(0, 3, 'address')]]
    assert cluener_macro_f1(texts, gold, found) == pytest.approx((1 + 0) / 2)
    assert entity_scores(gold, found)['f1'] == pytest.approx(2 / 5)
    # a predicted type that gold does not have is no part of the mean
    found[1].append((0, 1, 'book'))
    assert cluener_macro_f1(texts, gold, found) == pytest.approx(1 / 2)
    ten = [f'type {i}' for i in range(8)] + ['name', 'address']
    assert cluener_macro_f1(texts, gold, found, ten) == pytest.approx(1 / 10)
    assert cluener_macro_f1([], [], []) == 0.0


def test_cluener_by_hand():
    texts = ['甲乙丙丁'] * 3
    gold = [[(0, 1, 'a'), (1, 2, 'a')], [(0, 1, 'a'), (2, 3, 'b')], []]
    found = [[(0, 1, 'a')], [(0, 1, 'a'), (1, 2, 'a'), (2, 3, 'b')], [(3, 4, 'b')]]
    # a: 2 right of 3 found and 3 true; b: 1 right of 2 found and 1 true
    expected = (2 / 3 + 2 / 3) / 2
    assert cluener_macro_f1(texts, gold, found) == pytest.approx(expected)


def test_errors_by_kind():
    report = error_report(TEXTS, GOLD, FOUND)
    counts = {kind: entry['count'] for kind, entry in report.items()}
    # 北京大学 as place is 北京 with the wrong border; 上海 as org the wrong type;
    # 李 for 李四 a border; 无 invented
    assert counts == {'boundary': 2, 'type': 1, 'missed': 0, 'invented': 1}
    assert report['type']['examples'] == [
        (TEXTS[1], (3, 5, 'place'), (3, 5, 'org')),
    ]
    missed = error_report(TEXTS, GOLD, [[], [], []], examples=2)
    assert missed['missed']['count'] == 5
    assert len(missed['missed']['examples']) == 2
    text = format_errors(report)
    assert 'boundary: 2' in text
    assert 'gold 上海 (place), predicted 上海 (org)  in  李四在上海' in text


def test_every_error_is_counted_once(rng):
    def some():
        return [
            [
                (a, a + n, 'xy'[k])
                for a, n, k in rng.integers((0, 1, 0), (9, 4, 2), (5, 3))
            ]
            for _ in range(40)
        ]

    gold, found = some(), some()
    counts = {
        k: v['count'] for k, v in error_report(['字' * 12] * 40, gold, found).items()
    }
    scores = entity_scores(gold, found)
    paired = counts['type'] + counts['boundary']
    assert counts['missed'] + paired == scores['gold'] - scores['correct']
    assert counts['invented'] + paired == scores['predicted'] - scores['correct']


def test_the_table_lines_up():
    named = [[(0, 1, '人名')], [(0, 1, 'organisation')]]
    lines = format_scores(entity_scores(named, named)).split('\n')
    assert lines[0].split() == ['type', 'P', 'R', 'F1', 'gold', 'predicted', 'correct']
    wide = [sum(1 + (ord(c) > 255) for c in line) for line in lines]
    assert len(set(wide)) == 1
    assert lines[-1].startswith('all (micro)')
    assert '100.00' in lines[-1]
