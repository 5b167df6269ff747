import pytest

from keraseff.data import sentence_templates
from keraseff.data.builtin import characters
from keraseff.data.builtin import dictionary_words
from keraseff.data.builtin import synthetic_entities
from keraseff.data.builtin import train_dev

pytest.importorskip('jieba')


@pytest.fixture(scope='module')
def rows():
    return synthetic_entities(1500, seed=4)


def test_rows_are_sound(rows):
    for text, entities in rows:
        assert 6 <= len(text) <= 64
        assert entities == sorted(set(entities))
        assert all(0 <= start < end <= len(text) for start, end, _ in entities)
        assert '{' not in text
    kinds = {kind for _, entities in rows for *_, kind in entities}
    assert kinds == {'person', 'place', 'organisation'}


def test_seeds(rows):
    assert synthetic_entities(20, seed=4) == rows[:20]
    assert synthetic_entities(20, seed=5) != rows[:20]


def test_there_is_variety(rows):
    assert len(sentence_templates.WITH_ENTITIES) >= 60
    texts = {text for text, _ in rows}
    assert len(texts) > 0.85 * len(rows)
    assert 0.05 < sum(not entities for _, entities in rows) / len(rows) < 0.3
    lengths = [len(text) for text in texts]
    assert min(lengths) < 12
    assert max(lengths) > 40


def test_places_nest_in_organisations(rows):
    nested = [
        (text[a[0] : a[1]], text[b[0] : b[1]])
        for text, entities in rows
        for a in entities
        for b in entities
        if a[2] == 'place' and b[2] == 'organisation' and b[0] <= a[0] and a[1] <= b[1]
    ]
    assert len(nested) > 300
    assert all(len(place) < len(organisation) for place, organisation in nested)


def test_dev_has_other_names():
    train, dev = train_dev(600, seed=1)
    assert (len(train), len(dev)) == (600, 120)

    def names(rows, wanted):
        return [
            text[s:e] for text, found in rows for s, e, kind in found if kind == wanted
        ]

    for kind, shared in (('person', 0.0), ('place', 0.3), ('organisation', 0.05)):
        known = set(names(train, kind))
        there = names(dev, kind)
        assert len(there) > 50
        assert sum(name in known for name in there) <= shared * len(there)


def test_the_words_look_the_part():
    words = dictionary_words()
    assert len(words.people) > 20000
    assert len(words.places) > 5000
    assert len(words.organisations) > 1000
    assert {'北京', '上海', '南京市'} <= set(words.places)
    assert '清华大学' in words.organisations


def test_characters_by_frequency():
    rows = [('北北京', []), ('京', []), ('海', [])]
    assert characters(rows) == ['京', '北', '海']
    assert characters(rows, least=2) == ['京', '北']
