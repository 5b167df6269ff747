"""Batches of rows with labels and rows without."""

import keras
import numpy as np


def join_unlabelled(batches, unlabelled):
    """Batches for `model.fit` in which rows without labels follow those with.

    Args:
        batches: iterable of (x, y), such as `DataGenerator(…).forfit()`.
        unlabelled: iterable of x, like the others but for the number of rows and steps;
            it begins anew when it ends.

    Yields (x, y, sample_weight) until the first ends.  Sequences are padded with 0 to
    the longer.  The labels that are missing are 0, with weight 0; the others weigh as
    much as makes the compiled loss, a mean over all rows, the mean over theirs.

    Raises:
        ValueError: there are no unlabelled rows.
    """
    more = _endless(unlabelled)
    for x, y in batches:
        extra = next(more)
        x = keras.tree.map_structure(_below, x, extra)
        rows = len(keras.tree.flatten(x)[0])
        labelled = len(keras.tree.flatten(y)[0])
        weights = np.zeros(rows, 'float32')
        weights[:labelled] = rows / labelled
        yield x, keras.tree.map_structure(lambda a, n=rows: _extended(a, n), y), weights


def _endless(batches):
    while True:
        any_came = False
        for x in batches:
            any_came = True
            yield x
        if not any_came:
            raise ValueError(
                'there are no unlabelled rows (any more): give a list, or an iterable '
                'that can begin anew.'
            )


def _below(above, below):
    above, below = np.asarray(above), np.asarray(below)
    if above.ndim == 1:
        return np.concatenate([above, below])
    longest = max(above.shape[1], below.shape[1])
    padded = [
        np.pad(a, [(0, 0), (0, longest - a.shape[1])] + [(0, 0)] * (a.ndim - 2))
        for a in (above, below)
    ]
    return np.concatenate(padded)


def _extended(labels, rows):
    labels = np.asarray(labels)
    missing = np.zeros((rows - len(labels), *labels.shape[1:]), labels.dtype)
    return np.concatenate([labels, missing])
