"""ALiBi, and the base of all positions that add a function of distance to scores."""

import numpy as np
from keras import ops

from keraseff.layers.base import check_sizes
from keraseff.layers.base import given
from keraseff.layers.position.position import Position


class DistanceBias(Position):
    """Adds to each head's scores a function of how far query and key are apart.

    Args:
        head_size: not used; every position takes it.
        heads: number of heads; may be left out where only `bias` is used.

    A subclass writes `of_distance(far)`: |i - j|, (1 or b, m, n) float32, -> the bias
    (1 or b, heads, m, n).  Queries see forward as far as backward.

    (b, m, …) -> p (1 or b, heads, m, n) float32.  Fractional position_ids are allowed.
    Raises ValueError where p is asked for without heads.
    """

    needs_scores = True

    def __init__(self, head_size=None, heads=None, **kwargs):
        super().__init__(**kwargs)
        check_sizes(**given(heads=heads))
        self.head_size = head_size
        self.heads = heads
        # Else a policy of half precision rounds position_ids.
        self.autocast = False

    def call(self, x, position_ids=None, keys=None):
        """What is added to the scores, for each head, query and key."""
        self._check_heads()
        line = ops.arange(ops.shape(x)[1], dtype='float32')[None]
        queries = line if position_ids is None else ops.cast(position_ids, 'float32')
        behind = queries
        if keys is not None:
            behind = ops.arange(ops.shape(keys)[1], dtype='float32')[None]
        return self.of_distance(ops.abs(behind[:, None, :] - queries[:, :, None]))

    def _check_heads(self):
        if self.heads is None:
            raise ValueError(
                f'{type(self).__name__}(heads=None) cannot tell its heads apart; give '
                'heads, the number of attention heads.'
            )

    def of_distance(self, far):
        """The bias of each head for each distance.  A subclass writes it."""
        raise NotImplementedError(f'{type(self).__name__} must define of_distance.')

    def bias(self, scores, q, p):
        """Scores plus what each head adds for the distance."""
        return scores + ops.cast(p, scores.dtype)


def for_each_head(numbers):
    """A number for each head (h,), ready to meet (b, h, m, n)."""
    return ops.reshape(ops.cast(numbers, 'float32'), (1, -1, 1, 1))


def alibi_slopes(heads):
    """2^(-8 h / heads) for h = 1 … heads, where heads is a power of two.

    For another number, the slopes of the power below come first, then every other slope
    of twice that power, the first, third, ….

    -> (heads,) float64, all of them different.
    """
    power = 2 ** (int(heads).bit_length() - 1)
    whole = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    finer = 2.0 ** (-8 * np.arange(1, 2 * power, 2) / (2 * power))
    return np.concatenate([whole, finer[: heads - power]])


class ALiBi(DistanceBias):
    """Scores less slope_h · |i - j|, a slope for each head (see `alibi_slopes`).

    Args:
        head_size: not used; every position takes it.
        heads: number of heads; may be left out where only `bias` is used.

    (b, m, …) -> p (1 or b, heads, m, n) float32.
    Press et al., Train Short, Test Long, 2021, https://arxiv.org/abs/2108.12409
    """

    def of_distance(self, far):
        """-slope_h · |i - j|."""
        return -for_each_head(alibi_slopes(self.heads)) * far[:, None]
