"""Sandwich: scores raised by the product of sinusoidal positions."""

import numpy as np
from keras import ops

from keraseff.layers.base import check_positive
from keraseff.layers.base import check_sizes
from keraseff.layers.position.alibi import DistanceBias
from keraseff.layers.position.alibi import for_each_head
from keraseff.ops import plain_frequencies


class Sandwich(DistanceBias):
    """Scores plus λ_h ⟨p_i, p_j⟩ = λ_h Σ cos((i - j) θ_c), θ_c = base^(-2c/dim).

    Sinusoidal positions that meet each other only, not the content; the sum falls off
    like the logarithm of the distance.

    Args:
        head_size: not used; every position takes it.
        heads: number of heads; may be left out where only `bias` is used.
        dim: channels of the sinusoidal vectors, even.
        base: their wavelengths run from 2π to base × 2π.
        scale: λ, the same for all heads; by default λ_h = heads / (8 h), h = 1 … heads,
            as in the authors' code.

    (b, m, …) -> p (1 or b, heads, m, n) float32.
    Chi et al., Dissecting Transformer Length Extrapolation via the Lens of Receptive
    Field Analysis, 2022, https://arxiv.org/abs/2212.10356
    """

    def __init__(
        self, head_size=None, heads=None, dim=128, base=10000, scale=None, **kwargs
    ):
        super().__init__(head_size, heads, **kwargs)
        check_sizes(dim=dim)
        check_positive(base=base)
        if dim % 2:
            raise ValueError(f'Sandwich needs an even dim, got {dim}.')
        self.dim = dim
        self.base = base
        self.scale = scale

    def of_distance(self, far):
        """λ_h Σ cos(d θ_c)."""
        if self.scale is None:
            scales = self.heads / (8 * np.arange(1, self.heads + 1))
        else:
            scales = np.full(self.heads, self.scale)
        total = 0.0
        # One pair after the other: all at once would take dim / 2 times the memory.
        for frequency in plain_frequencies(self.dim, self.base):
            total = total + ops.cos(far * float(frequency))
        return for_each_head(scales) * total[:, None]
