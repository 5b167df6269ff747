"""Span scores, their loss and their F1, one span at a time: numpy, float64."""

import numpy as np


def rotate(x, position):
    """Each pair of channels as a complex number, turned by position * theta_i."""
    d = len(x)
    theta = 10000.0 ** (-2 * np.arange(d // 2) / d)
    turned = (x[::2] + 1j * x[1::2]) * np.exp(1j * position * theta)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(d)


def global_pointer(x, kernel, bias, heads, head_size, rope=True):
    """The scores (heads, n, n) of one text (n, e), lower triangle included."""
    n, scores = len(x), np.zeros((heads, len(x), len(x)))
    for h in range(heads):
        columns = slice(2 * h * head_size, 2 * (h + 1) * head_size)
        both = x @ kernel[:, columns] + bias[columns]
        q, k = both[:, :head_size], both[:, head_size:]
        for i in range(n):
            for j in range(n):
                a, b = (rotate(q[i], i), rotate(k[j], j)) if rope else (q[i], k[j])
                scores[h, i, j] = a @ b / np.sqrt(head_size)
    return scores


def efficient_global_pointer(x, p, q, heads, head_size, rope=True):
    """The paper's sum: shared q.k, and w_h . [q_i; k_i; q_j; k_j] for each type.

    p and q are the (kernel, bias) of the layer's two projections.
    """
    projected = x @ p[0] + p[1]
    query, key = projected[:, ::2], projected[:, 1::2]
    n, scores = len(x), np.zeros((heads, len(x), len(x)))
    for h in range(heads):
        w_last, w_first = q[0][:, 2 * h] / 2, q[0][:, 2 * h + 1] / 2
        w = np.concatenate([w_first[::2], w_first[1::2], w_last[::2], w_last[1::2]])
        constant = (q[1][2 * h] + q[1][2 * h + 1]) / 2
        for i in range(n):
            for j in range(n):
                a, b = query[i], key[j]
                if rope:
                    a, b = rotate(a, i), rotate(b, j)
                ends = np.concatenate([query[i], key[i], query[j], key[j]])
                scores[h, i, j] = a @ b / np.sqrt(head_size) + w @ ends + constant
    return scores


def multilabel_loss(labels, scores):
    """log(1 + sum over pairs e^(s_i - s_j) + ...), as the paper expands it."""
    negative = [s for s, y in zip(scores, labels, strict=True) if not y]
    positive = [s for s, y in zip(scores, labels, strict=True) if y]
    total = 1 + sum(np.exp(s) for s in negative) + sum(np.exp(-s) for s in positive)
    total += sum(np.exp(i - j) for i in negative for j in positive)
    return np.log(total)


def spans(scores, threshold=0):
    """The set of (text, type, first, last) whose score exceeds the threshold."""
    return set(map(tuple, np.argwhere(np.asarray(scores) > threshold).tolist()))


def f1(gold, predicted):
    total = len(gold) + len(predicted)
    return 2 * len(gold & predicted) / total if total else 0.0
