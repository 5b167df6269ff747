"""Attention to what is near, and to the first keys."""

from keras import ops

from keraseff.layers.attention.blockwise import Blockwise
from keraseff.layers.attention.blockwise import written
from keraseff.ops import blocks


class Local(Blockwise):
    """Softmax attention to the keys j with |i - j| ≤ reach; causal, to those behind.

    Time and memory O(n · reach): each block of queries meets its neighbours' keys.
    A step keeps reach + 1 keys and values, and the sinks.

    Args:
        reach: how far a query sees; itself it always sees.
        sinks: the first keys, which are seen from anywhere: with them the mask is
            Λ-shaped (LM-Infinite, https://arxiv.org/abs/2308.16137).
        dropout: share of the weights dropped while training.

    Child et al., Generating Long Sequences with Sparse Transformers, 2019,
    https://arxiv.org/abs/1904.10509
    """

    def __init__(self, reach=128, sinks=0, dropout=0.0, **kwargs):
        super().__init__(dropout, **kwargs)
        self.reach = reach
        self.sinks = sinks
        self._check(reach=0, sinks=0)

    def parts(self, q, k, v, where):
        """The near keys with the sinks."""
        return [blocks.near_part(q, k, v, where, self.reach, self.sinks)]

    def start(self, batch, length, heads, key_size, value_size):
        """A ring of the last reach + 1 keys and values, and one of sinks."""
        sizes = heads, key_size, value_size
        state = self.caches(batch, min(self.reach + 1, length), *sizes)
        if self.sinks:  # one slot more, into which all later keys go unseen
            state |= self.caches(batch, self.sinks + 1, *sizes, prefix='first_')
        return state

    def remember(self, k, v, t, state):
        """Overwrite the oldest."""
        state = written(state, k, v, t % state['k'].shape[1])
        if self.sinks:
            slot = ops.minimum(t, self.sinks)
            state = written(state, k, v, slot, 'first_')
        return state

    def recall(self, t, state):
        """The ring so far as it is filled, and the sinks that have left it."""
        slots = ops.arange(state['k'].shape[1])
        age = (t - slots) % state['k'].shape[1]
        found = [(state['k'], state['v'], age <= t)]
        if self.sinks:
            slots = ops.arange(self.sinks + 1)
            far = ops.logical_and(slots < self.sinks, t - slots > self.reach)
            found.append((state['first_k'], state['first_v'], far))
        return found
