"""Batches of rows with labels and rows without."""

import keras
import numpy as np


def join_unlabelled(batches, unlabelled):
    """Batches for `model.fit` in which rows without labels follow those with.

    Args:
        batches: iterable of (x, y) or (x, y, sample_weight), such as
            `DataGenerator(…).forfit()`.
        unlabelled: iterable of x, like the others but for the number of rows and steps;
            it begins anew when it ends.  Of (x, y) the y is not looked at.

    Yields (x, y, sample_weight) until the first ends.  Sequences are padded with 0 to
    the longer.  The labels that are missing are 0, with weight 0; the others weigh as
    much as makes the compiled loss, a mean over all rows, the mean over theirs, times
    their sample_weight.

    Raises:
        ValueError: there are no unlabelled rows, or they are not like the others.
    """
    more = _endless(unlabelled)
    for batch in batches:
        x, y, given = keras.utils.unpack_x_y_sample_weight(tuple(batch))
        extra = _inputs(x, next(more))
        x = keras.tree.map_structure(_below, x, extra)
        rows = len(keras.tree.flatten(x)[0])
        labelled = len(keras.tree.flatten(y)[0])
        given = np.ones(labelled, 'float32') if given is None else np.asarray(given)
        weights = np.zeros((rows, *given.shape[1:]), 'float32')
        weights[:labelled] = given * (rows / labelled)
        yield x, keras.tree.map_structure(lambda a, n=rows: _extended(a, n), y), weights


def _inputs(like, batch):
    """The x of a batch that may have labels too."""
    if _alike(like, batch):
        return batch
    if isinstance(batch, tuple) and len(batch) in (2, 3) and _alike(like, batch[0]):
        return batch[0]
    wanted, came = (len(keras.tree.flatten(x)) for x in (like, batch))
    raise ValueError(
        f'the unlabelled rows come as {type(batch).__name__} of {came} arrays, the '
        f'inputs of the labelled as {type(like).__name__} of {wanted}; they have to be '
        'like each other.'
    )


def _alike(one, other):
    try:
        keras.tree.assert_same_structure(one, other)
    except (TypeError, ValueError):
        return False
    return True


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
