"""Attention to every r-th key, alone and beside what is near."""

from keras import ops

from keraseff.layers.attention.blockwise import Blockwise
from keraseff.layers.attention.blockwise import written
from keraseff.ops import blocks


class _Classes(Blockwise):
    """What sees the residue class of its step modulo `rate` keeps all classes."""

    def start(self, batch, length, heads, key_size, value_size):
        """Room for the keys and values of `length` steps, filled to whole rows."""
        length += -length % self.rate
        return self.caches(batch, length, heads, key_size, value_size)

    def remember(self, k, v, t, state):
        """Keep them all."""
        return written(state, k, v, t)

    def recall_class(self, t, state, beyond=-1):
        """The class of t, as far as it is more than `beyond` steps back."""
        rows = state['k'].shape[1] // self.rate
        steps = t % self.rate + self.rate * ops.arange(rows)
        found = []
        for x in (state['k'], state['v']):
            b, (h, d) = ops.shape(x)[0], x.shape[2:]
            x = ops.reshape(x, (b, rows, self.rate, h, d))
            x = ops.slice(x, (0, 0, t % self.rate, 0, 0), (b, rows, 1, h, d))
            found.append(ops.reshape(x, (b, rows, h, d)))
        return *found, t - steps > beyond


class Atrous(_Classes):
    """Softmax attention to the keys j with (i - j) mod rate = 0.

    Time and memory O(n² / rate): attention inside each residue class.  A step reads
    length / rate keys; its state holds those of all classes, `length` of them, for each
    will be asked for again: constant in t, as `length` is said at the start.

    Args:
        rate: the distance of one key seen to the next.
        dropout: share of the weights dropped while training.

    Su, 2019, https://kexue.fm/archives/6853
    """

    def __init__(self, rate=32, dropout=0.0, **kwargs):
        super().__init__(dropout, **kwargs)
        self.rate = rate
        self._check(rate=1)

    def parts(self, q, k, v, where):
        """The query's residue class."""
        return [blocks.class_part(q, k, v, where, self.rate)]

    def recall(self, t, state):
        """The class of t."""
        return [self.recall_class(t, state)]


class _Union(_Classes):
    """The residue class modulo `rate`, and all within `reach`."""

    def parts(self, q, k, v, where):
        """The near keys, and the residue class beyond them."""
        return [
            blocks.near_part(q, k, v, where, self.reach),
            blocks.class_part(q, k, v, where, self.rate, beyond=self.reach),
        ]

    def recall(self, t, state):
        """The last reach + 1 steps, and the class of t before them."""
        length = state['k'].shape[1]
        span = min(self.reach + 1, length)
        first = ops.minimum(ops.maximum(t - self.reach, 0), length - span)
        near = []
        for x in (state['k'], state['v']):
            shape = ops.shape(x)[0], span, *x.shape[2:]
            near.append(ops.slice(x, (0, first, 0, 0), shape))
        behind = t - (first + ops.arange(span))
        seen = ops.logical_and(behind >= 0, behind <= self.reach)
        return [(*near, seen), self.recall_class(t, state, beyond=self.reach)]


class Sparse(_Union):
    """Softmax attention to the keys that `Local` or `Atrous` see, in one softmax.

    |i - j| ≤ reach or (i - j) mod rate = 0, and no key counted twice.  Time and memory
    O(n · reach + n² / rate); the state of a step as in `Atrous`.

    Args:
        rate: the distance of one far key to the next.
        reach: how far every key is seen; rate by default.
        dropout: share of the weights dropped while training.

    Su, 2019, https://kexue.fm/archives/6853
    """

    def __init__(self, rate=32, reach=None, dropout=0.0, **kwargs):
        super().__init__(dropout, **kwargs)
        self.rate = rate
        self.reach = rate if reach is None else reach
        self._check(rate=1, reach=0)


class Strided(_Union):
    """OpenAI's strided pattern: the `stride` keys before, and each stride-th earlier.

    Both in one softmax, as where their heads are merged; two such layers carry every
    earlier step to every later one.  Not causal, it is symmetrical: |i - j| ≤ stride or
    (i - j) mod stride = 0.  The same as `Sparse` with rate = reach = stride.

    Args:
        stride: near the square root of the length, for O(n √n).
        dropout: share of the weights dropped while training.

    Child et al., 2019, https://arxiv.org/abs/1904.10509
    """

    def __init__(self, stride=128, dropout=0.0, **kwargs):
        super().__init__(dropout, **kwargs)
        self.stride = self.rate = self.reach = stride
        self._check(stride=1)


class Fixed(Blockwise):
    """OpenAI's fixed pattern: the own block, and the last c columns of earlier blocks.

    Key j is seen if ⌊j / stride⌋ = ⌊i / stride⌋, or j mod stride ≥ stride - c; causal,
    and j ≤ i.  Not causal, the columns of all blocks are seen (an unfinished last block
    has only those it reaches).  Time and memory O(n · stride + n² c / stride).  A step
    keeps one block and c length / stride columns.

    Args:
        stride: length of a block.
        c: how many of its last keys stand for the block.
        dropout: share of the weights dropped while training.

    Child et al., 2019, https://arxiv.org/abs/1904.10509
    """

    def __init__(self, stride=128, c=8, dropout=0.0, **kwargs):
        super().__init__(dropout, **kwargs)
        self.stride = stride
        self.c = c
        self._check(stride=1, c=1)
        if c > stride:
            raise ValueError(
                f'Fixed: c={c} columns are more than stride={stride}, all that a block '
                'has; use a smaller c.'
            )

    def parts(self, q, k, v, where):
        """The block, and the columns of others."""
        return [
            blocks.block_part(q, k, v, where, self.stride),
            blocks.column_part(q, k, v, where, self.stride, self.c),
        ]

    def start(self, batch, length, heads, key_size, value_size):
        """One block, and the columns of all."""
        sizes = heads, key_size, value_size
        columns = -(-length // self.stride) * self.c
        # One slot more, into which go the keys that are in no column.
        return self.caches(batch, self.stride, *sizes) | self.caches(
            batch, columns + 1, *sizes, prefix='column_'
        )

    def remember(self, k, v, t, state):
        """Begin the block anew where it is full."""
        inside = t % self.stride
        state = written(state, k, v, inside)
        column = inside - (self.stride - self.c)
        slot = t // self.stride * self.c + column
        nowhere = state['column_k'].shape[1] - 1
        slot = ops.where(column >= 0, slot, nowhere)
        return written(state, k, v, slot, 'column_')

    def recall(self, t, state):
        """The block up to t, and the columns before the block."""
        here = ops.arange(self.stride) <= t % self.stride
        slots = ops.arange(state['column_k'].shape[1])
        before = slots // self.c < t // self.stride
        return [
            (state['k'], state['v'], here),
            (state['column_k'], state['column_v'], before),
        ]
