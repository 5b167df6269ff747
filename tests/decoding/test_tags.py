import numpy as np
import pytest

from keraseff.decoding import spans_to_tags
from keraseff.decoding import tags_to_spans

SPANS = [(0, 1, 'PER'), (1, 4, 'LOC'), (6, 8, 'LOC'), (8, 9, 'ORG')]
WRITTEN = {
    'BIO': 'B-PER B-LOC I-LOC I-LOC O O B-LOC I-LOC B-ORG O',
    'BMES': 'S-PER B-LOC M-LOC E-LOC O O B-LOC E-LOC S-ORG O',
    'BIOES': 'S-PER B-LOC I-LOC E-LOC O O B-LOC E-LOC S-ORG O',
    'BMEO': 'B-PER B-LOC M-LOC E-LOC O O B-LOC E-LOC B-ORG O',
}


@pytest.mark.parametrize('scheme', WRITTEN)
def test_both_ways_by_hand(scheme):
    tags = WRITTEN[scheme].split()
    assert spans_to_tags(10, SPANS, scheme) == tags
    assert tags_to_spans(tags, scheme) == SPANS
    assert tags_to_spans(tags, scheme, strict=True) == SPANS


def test_every_spelling_of_a_tag():
    for tags in ('B_PER I_PER O', 'PER-B PER-I O', 'PER_B PER_I O', 'B-PER I-PER o'):
        assert tags_to_spans(tags.split()) == [(0, 2, 'PER')]
    assert tags_to_spans('B I O B'.split()) == [(0, 2, ''), (3, 4, '')]
    assert tags_to_spans('B-a-b I-a-b'.split()) == [(0, 2, 'a-b')]
    with pytest.raises(ValueError, match="'NOUN' is not a tag"):
        tags_to_spans(['NOUN'])


def test_iob1():
    tags = 'I-PER I-PER B-PER O I-LOC I-PER'.split()
    expected = [(0, 2, 'PER'), (2, 3, 'PER'), (4, 5, 'LOC'), (5, 6, 'PER')]
    assert tags_to_spans(tags) == expected


def test_ill_formed_tags():
    tags = 'I-PER O B-LOC I-PER O B-ORG I-ORG'.split()
    lenient = [(0, 1, 'PER'), (2, 3, 'LOC'), (3, 4, 'PER'), (5, 7, 'ORG')]
    assert tags_to_spans(tags) == lenient
    assert tags_to_spans(tags, strict=True) == [(2, 3, 'LOC'), (5, 7, 'ORG')]
    assert tags_to_spans('B-A M-A O'.split(), 'BMES', strict=True) == []


@pytest.mark.parametrize(('scheme', 'prefixes'), [('BIO', 'BI'), ('BIOES', 'BIES')])
def test_random_tags_as_seqeval_reads_them(rng, scheme, prefixes):
    labelling = pytest.importorskip('seqeval.metrics.sequence_labeling')
    labels = ['O', *(f'{p}-{kind}' for p in prefixes for kind in 'XY')]
    for _ in range(300):
        tags = [labels[i] for i in rng.integers(len(labels), size=8)]
        peer = [(s, e + 1, kind) for kind, s, e in labelling.get_entities(tags)]
        assert tags_to_spans(tags, scheme) == peer, tags


@pytest.mark.parametrize(('scheme', 'peer'), [('BIO', 'IOB2'), ('BIOES', 'IOBES')])
def test_strict_as_seqeval_reads_them(rng, scheme, peer):
    schemes = pytest.importorskip('seqeval.scheme')
    prefixes = 'BI' if scheme == 'BIO' else 'BIES'
    labels = ['O', *(f'{p}-{kind}' for p in prefixes for kind in 'XY')]
    for _ in range(300):
        tags = [labels[i] for i in rng.integers(len(labels), size=7)]
        found = schemes.Entities([tags], getattr(schemes, peer)).entities[0]
        expected = sorted((e.start, e.end, e.tag) for e in found)
        ours = tags_to_spans(tags, scheme, strict=True)
        assert ours == expected, tags


def test_impossible_spans_are_refused():
    with pytest.raises(ValueError, match='overlaps'):
        spans_to_tags(5, [(0, 3, 'A'), (2, 4, 'B')])
    with pytest.raises(ValueError, match='does not fit 5'):
        spans_to_tags(5, [(3, 6, 'A')])
    with pytest.raises(ValueError, match='scheme'):
        spans_to_tags(5, [(3, 4, 'A')], 'IOB9')


@pytest.mark.parametrize('scheme', WRITTEN)
def test_random_spans_come_back(scheme):
    rng = np.random.default_rng(3)
    for _ in range(50):
        cuts = np.unique(rng.integers(0, 30, 9)).tolist()
        spans = [
            (a, b, 'AB'[rng.integers(2)])
            for a, b in zip(cuts, cuts[1:], strict=False)
            if rng.random() < 0.6
        ]
        assert tags_to_spans(spans_to_tags(30, spans, scheme), strict=False) == spans
