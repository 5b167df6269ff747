"""The texts of the comparison, and batches of them for the peers.  NumPy alone."""

import numpy as np

CLASSES = {'classification': 15, 'ner': 31}


def make_rows(lengths, vocabulary, task, seed=0):
    """[(ids, labels)] of texts so long: a label for each, or for each token."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        # A Zipf's law, as of real tokens: their embeddings' gradients are added up.
        ids = np.minimum(rng.zipf(1.2, length) + 100, vocabulary - 1)
        size = length if task == 'ner' else ()
        rows.append((ids.astype('int32'), rng.integers(0, CLASSES[task], size)))
    return rows


def padded(rows, width=None):
    """(ids, 0/1 mask, labels) of a batch, as long as the longest, or of one width."""
    width = width or max(len(ids) for ids, _ in rows)
    ids = np.zeros((len(rows), width), 'int32')
    labels = np.array([np.zeros(width) if y.ndim else y for _, y in rows], 'int32')
    for i, (row, label) in enumerate(rows):
        ids[i, : len(row)] = row
        if label.ndim:
            labels[i, : len(row)] = label
    return ids, (ids > 0).astype('int32'), labels


def batches(rows, size, width=None):
    """All of them, in order."""
    return [padded(rows[i : i + size], width) for i in range(0, len(rows), size)]


def one_of_each_shape(found, shape):
    """The first batch of each shape: what has to be compiled."""
    return list({shape(batch): batch for batch in reversed(found)}.values())
