"""Linear chains by listing every path: numpy, float64, tiny cases only."""

import itertools

import numpy as np


def paths(n, labels):
    return list(itertools.product(range(labels), repeat=n))


def path_score(emissions, trans, path):
    score = sum(emissions[t, y] for t, y in enumerate(path))
    return score + sum(trans[a, b] for a, b in itertools.pairwise(path))


def log_z(emissions, trans):
    n, labels = emissions.shape
    scores = [path_score(emissions, trans, path) for path in paths(n, labels)]
    return np.logaddexp.reduce(scores)


def best_path(emissions, trans):
    return max(paths(*emissions.shape), key=lambda p: path_score(emissions, trans, p))


def expectations(emissions, trans):
    """How often each label at each step, and each pair of neighbours, is expected."""
    n, labels = emissions.shape
    whole = log_z(emissions, trans)
    single, pair = np.zeros((n, labels)), np.zeros((labels, labels))
    for path in paths(n, labels):
        p = np.exp(path_score(emissions, trans, path) - whole)
        for t, y in enumerate(path):
            single[t, y] += p
        for a, b in itertools.pairwise(path):
            pair[a, b] += p
    return single, pair


def memm_loss(emissions, trans, path):
    """The mean of both directions' -log p, step by step."""

    def directed(steps, table, labels):
        loss, previous = 0, None
        for row, label in zip(steps, labels, strict=True):
            logits = row if previous is None else row + table[previous]
            loss += np.logaddexp.reduce(logits) - logits[label]
            previous = label
        return loss

    backward = directed(emissions[::-1], trans.T, list(path)[::-1])
    return (directed(emissions, trans, path) + backward) / 2
