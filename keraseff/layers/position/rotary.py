"""Rotary position embedding (RoPE)."""

from keras import ops

from keraseff.layers.position.position import Position
from keraseff.ops import apply_rotary_position_embeddings
from keraseff.ops import sinusoidal_embeddings


class Rotary(Position):
    """(R_m q)ᵀ (R_n k) = qᵀ R_(n-m) k: rotations whose product knows only distance.

    Args:
        head_size: channels of a query, even; by default read from `x`'s last axis,
            which is right only where `x` holds queries.
        base: wavelengths run from 2π to base × 2π.

    (b, n, …) -> p (1 or b, n, head_size), interleaved sines and cosines in float32.
    Su et al., RoFormer, 2021, https://arxiv.org/abs/2104.09864
    """

    def __init__(self, head_size=None, base=10000, **kwargs):
        super().__init__(**kwargs)
        self.head_size = head_size
        self.base = base

    def call(self, x, position_ids=None):
        """The angles' sines and cosines for each step of `x`."""
        if position_ids is None:
            position_ids = ops.arange(ops.shape(x)[1], dtype='float32')[None]
        dim = self.head_size or x.shape[-1]
        return sinusoidal_embeddings(position_ids, dim, self.base)

    def compute_mask(self, x, previous_mask=None):
        """None: positions have no padding."""
        return None

    def rotate(self, q, k, p):
        """Queries and keys, each rotated by its own position."""
        if p.shape[-1] != q.shape[-1]:
            raise ValueError(
                f'Rotary(head_size={p.shape[-1]}) cannot rotate queries of '
                f'{q.shape[-1]} channels; give it head_size={q.shape[-1]}.'
            )
        return apply_rotary_position_embeddings(p, q, k)
