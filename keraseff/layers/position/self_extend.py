"""Self-Extend: rotary positions that count far steps by groups."""

from keras import ops

from keraseff.layers.base import check_sizes
from keraseff.layers.position.rerope import TwoRangeRotary


class SelfExtend(TwoRangeRotary):
    """RoPE within a window, and beyond it the distance ⌊i/G⌋ - ⌊j/G⌋ + w - ⌊w/G⌋.

    A model trained with RoPE on L steps reads (L - w) G + w without training.
    Distances ahead, where they are seen, are treated alike.

    Args:
        window: w, the number of neighbours with distances of their own.
        group: G, how many steps share a place beyond the window; 1 is RoPE.
        causal, block: see `TwoRangeRotary`.
        head_size, base, interleaved, scaling, max_position, partial: see `Rotary`.

    (b, m, …) -> p, to be used by `compare` alone.  Raises ValueError where the window
    or group make no sense.
    Jin et al., 2024, https://arxiv.org/abs/2401.01325
    """

    def __init__(self, window=256, group=8, **kwargs):
        super().__init__(window=window, **kwargs)
        check_sizes(group=group)
        self.group = group

    def far(self, ids):
        """The number of the group that each step is in."""
        # In integers: XLA divides floats by multiplying, and ⌊3 × (1/3)⌋ may be 0.
        groups = ops.floor_divide(ops.cast(ops.floor(ids), 'int32'), self.group)
        return ops.cast(groups, 'float32')

    def shift(self):
        """What makes both ranges meet at the window."""
        return self.window - self.window // self.group
