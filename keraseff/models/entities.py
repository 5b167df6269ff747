"""A trained model of spans or labels, put to use: texts in, entities out."""

import keras
import numpy as np

from keraseff.data.batching import DataGenerator
from keraseff.data.entity_windows import entity_windows
from keraseff.data.entity_windows import join_windows
from keraseff.decoding.spans import scores_to_entities
from keraseff.decoding.tagging import BIOES
from keraseff.layers.crf import ConditionalRandomField


class EntityExtractor:
    """Finds entities in texts of any length, with the places of their characters.

    Args:
        model: token ids, and segment ids where it has two inputs, to the scores of a
            GlobalPointer (b, h, n, n), or to the emissions (b, n, 4 h + 1) of a
            `ConditionalRandomField`, its last layer, over the labels of `BIOES`.
        tokenizer: with `tokenize`, `tokens_to_ids` and `rematch`.
        types: the names of the h types.
        maxlen: tokens; longer texts are read in overlapping windows.

    `thresholds`, {type: score}, are those an entity must exceed; 0 where there is none.
    """

    def __init__(self, model, tokenizer, types, maxlen=128):
        self.model = model
        self.tokenizer = tokenizer
        self.types = list(types)
        self.maxlen = maxlen
        self.thresholds = {}
        last = model.layers[-1]
        self.crf = last if isinstance(last, ConditionalRandomField) else None
        self.tags = BIOES(self.types)

    def windows(self, rows):
        """The windows of tokens over the texts of (text, entities) rows."""
        return entity_windows(rows, self.tokenizer, self.maxlen)

    def batches(self, windows, **options):
        """A `DataGenerator` over windows, with targets for this model's loss.

        Args:
            options: the generator's, such as `batch_size` and `seed`.
        """
        return _Batches(self, windows, **options)

    def extract(self, texts, threshold=None, batch_size=64):
        """For each text the entities (start, end, type, score), half-open.

        Args:
            threshold: for all types, in place of `thresholds`.

        A CRF gives no scores: its entities are (start, end, type).
        """
        texts = list(texts)
        windows = self.windows((text, ()) for text in texts)
        order = sorted(range(len(windows)), key=lambda i: len(windows[i].token_ids))
        ordered = [windows[i] for i in order]
        found = []
        batches = self.batches(ordered, batch_size=batch_size)
        for inputs, _ in batches:
            scores = np.asarray(self.model.predict_on_batch(inputs))
            chosen = ordered[len(found) : len(found) + len(scores)]
            found += self._decode(scores, chosen, threshold)
        return join_windows(ordered, found, len(texts))

    def _decode(self, scores, windows, threshold):
        if self.crf is not None:
            trans = keras.ops.convert_to_numpy(self.crf.trans)
            lengths = [len(window.token_ids) for window in windows]
            paths = self.tags.decode_batch(scores, trans, lengths)
            pairs = zip(windows, paths, strict=True)
            return [_characters(spans, window.mapping) for window, spans in pairs]
        limit = self.thresholds if threshold is None else threshold
        return [
            scores_to_entities(score, window.mapping, self.types, limit)
            for window, score in zip(windows, scores, strict=True)
        ]


class _Batches(DataGenerator):
    bucketing = True

    def __init__(self, extractor, windows, **options):
        super().__init__(windows, **options)
        self.extractor = extractor
        self.with_segments = len(extractor.model.inputs) > 1

    def encode(self, window):
        """Ids, and labels for a CRF or the ends of each type's spans."""
        ids, n = window.token_ids, len(window.token_ids)
        inputs = (ids, [0] * n) if self.with_segments else ids
        if self.extractor.crf is not None:
            spans = [(first, last + 1, kind) for first, last, kind in window.spans]
            return inputs, self.extractor.tags.labels(n, spans)
        return inputs, span_ends(window.spans, self.extractor.types)


def span_ends(spans, types):
    """The ends of the spans of each type (h, k, 2), padded with (0, 0)."""
    ends = [[span[:2] for span in spans if span[2] == kind] for kind in types]
    padded = np.zeros((len(types), max(1, *map(len, ends)), 2), 'int32')
    for row, pairs in zip(padded, ends, strict=True):
        row[: len(pairs)] = np.reshape(pairs, (-1, 2))
    return padded


def _characters(spans, mapping):
    """(start, end, type) in characters of the spans that [CLS] and [SEP] do not end."""
    return [
        (mapping[first][0], mapping[end - 1][-1] + 1, kind)
        for first, end, kind in spans
        if mapping[first] and mapping[end - 1]
    ]
