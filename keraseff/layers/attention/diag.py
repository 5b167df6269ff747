"""TransNormer's DiagAttention: attention inside of blocks."""

from keras import ops

from keraseff.layers.attention.blockwise import Blockwise
from keraseff.layers.attention.blockwise import written
from keraseff.layers.base import check_not_negative
from keraseff.ops import blocks


class Diag(Blockwise):
    """Attention inside blocks that do not overlap: ⌊j / block⌋ = ⌊i / block⌋.

    Time and memory O(n · block).  TransNormer puts it into the lower half of its
    layers, and NormAttention above.  A step keeps one block.

    Args:
        block: length of a block; the last may be unfinished.
        normalizer: 'softmax', as in TransNormer's T2; or 'relu', as in its T1:
            norm(relu(q kᵀ) v) with norm(x) = x / √(mean x² + epsilon) over all heads.
        dropout: share of the weights dropped while training.
        epsilon: the ε of the norm.

    Qin et al., The Devil in Linear Transformer, 2022, https://arxiv.org/abs/2210.10340
    """

    def __init__(
        self, block=64, normalizer='softmax', dropout=0.0, epsilon=1e-6, **kwargs
    ):
        super().__init__(dropout, **kwargs)
        self.block = block
        self.normalizer = normalizer
        self.epsilon = epsilon
        self._check(block=1)
        check_not_negative(epsilon=epsilon)
        if normalizer not in _MIXES:
            known = ', '.join(map(repr, _MIXES))
            raise ValueError(
                f'Diag: normalizer={normalizer!r} is unknown; there are: {known}.'
            )

    def parts(self, q, k, v, where):
        """The block."""
        return [blocks.block_part(q, k, v, where, self.block)]

    def mix(self, parts):
        """The values, mixed as the normalizer says."""
        return _MIXES[self.normalizer](self, parts)

    def _mix_rectified(self, parts):
        (part,) = parts
        weights = ops.relu(part.scores())  # what is unseen is far below 0
        weights = self.drop(weights) if self.drop else weights
        mixed = part._replace(v=ops.cast(part.v, 'float32')).mix(weights)
        square = ops.mean(ops.square(mixed), axis=(2, 3), keepdims=True)
        return ops.cast(mixed * ops.rsqrt(square + self.epsilon), part.v.dtype)

    def start(self, batch, length, heads, key_size, value_size):
        """One block."""
        return self.caches(batch, self.block, heads, key_size, value_size)

    def remember(self, k, v, t, state):
        """Begin the block anew where it is full."""
        return written(state, k, v, t % self.block)

    def recall(self, t, state):
        """The block up to t."""
        seen = ops.arange(self.block) <= t % self.block
        return [(state['k'], state['v'], seen)]


_MIXES = {'softmax': Blockwise.mix, 'relu': Diag._mix_rectified}
