"""Sequences cut into groups, and attention inside of each.

A group is a block of neighbouring steps, or a residue class (every r-th step).  Grouped
tensors are (b, g, h, m, d): g groups, heads, m steps of each.  No function here forms
anything of n × n.
"""

import collections

import numpy as np
from keras import backend
from keras import ops

from keraseff.ops.masking import masked_value

# Smaller blocks would be many tiny products.
SMALLEST_BLOCK = 32


class Part(
    collections.namedtuple('Part', ['q', 'k', 'v', 'seen', 'restore'], defaults=[None])
):
    """Some of the keys that each query sees, group by group.

    `q` (b, g, h, m, d), `k` (b, g, h, n, d), `v` (b, g, h, n, d_v), `seen` broadcasts
    to (b, g, 1, m, n), and `restore` turns (b, g, h, m, x) into (b, n, h, x).
    """

    def scores(self):
        """(b, g, h, m, n) in float32, what is unseen at `masked_value`."""
        scores = ops.einsum('bghmd,bghnd->bghmn', self.q, self.k)
        scores = ops.cast(scores, 'float32')
        return ops.where(self.seen, scores, masked_value('float32'))

    def mix(self, weights):
        """The values by weights (b, g, h, m, n) -> (b, n, h, d_v)."""
        weights = ops.cast(weights, self.v.dtype)
        return self.restore(ops.einsum('bghmn,bghnd->bghmd', weights, self.v))


def mix_parts(parts, drop=None):
    """One softmax over the keys of all parts, of which no two may share a key.

    Args:
        parts: one `Part` or two, of the same queries.
        drop: what thins the weights, or None.

    -> (b, n, h, d_v) in the values' dtype.
    """
    drop = drop or (lambda weights: weights)
    if len(parts) == 1:
        return parts[0].mix(drop(_softmax(parts[0].scores())))
    (a, of_a), (b, of_b) = (_mix_one(part, drop) for part in parts)
    # e^x / (e^x + e^y) = σ(x - y), the first part's share of the whole.
    mixed = b + ops.sigmoid(of_a - of_b) * (a - b)
    return ops.cast(mixed, parts[0].v.dtype)


def _softmax(scores):
    if scores.shape[-1] == 1:  # of which ops.softmax warns
        return ops.ones_like(scores)
    return ops.softmax(scores, axis=-1)


def _mix_one(part, drop):
    """The part by itself, and the logarithm of its share; both in float32."""
    scores = part.scores()
    top = ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True))
    weights = ops.exp(scores - top)
    total = ops.sum(weights, axis=-1, keepdims=True)  # (b, g, h, m, 1)
    share = part.restore(top + ops.log(total))
    if backend.standardize_dtype(part.v.dtype) == 'float16':
        # Undivided weights could add up beyond its range.
        return ops.cast(part.mix(drop(weights / total)), 'float32'), share
    mixed = ops.cast(part.mix(drop(weights)), 'float32')
    return mixed / part.restore(total), share


def one_group(x):
    """(b, n, h, d) -> (b, 1, h, n, d)."""
    return ops.transpose(x, (0, 2, 1, 3))[:, None]


def out_of_one_group(x):
    """(b, 1, h, n, d) -> (b, n, h, d)."""
    return ops.transpose(x[:, 0], (0, 2, 1, 3))


def in_blocks(x, size):
    """(b, n, h, d) -> (b, n / size, h, size, d); zeros fill the last block."""
    return ops.transpose(_folded(x, size), (0, 1, 3, 2, 4))


def out_of_blocks(x, n):
    """(b, g, h, size, d) -> (b, n, h, d), without what filled the last block."""
    h, size, d = x.shape[2:]
    b, g = ops.shape(x)[:2]
    x = ops.transpose(x, (0, 1, 3, 2, 4))
    return ops.reshape(x, (b, g * size, h, d))[:, :n]


def in_classes(x, rate):
    """(b, n, h, d) -> (b, rate, h, n / rate, d); group r has steps r, r + rate, …"""
    return ops.transpose(_folded(x, rate), (0, 2, 3, 1, 4))


def out_of_classes(x, n):
    """(b, rate, h, m, d) -> (b, n, h, d), without what filled the classes."""
    rate, h, d = x.shape[1], x.shape[2], x.shape[4]
    b, m = ops.shape(x)[0], ops.shape(x)[3]
    x = ops.transpose(x, (0, 3, 1, 2, 4))
    return ops.reshape(x, (b, m * rate, h, d))[:, :n]


def with_neighbours(x, before, after, axis):
    """Each block (b, g, …) joined with so many blocks before and after, along an axis.

    Beyond the ends stand zeros.
    """
    if not before and not after:
        return x
    g = ops.shape(x)[1]
    edges = [(0, 0), (before, after)] + [(0, 0)] * (len(x.shape) - 2)
    longer = ops.pad(x, edges)
    parts = [longer[:, i : i + g] for i in range(before + after + 1)]
    return ops.concatenate(parts, axis=axis)


def _folded(x, size):
    """(b, n, …) -> (b, n / size, size, …); zeros fill what is missing."""
    shape = x.shape[2:]
    b, n = ops.shape(x)[:2]
    # In this order: JAX proves for an unknown n that the sizes are equal.
    g = (n + size - 1) // size
    x = _longer(x, g * size - n)
    return ops.reshape(x, (b, g, size, *shape))


