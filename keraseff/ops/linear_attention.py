"""Attention by feature maps: sums over keys instead of a matrix of scores."""

import math

import numpy as np
from keras import ops

_LOW = -1e30  # stands for minus infinity, and stays finite in differences
_GROUP = 16


def noncausal_linear_attention(
    q, k, v, padding=None, logs=None, turned=None, normalise=True, epsilon=1e-6
):
    """out_i = Σ_j (q_i·k_j) v_j / (Σ_j q_i·k_j + ε), in time linear in m and n.

    Args:
        q, k: the features φ(q) (b, m, h, f) and φ(k) (b, n, h, f).
        v: (b, n, h, d).
        padding: (b, n) true where a key is real; others have no influence.
        logs: (b, n, h, 1) or None; the features of key j are exp(logs_j) k_j.
        turned: (q, k) with rotated features, for the numerator only (RoFormer's rule
            for linear attention).
        normalise: divide at all; False is not for use with `logs`.
        epsilon: ε; where `logs` are given it is relative to the largest key.

    All is computed in float32.  -> (b, m, h, d).
    Katharopoulos et al., 2020, https://arxiv.org/abs/2006.16236
    """
    q, k, v = (ops.cast(x, 'float32') for x in (q, k, v))
    v, ones = _masked(v, padding)
    if logs is not None:
        logs = _hidden(logs, padding)
        tops = ops.stop_gradient(ops.max(logs, axis=1, keepdims=True))
        share = ops.exp(logs - ops.maximum(tops, 0.1 * _LOW))
        v, ones = v * share, ones * share
    tq, tk = turned or (q, k)
    state = ops.einsum('bnhf,bnhd->bhfd', tk, v)
    above = ops.einsum('bmhf,bhfd->bmhd', tq, state)
    if not normalise:
        return above
    total = ops.einsum('bmhf,bhf->bmh', q, ops.sum(k * ones, axis=1))
    return divide(above, total[..., None], epsilon)


def causal_linear_attention(
    q,
    k,
    v,
    padding=None,
    logs=None,
    turned=None,
    normalise=True,
    epsilon=1e-6,
    chunk=64,
):
    """`noncausal_linear_attention` where no query sees a later key: j ≤ i in both sums.

    Scores are formed within chunks, sums are carried between them.  With `logs`, each
    query's sums are relative to the largest key up to it, so that no later key, however
    large, has any influence.

    Args:
        chunk: steps whose scores are formed at once; time grows as n (chunk + 2 f).
        others: as for `noncausal_linear_attention`, with m = n.

    All is computed in float32.  -> (b, n, h, d).
    Katharopoulos et al., 2020, https://arxiv.org/abs/2006.16236
    """
    size = _balanced(q.shape[1], chunk)
    b, n, h, _ = ops.shape(q)
    v, ones = _masked(ops.cast(v, 'float32'), padding)
    shares = None
    if logs is not None:
        shares = _Shares(_blocks(_hidden(logs, padding), size, _LOW)[..., 0])
    q, k, v, ones = (_blocks(x, size) for x in (q, k, v, ones))
    if turned is None and normalise:
        mixed = _mix(q, k, ops.concatenate([v, ones], axis=-1), shares)
        above, total = mixed[..., :-1], mixed[..., -1:]
    else:
        pair = [_blocks(x, size) for x in turned] if turned else (q, k)
        above = _mix(*pair, v, shares)
        total = _mix(q, k, ones, shares) if normalise else None
    if normalise:
        above = divide(above, total, epsilon)
    above = ops.reshape(above, (b, h, _count(n, size) * size, v.shape[-1]))
    return ops.transpose(above[:, :, :n], (0, 2, 1, 3))


def divide(above, below, epsilon):
    """above / (below + ε), whose gradient survives a tiny `below`."""
    below = below + max(epsilon, 1e-30)  # steps filled in have a sum of 0
    scale = 1 / ops.stop_gradient(below)  # else 1 / below² overflows
    return above * scale / (below * scale)


def _masked(v, padding):
    """Values without those of padding, and ones likewise (b, n, 1, 1)."""
    if padding is None:
        return v, ops.ones_like(v[..., :1])
    real = ops.cast(padding, 'float32')[:, :, None, None]
    return v * real, ops.broadcast_to(real, ops.shape(v)[:-1] + (1,))


