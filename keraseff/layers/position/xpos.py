"""XPOS: rotations that fade with distance."""

import keras
import numpy as np
from keras import ops

from keraseff.layers.base import check_positive
from keraseff.layers.position.rotary import Rotary


class XPOS(Rotary):
    """RoPE whose scores fade by ζ_c^((i - j) / scale_base), ζ_c = (2c/d + γ) / (1 + γ).

    Query i is multiplied by ζ^(i / scale_base), key j by ζ^(-j / scale_base), pair c of
    d/2 on its own: the fast pairs fade first.  Both exponents count from the middle of
    all positions present, which keeps the numbers small and leaves the scores as they
    are.  What a query would see ahead of itself grows instead: the attention must be
    causal.

    Args:
        head_size, base, interleaved, scaling, max_position, partial: as in `Rotary`.
        scale_base: steps over which a pair fades by its ζ.
        gamma: γ; the fastest pair has ζ = γ / (1 + γ).

    (b, m, …) -> p (1 or b, m, 2 × rotated channels): sines and cosines for queries,
    then for keys.  Float16 has little room for the powers: there the scores are formed
    in float32, and a mechanism that forms none reaches to about 4000 steps.
    Sun et al., A Length-Extrapolatable Transformer, 2022,
    https://arxiv.org/abs/2212.10554
    """

    causal_only = True
    turns = False
    # The middle moves as the text grows.
    rotates_once = False

    def __init__(
        self,
        head_size=None,
        base=10000,
        interleaved=True,
        scaling=None,
        max_position=None,
        partial=1.0,
        scale_base=512,
        gamma=0.4,
        **kwargs,
    ):
        super().__init__(
            head_size, base, interleaved, scaling, max_position, partial, **kwargs
        )
        if self.axes != 1:
            raise ValueError('XPOS fades along a line; axes=2 has no order in it.')
        check_positive(scale_base=scale_base, gamma=gamma)
        self.scale_base = scale_base
        self.gamma = gamma

    def call(self, x, position_ids=None, keys=None):
        """Sines and cosines, fading for queries and growing for keys."""
        ids, length = self._places(x, position_ids, keys)
        p = self._angles(ids, length, self.head_size or x.shape[-1])
        pairs = np.arange(p.shape[-1] // 2) * 2 / p.shape[-1]
        fades = np.repeat(np.log((pairs + self.gamma) / (1 + self.gamma)), 2)
        middle = (ops.max(ids) + ops.min(ids)) / 2
        exponents = ops.expand_dims((ids - middle) / self.scale_base, -1)
        exponents = exponents * ops.cast(fades, 'float32')
        return ops.concatenate([p * ops.exp(exponents), p * ops.exp(-exponents)], -1)

    def rotate(self, q, k, p):
        """Queries and keys, each rotated and scaled by its own position."""
        half = p.shape[-1] // 2
        self._check_angles(q, k, p[..., :half])
        m, behind = ops.shape(q)[1], ops.shape(p)[1] - ops.shape(k)[1]
        q = self._turned(p[:, :m, :half], q)
        return q, self._turned(p[:, behind:, half:], k)

    def compare(self, q, k, p, score):
        """The scores, with room for the powers."""
        kind = keras.backend.standardize_dtype(q.dtype)
        if kind == 'float16':
            q, k = ops.cast(q, 'float32'), ops.cast(k, 'float32')
        return ops.cast(super().compare(q, k, p, score), kind)
