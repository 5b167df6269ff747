"""Rotary position embedding (RoPE)."""

from keras import ops

from keraseff.layers.position.position import Position
from keraseff.ops import apply_rotary_position_embeddings
from keraseff.ops import complete_scaling
from keraseff.ops import rotary_frequencies
from keraseff.ops import sinusoids


class Rotary(Position):
    """(R_m q)ᵀ (R_n k) = qᵀ R_(n-m) k: rotations whose product knows only distance.

    Args:
        head_size: channels of a query, even; by default read from `x`'s last axis,
            which is right only where `x` holds queries.
        base: wavelengths run from 2π to base × 2π.
        interleaved: neighbouring channels form a pair (RoFormer, GPT-J); else channel i
            and the one half the rotated channels further (LLaMA, Qwen, GPT-NeoX).
        scaling: a rule for long texts in Hugging Face's spelling (`rope_scaling`,
            `rope_parameters`), for instance {'rope_type': 'linear', 'factor': 4}; there
            are default, linear, dynamic, yarn, longrope, llama3, proportional.  Its
            `rope_theta` and `partial_rotary_factor` stand above `base` and `partial`.
        max_position: the longest text of the model, where the rule needs it.
        partial: share of the channels that is rotated, the first ones.

    (b, m, …) -> p (1 or b, m, rotated channels), interleaved sines and cosines in
    float32; with `keys` (b, n, …), their n positions follow the m of the queries.
    Raises ValueError where the rule is unknown or lacks numbers that it needs.
    Su et al., RoFormer, 2021, https://arxiv.org/abs/2104.09864
    """

    def __init__(
        self,
        head_size=None,
        base=10000,
        interleaved=True,
        scaling=None,
        max_position=None,
        partial=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.head_size = head_size
        self.base = base
        self.interleaved = interleaved
        self.scaling = scaling
        self.max_position = max_position
        self.partial = partial
        self._options = complete_scaling(scaling, max_position)
        # Else a policy of half precision rounds fractional position_ids.
        self.autocast = False

    def call(self, x, position_ids=None, keys=None):
        """The angles' sines and cosines for each step of `x`, and of `keys`."""
        ids = position_ids
        if ids is None:
            ids = ops.arange(ops.shape(x)[1], dtype='float32')[None]
        ids = ops.cast(ids, 'float32')
        if keys is not None:
            behind = ops.arange(ops.shape(keys)[1], dtype='float32')[None]
            behind = ops.broadcast_to(behind, (ops.shape(ids)[0], ops.shape(keys)[1]))
            ids = ops.concatenate([ids, behind], axis=1)
        frequencies, scale = rotary_frequencies(
            self._channels(self.head_size or x.shape[-1]),
            self.base,
            self.scaling,
            self.max_position,
            length=ops.max(ids) + 1,
        )
        return sinusoids(ids, frequencies, scale)

    def _channels(self, size):
        share = self._options.get('partial_rotary_factor', self.partial)
        if self._options['rope_type'] == 'proportional':
            share = 1  # the rule itself leaves the other channels still
        channels = int(size * share)
        if channels == size and size % 2:
            raise ValueError(
                f'Rotary turns pairs of channels and needs an even dim, got {size}.'
            )
        return channels

    def rotate(self, q, k, p):
        """Queries and keys, each rotated by its own position."""
        channels = self._channels(q.shape[-1])
        if p.shape[-1] != channels + channels % 2:
            raise ValueError(
                f'Rotary(head_size={self.head_size}) made angles for {p.shape[-1]} '
                f'channels, which cannot rotate queries of {q.shape[-1]} channels; '
                f'give it head_size={q.shape[-1]}.'
            )
        self._check_lengths(q.shape[1], k.shape[1], p.shape[1])
        m, behind = ops.shape(q)[1], ops.shape(p)[1] - ops.shape(k)[1]
        return tuple(
            apply_rotary_position_embeddings(angles, x, interleaved=self.interleaved)
            for angles, x in ((p[:, :m], q), (p[:, behind:], k))
        )

    def _check_lengths(self, m, n, length):
        if None in (m, n, length) or length == m + n or length == m == n:
            return
        raise ValueError(
            f'Rotary made angles for {length} steps, which cannot rotate {m} queries '
            f'and {n} keys; where keys are not the queries themselves, call it with '
            'keys=.'
        )