def _hidden(logs, padding):
    logs = ops.cast(logs, 'float32')
    if padding is None:
        return logs
    return ops.where(ops.cast(padding, 'bool')[:, :, None, None], logs, _LOW)


def _balanced(n, chunk):
    """The size of chunks of nearly equal length, where the length is known."""
    if not isinstance(n, int):  # None, or a symbol of JAX
        return chunk
    return max(1, math.ceil(n / max(1, math.ceil(n / chunk))))


def _count(n, size):
    return -(-n // size)


def _padded(x, axis, size, fill=0):
    """Filled at the end of an axis up to a multiple of `size`."""
    if isinstance(x.shape[axis], int) and x.shape[axis] % size == 0:
        return x
    n = ops.shape(x)[axis]
    widths = [(0, 0)] * len(x.shape)
    widths[axis] = (0, _count(n, size) * size - n)
    return ops.pad(x, widths, constant_values=fill)


def _blocks(x, size, fill=0):
    """(b, n, h, f) -> (b, h, chunks, size, f) in float32."""
    b, n, h, f = ops.shape(x)
    x = _padded(ops.cast(x, 'float32'), 1, size, fill)
    count = _count(n, size)
    x = ops.reshape(x, (b, count, size, h, f))
    x = ops.transpose(x, (0, 3, 1, 2, 4))
    # By way of these axes, or Torch would lay it out anew for each product.
    return ops.reshape(ops.reshape(x, (b, h, count * size * f)), (b, h, count, size, f))


def _mix(q, k, v, shares=None):
    """Σ_(j≤i) (q_i·k_j) v_j for chunks (b, h, c, s, ·), with shares of the keys."""
    size, chunks = q.shape[3], q.shape[2]
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2))  # (b, h, c, s, s)
    seen = ops.convert_to_tensor(np.tri(size, dtype='float32'))
    scores = scores * (seen if shares is None else shares.pairs)
    mixed = ops.matmul(scores, v)
    if chunks == 1:
        return mixed
    own = v if shares is None else v * shares.own
    states = ops.matmul(ops.swapaxes(k, -1, -2), own)  # (b, h, c, f, d)
    if shares is None:
        tops = ops.zeros_like(states[..., 0, 0])
        return mixed + ops.matmul(q, _earlier(states, tops, _before(tops)))
    earlier = _earlier(states, shares.tops, shares.before)
    return mixed + ops.matmul(q, earlier) * shares.fade


class _Shares:
    """exp(logs) of the keys, each time relative to the largest that is seen.

    For logs (b, h, c, s): `pairs` (b, h, c, s, s) for queries and keys of one chunk,
    `own` (b, h, c, s, 1) relative to the chunk's largest `tops` (b, h, c), `before`
    (b, h, c) the largest of earlier chunks, `fade` (b, h, c, s, 1) what a query makes
    of sums that are relative to it.
    """

    def __init__(self, logs):
        size = logs.shape[3]
        seen = ops.convert_to_tensor(np.tri(size, dtype=bool))
        pairs = ops.where(seen, logs[..., None, :], _LOW)
        self.tops = ops.stop_gradient(ops.max(logs, axis=-1))
        self.before = _before(self.tops)
        top = ops.maximum(ops.max(pairs, axis=-1), self.before[..., None])
        top = ops.maximum(ops.stop_gradient(top), 0.1 * _LOW)[..., None]
        self.pairs = ops.exp(pairs - top)
        self.own = ops.exp(logs - ops.maximum(self.tops, 0.1 * _LOW)[..., None])
        self.own = self.own[..., None]
        self.fade = ops.exp(self.before[..., None, None] - top)


def _groups(x, fill=0):
    """(b, h, c, …) -> (b, h, groups, group, …)."""
    few = isinstance(x.shape[2], int) and x.shape[2] <= 2 * _GROUP
    size, shape = x.shape[2] if few else _GROUP, ops.shape(x)
    x = _padded(x, 2, size, fill)
    return ops.reshape(x, shape[:2] + (_count(shape[2], size), size) + shape[3:])