def _longer(x, steps):
    """Zeros after the last step."""
    if isinstance(steps, int) and steps == 0:
        return x
    return ops.pad(x, [(0, 0), (0, steps)] + [(0, 0)] * (len(x.shape) - 2))


def _real(padding, n, size):
    """(b or 1, g, size), true where a step of a block is real."""
    if padding is None:
        padding = ops.ones_like(ops.arange(n), dtype='bool')[None]
    return _folded(ops.cast(padding, 'bool'), size)


def near_part(q, k, v, where, window, sinks=0):
    """The keys at most `window` steps away; with causality, behind.

    Args:
        q, k, v: (b, n, h, d).
        where: a `Mask` of padding and causality.
        sinks: as many of the first keys are seen from anywhere.
    """
    n = ops.shape(q)[1]
    size = max(window, sinks, SMALLEST_BLOCK)
    reach = 1 if window else 0
    if isinstance(n, int) and n <= size:
        size, reach = max(n, sinks, 1), 0
    around = (reach, 0 if where.causal else reach)
    real = _real(where.padding, n, size)
    q, k, v = (in_blocks(x, size) for x in (q, k, v))
    seen = with_neighbours(real, *around, 2)[:, :, None, None, :]
    seen = ops.logical_and(seen, _band(size, around, window, where.causal))
    keys, values = (with_neighbours(x, *around, 3) for x in (k, v))
    part = Part(q, keys, values, seen, lambda x: out_of_blocks(x, n))
    if not sinks:
        return part
    first = (k[:, :1, :, :sinks], v[:, :1, :, :sinks], real[:, 0, :sinks])
    return _with_sinks(part, *first, window, where.causal)


def _band(size, around, window, causal):
    """(size, keys): which of a block's and its neighbours' keys lie in the window."""
    before, after = around
    keys = np.arange(-before * size, (1 + after) * size)
    behind = np.arange(size)[:, None] - keys
    return (behind <= window) & (behind >= (0 if causal else -window))


def _with_sinks(part, k, v, real, window, causal):
    """The part with the first keys (b, 1, h, s, d) put before each group's own."""
    g, size, sinks = ops.shape(part.q)[1], part.q.shape[3], real.shape[1]
    queries = ops.reshape(ops.arange(g * size), (1, g, 1, size, 1))
    behind = queries - ops.arange(sinks)
    far = behind > window  # the window has the others
    if not causal:
        far = ops.logical_or(far, behind < -window)
    far = ops.logical_and(far, real[:, None, None, None, :])
    b = ops.shape(part.seen)[0]
    seen = ops.broadcast_to(part.seen, (b, g, 1, size, part.seen.shape[4]))
    return part._replace(
        k=_beside(k, part.k),
        v=_beside(v, part.v),
        seen=ops.concatenate([far, seen], axis=-1),
    )


def _beside(first, grouped):
    b, g = ops.shape(grouped)[:2]
    first = ops.broadcast_to(first, (b, g, *first.shape[2:]))
    return ops.concatenate([first, grouped], axis=3)


def class_part(q, k, v, where, rate, beyond=-1):
    """The keys a multiple of `rate` steps away, more than `beyond` of them."""
    n = ops.shape(q)[1]
    if isinstance(n, int):
        rate = max(1, min(rate, n))
    q, k, v = (in_classes(x, rate) for x in (q, k, v))
    rows = ops.shape(q)[3]
    behind = ops.arange(rows)[:, None] - ops.arange(rows)
    far = rate * behind > beyond
    if not where.causal:
        far = ops.logical_or(far, -rate * behind > beyond)
    real = ops.transpose(_real(where.padding, n, rate), (0, 2, 1))
    seen = ops.logical_and(real[:, :, None, None, :], far)
    return Part(q, k, v, seen, lambda x: out_of_classes(x, n))


def block_part(q, k, v, where, size):
    """The keys of the query's own block of `size` steps."""
    n = ops.shape(q)[1]
    if isinstance(n, int):
        size = max(1, min(size, n))
    real = _real(where.padding, n, size)[:, :, None, None, :]
    seen = ops.logical_and(real, _band(size, (0, 0), size, where.causal))
    q, k, v = (in_blocks(x, size) for x in (q, k, v))
    return Part(q, k, v, seen, lambda x: out_of_blocks(x, n))


def column_part(q, k, v, where, size, columns):
    """The keys in the last `columns` steps of each other, or each earlier, block.

    Blocks are of `size` steps; an unfinished last one lacks its last steps.
    """
    n = ops.shape(q)[1]
    real = _real(where.padding, n, size)[:, :, size - columns :]
    b, blocks = ops.shape(real)[:2]
    real = ops.reshape(real, (b, 1, 1, 1, blocks * columns))
    theirs = ops.arange(blocks * columns) // columns
    mine = ops.arange(n)[:, None] // size
    other = theirs < mine if where.causal else theirs != mine
    k, v = (_columns(x, size, columns) for x in (k, v))
    return Part(one_group(q), k, v, ops.logical_and(real, other), out_of_one_group)


def _columns(x, size, columns):
    x = in_blocks(x, size)[:, :, :, size - columns :]  # (b, g, h, columns, d)
    b, g, h, _, d = (*ops.shape(x)[:2], *x.shape[2:])
    x = ops.transpose(x, (0, 2, 1, 3, 4))
    return ops.reshape(x, (b, 1, h, g * columns, d))
