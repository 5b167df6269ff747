"""Texts in, entities out: planted scores come back as the right characters."""

import keras
import numpy as np
import pytest
from keras import ops

from keraseff.layers import ConditionalRandomField
from keraseff.layers import GlobalPointer
from keraseff.losses import sparse_global_pointer_crossentropy
from keraseff.models.entities import EntityExtractor
from keraseff.models.entities import span_ends
from keraseff.tokenizers.per_character import CharacterTokenizer

pytestmark = pytest.mark.every_backend
TYPES = ['x', 'y']
TEXTS = ['甲乙丙甲', '丙' * 40 + '甲乙', '', '乙']


class Planted(keras.layers.Layer):
    """Scores of 5 from each 甲 to the 乙 next to it, as type y; else -5."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def call(self, ids):
        start = ops.cast(ids == self.first, 'float32')[:, :, None]
        end = ops.cast(ids == self.second, 'float32')[:, None, :]
        n = ops.shape(ids)[1]
        beside = ops.arange(n)[:, None] + 1 == ops.arange(n)[None, :]
        hit = start * end * ops.cast(beside, 'float32')
        return ops.stack([hit * 0 - 5, hit * 10 - 5], axis=1)


def test_planted_spans_return_with_their_places():
    tokenizer = CharacterTokenizer.from_texts(TEXTS, least=1)
    ids = keras.Input((None,), dtype='int32')
    scores = Planted(*tokenizer.tokens_to_ids('甲乙'))(ids)
    extractor = EntityExtractor(keras.Model(ids, scores), tokenizer, TYPES, maxlen=16)
    found = extractor.extract(TEXTS, batch_size=2)
    assert found == [[(0, 2, 'y', 5.0)], [(40, 42, 'y', 5.0)], [], []]
    extractor.thresholds = {'y': 6.0}
    assert extractor.extract(TEXTS) == [[], [], [], []]
    assert extractor.extract(TEXTS[:1], threshold=0) == [[(0, 2, 'y', 5.0)]]


def test_targets():
    ends = span_ends([(1, 2, 'y'), (3, 3, 'y')], TYPES)
    np.testing.assert_array_equal(ends, [[[0, 0], [0, 0]], [[1, 2], [3, 3]]])
    assert span_ends([], TYPES).shape == (2, 1, 2)


@pytest.mark.parametrize('head', ['globalpointer', 'crf'])
def test_it_learns_a_corpus_by_heart(head):
    rows = [('甲乙丙丁', [(0, 2, 'x'), (3, 4, 'y')]), ('丙甲乙', [(1, 3, 'x')])] * 8
    tokenizer = CharacterTokenizer.from_texts(text for text, _ in rows)
    ids = keras.Input((None,), dtype='int32')
    hidden = keras.layers.Embedding(len(tokenizer.tokens), 16, mask_zero=True)(ids)
    if head == 'crf':
        crf = ConditionalRandomField()
        x = crf(keras.layers.Dense(9)(hidden))
        loss = crf.sparse_loss
    else:
        x = GlobalPointer(2, 16)(hidden)
        loss = sparse_global_pointer_crossentropy
    extractor = EntityExtractor(keras.Model(ids, x), tokenizer, TYPES, 16)
    extractor.model.compile(keras.optimizers.Adam(0.1), loss)
    batches = extractor.batches(extractor.windows(rows), batch_size=16)
    inputs, targets = next(iter(batches))
    for _ in range(25):
        extractor.model.train_on_batch(inputs, targets)
    found = extractor.extract([text for text, _ in rows[:2]])
    assert [[e[:3] for e in row] for row in found] == [rows[0][1], rows[1][1]]
