"""Synthesizer's scores, row by row."""

import numpy as np


def network(x, kernel1, bias1, kernel2, bias2):
    """One step (e,) of one head -> its row of numbers."""
    return np.maximum(x @ kernel1 + bias1, 0) @ kernel2 + bias2


def outer_row(fast, slow):
    """tile(fast) * repeat(slow), written as a loop."""
    return np.array([c * a for c in slow for a in fast])


def scores(kind, weights, x, length):
    """B (b, h, n, n) for a text x (b, n, e), cut from `length` places.

    Args:
        weights: {name: array}, with the heads where the layer has them.
    """
    b, n, _ = x.shape
    w = weights
    heads = next(iter(w.values())).shape[0 if 'random' in kind else 1]
    found = np.zeros((b, heads, n, n))
    for s, h, i in np.ndindex(b, heads, n):
        if kind == 'random':
            row = w['table'][h, i]
        elif kind == 'factorized_random':
            row = w['columns'][h] @ w['rows'][h, i]
        else:
            rows = [
                network(
                    x[s, i],
                    w[p + 'kernel1'][:, h],
                    w[p + 'bias1'][h],
                    w[p + 'kernel2'][h],
                    w[p + 'bias2'][h, 0],
                )
                for p in (('',) if kind == 'dense' else ('tiled_', 'repeated_'))
            ]
            row = rows[0] if kind == 'dense' else outer_row(*rows)
        assert len(row) >= length
        found[s, h, i] = row[:n]
    return found