def _strictly(x):
    """True where the last axis stands before the last but one, for (…, c, c)."""
    steps = ops.arange(ops.shape(x)[-1])
    return steps[None, :] < steps[:, None]


def _exclusive_max(x):
    pairs = ops.broadcast_to(x[..., None, :], ops.shape(x) + ops.shape(x)[-1:])
    return ops.max(ops.where(_strictly(pairs), pairs, _LOW), axis=-1)


def _before(tops):
    """The largest of all earlier chunks, (b, h, c) -> (b, h, c)."""
    count = ops.shape(tops)[2]
    tops = _groups(tops, _LOW)
    before = _exclusive_max(ops.max(tops, axis=-1))[..., None]
    before = ops.maximum(before, _exclusive_max(tops))
    shape = ops.shape(before)
    return ops.reshape(before, shape[:2] + (shape[2] * shape[3],))[:, :, :count]


def _decay(tops, before):
    """exp(tops_j - before_i) where j < i, else 0: (…, c), (…, c) -> (…, c, c)."""
    pairs = tops[..., None, :] - before[..., :, None]
    return ops.exp(ops.where(_strictly(pairs), pairs, _LOW))


def _earlier(states, tops, before):
    """The sum of all earlier chunks' states, relative to `before`.

    Two levels of triangular matrix products: a cumulative sum is quadratic under XLA,
    and could not fade.  states (b, h, c, f, d), relative to tops (b, h, c).
    """
    b, h, count, f, d = ops.shape(states)
    states = _groups(ops.reshape(states, (b, h, count, f * d)))  # (b, h, g, s, f d)
    # Filled so that each decay is at most 1: an infinite one would spoil the gradient.
    tops, before = _groups(tops, _LOW), _groups(before, -_LOW)  # (b, h, g, s)
    near = ops.matmul(_decay(tops, before), states)
    groups, size = ops.shape(states)[2], states.shape[3]
    if states.shape[2] != 1:
        largest, first = ops.max(tops, axis=-1), before[..., 0]  # (b, h, g)
        share = ops.exp(tops - ops.maximum(largest, 0.1 * _LOW)[..., None])
        total = ops.matmul(share[..., None, :], states)[..., 0, :]  # (b, h, g, f d)
        far = ops.matmul(_decay(largest, first), total)[..., None, :]
        near = near + ops.exp(first[..., None] - before)[..., None] * far
    near = ops.reshape(near, (b, h, groups * size, f, d))
    return near[:, :, :count]


def running_logsumexp(x, chunks=(128, 16)):
    """log Σ_(j≤i) exp(x_j), channel by channel: (b, n, h, f) -> the same, float32.

    Args:
        chunks: sizes of the chunks within which sums run by doubling, of the chunks of
            their totals, and so on.
    """
    x = ops.transpose(ops.cast(x, 'float32'), (0, 2, 1, 3))
    return ops.transpose(_running(x, chunks), (0, 2, 1, 3))


def _running(x, chunks):
    """`running_logsumexp` of the last axis but one, (b, h, n, f)."""
    b, h, n, f = ops.shape(x)
    size = _balanced(x.shape[2], chunks[0]) if chunks else n
    if not chunks:
        steps = ops.arange(n)
        seen = steps[None, :, None] <= steps[:, None, None]
        return ops.logsumexp(ops.where(seen, x[:, :, None], _LOW), axis=-2)
    x = ops.reshape(_padded(x, 2, size, _LOW), (b, h, _count(n, size), size, f))
    step = 1
    while step < size:
        late = ops.pad(
            x[..., :-step, :], [(0, 0)] * 3 + [(step, 0), (0, 0)], constant_values=_LOW
        )
        x, step = ops.logaddexp(x, late), 2 * step
    if x.shape[2] != 1:
        totals = _running(x[..., -1, :], chunks[1:])[:, :, :-1]
        before = ops.pad(totals, [(0, 0), (0, 0), (1, 0), (0, 0)], constant_values=_LOW)
        x = ops.logaddexp(x, before[..., None, :])
    return ops.reshape(x, (b, h, _count(n, size) * size, f))[:, :, :n]
