"""Labels for a CRF: there and back, and never a path that means nothing."""

import itertools

import numpy as np

from keraseff.data.builtin import synthetic_entities
from keraseff.decoding.spans import flatten_spans
from keraseff.decoding.tagging import BIOES
from keraseff.decoding.tags import spans_to_tags
from keraseff.decoding.tags import tags_to_spans


def test_labels_keep_the_outermost():
    tags = BIOES(['place', 'organisation'])
    nested = [(0, 2, 'place'), (0, 4, 'organisation'), (6, 7, 'place')]
    names = [tags.tags[i] for i in tags.labels(8, nested)]
    assert names[:4] == [f'{p}-organisation' for p in 'BIIE']
    assert names[4:] == ['O', 'O', 'S-place', 'O']


def test_there_and_back():
    tags = BIOES(['person', 'place', 'organisation'])
    for text, entities in synthetic_entities(30):
        labels = tags.labels(len(text), entities)
        emissions = np.eye(len(tags))[labels][None]
        spans = tags.decode_batch(emissions, np.zeros((13, 13)), [len(text)])[0]
        assert spans == flatten_spans(entities)


def test_the_best_allowed_path(rng):
    tags = BIOES(['x'])
    n, c = 4, len(tags)
    emissions, trans = rng.normal(size=(1, n, c)), rng.normal(size=(c, c))

    def well_formed(path):
        names = [tags.tags[i] for i in path]
        return spans_to_tags(n, tags_to_spans(names), 'BIOES') == names

    def score(path):
        return emissions[0, range(n), path].sum() + trans[path[:-1], path[1:]].sum()

    paths = [list(p) for p in itertools.product(range(c), repeat=n)]
    best = max(filter(well_formed, paths), key=score)
    found = tags.decode_batch(emissions, trans, [n])[0]
    assert found == tags_to_spans([tags.tags[i] for i in best])
    # the grammar allows neither more nor less than what spans can be written as
    allowed = tags.allowed()
    first, last = 'OBS', 'OES'
    for path in paths:
        names = [tags.tags[i] for i in path]
        legal = all(allowed[a, b] for a, b in itertools.pairwise(path))
        legal = legal and names[0][0] in first and names[-1][0] in last
        assert legal == well_formed(path)
