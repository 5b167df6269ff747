"""Rotary position embedding (RoPE), along a line or in a plane."""

import inspect

from keras import ops

from keraseff.layers.base import check_positive
from keraseff.layers.base import check_sizes
from keraseff.layers.base import given
from keraseff.layers.position.position import Position
from keraseff.ops import apply_rotary_position_embeddings
from keraseff.ops import complete_scaling
from keraseff.ops import rotary_frequencies
from keraseff.ops import sinusoids
from keraseff.ops.rotary_scaling import ROTARY_SCALINGS
from keraseff.ops.rotary_scaling import looks_at_length


class Rotary(Position):
    """(R_m q)ᵀ (R_n k) = qᵀ R_(n-m) k: rotations whose product knows only distance.

    Args:
        head_size: channels of a query, even; by default read from `x`'s last axis,
            which is right only where `x` holds queries.
        base: wavelengths run from 2π to base × 2π.
        interleaved: neighbouring channels form a pair (RoFormer, GPT-J); else channel i
            and the one half the rotated channels further (LLaMA, Qwen, GPT-NeoX).
        scaling: a rule for long texts in Hugging Face's spelling (`rope_scaling`,
            `rope_parameters`), for instance {'rope_type': 'linear', 'factor': 4}; the
            rules are those of `ROTARY_SCALINGS`.  Its `rope_theta` and
            `partial_rotary_factor` stand above `base` and `partial`.
        max_position: the longest text of the model, where the rule needs it.
        partial: share of the channels that is rotated, the first ones.
        axes: 1, or 2 for places in a plane: of the rotated channels, a multiple of 4,
            the first half turns by x, the second by y, each half on its own.
        width: with axes=2, step k stands at x = k mod width, y = ⌊k / width⌋, as in a
            picture read by rows; position_ids then may be (1 or b, m) as well.

    (b, m, …) -> p (1 or b, m, rotated channels), interleaved sines and cosines in
    float32; with `keys` (b, n, …), their n positions follow the m of the queries.
    `position_ids` are (1 or b, m), with axes=2 (1 or b, m, 2); fractions are allowed.
    A rule that looks at the present length takes it from position_ids, where given.
    Raises ValueError where the rule is unknown or lacks numbers that it needs, or
    places in a plane are not given.
    Su et al., RoFormer, 2021, https://arxiv.org/abs/2104.09864; in a plane
    https://kexue.fm/archives/8397
    """

    def __init__(
        self,
        head_size=None,
        base=10000,
        interleaved=True,
        scaling=None,
        max_position=None,
        partial=1.0,
        axes=1,
        width=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if axes not in (1, 2) or (width is not None and axes == 1):
            raise ValueError(
                f'Rotary(axes={axes!r}, width={width!r}) is unknown; axes is 1 or 2, '
                'and width belongs to axes=2.'
            )
        sizes = {'head_size': head_size, 'max_position': max_position, 'width': width}
        check_sizes(**given(**sizes))
        check_positive(base=base, partial=partial)
        if partial > 1:
            raise ValueError(
                f'partial={partial} is the share of the channels that is rotated; use '
                'at most 1.'
            )
        self.head_size = head_size
        self.base = base
        self.interleaved = interleaved
        self.scaling = scaling
        self.max_position = max_position
        self.partial = partial
        self.axes = axes
        self.width = width
        self._options = complete_scaling(scaling, max_position)
        # Else a policy of half precision rounds fractional position_ids.
        self.autocast = False

    @property
    def rotates_once(self):
        """A key's rotation stays as the text grows, so that it can be kept."""
        return not looks_at_length(self._options)

    @property
    def turns(self):
        """Whether a distance is one number, so that `turn` can stand for it."""
        return self.axes == 1

    def build(self, x_shape, position_ids_shape=None, keys_shape=None):
        """No weights; raises ValueError where steps have no place in the plane."""
        places = position_ids_shape is not None and len(position_ids_shape) == 3
        if self.axes == 2 and self.width is None and not places:
            raise ValueError(_NO_PLACE)

    def call(self, x, position_ids=None, keys=None):
        """The angles' sines and cosines for each step of `x`, and of `keys`."""
        ids, length = self._places(x, position_ids, keys)
        return self._angles(ids, length, self.head_size or x.shape[-1])

    def _places(self, x, position_ids, keys):
        """Where queries, then keys, stand; and the present number of steps."""
        ids = ops.arange(ops.shape(x)[1], dtype='float32')[None]
        if position_ids is not None:
            ids = ops.cast(position_ids, 'float32')
        present, ids = ids, self._spread(ids)
        if keys is not None:
            count = ops.shape(keys)[1]
            line = ops.arange(count, dtype='float32')[None]
            # In a step the keys' places are those of the whole cache, mostly to come.
            if position_ids is None:
                present = ops.concatenate([present, line], axis=1)
            behind = self._spread(line)
            rest = tuple(behind.shape[2:])
            behind = ops.broadcast_to(behind, (ops.shape(ids)[0], count, *rest))
            ids = ops.concatenate([ids, behind], axis=1)
        return ids, ops.max(present, initial=0) + 1  # also of no steps at all

    def _spread(self, ids):
        """Steps along a line as places in the plane, (…, m) -> (…, m, 2)."""
        if self.axes == 1 or len(ids.shape) == 3:
            return ids
        if self.width is None:
            raise ValueError(_NO_PLACE)
        row = ops.floor(ids / self.width)
        return ops.stack([ids - row * self.width, row], axis=-1)

    def _angles(self, ids, length, size):
        channels = self._channels(size)
        frequencies, scale = rotary_frequencies(
            channels // self.axes,
            self.base,
            self.scaling,
            self.max_position,
            length=length,
        )
        p = sinusoids(ids, frequencies, scale)
        if self.axes == 1:
            return p
        return ops.reshape(p, ops.shape(ids)[:2] + (channels,))

    def _channels(self, size):
        share = self._options.get('partial_rotary_factor', self.partial)
        if self._options['rope_type'] == 'proportional':
            share = 1  # the rule itself leaves the other channels still
        channels = int(size * share)
        if self.axes == 2 and channels % 4:
            raise ValueError(
                'Rotary(axes=2) turns pairs of channels by x and as many by y; the '
                f'rotated channels must be a multiple of 4, got {channels}.'
            )
        if channels == size and size % 2:
            raise ValueError(
                f'Rotary turns pairs of channels and needs an even dim, got {size}.'
            )
        return channels

    def rotate(self, q, k, p):
        """Queries and keys, each rotated by its own position."""
        self._check_angles(q, k, p)
        m, behind = ops.shape(q)[1], ops.shape(p)[1] - ops.shape(k)[1]
        return self._turned(p[:, :m], q), self._turned(p[:, behind:], k)

    def _check_angles(self, q, k, p):
        channels = self._channels(q.shape[-1])
        if p.shape[-1] != channels + channels % 2:
            name = type(self).__name__
            raise ValueError(
                f'{name}(head_size={self.head_size}) made angles for {p.shape[-1]} '
                f'channels, which cannot rotate queries of {q.shape[-1]} channels; '
                f'give it head_size={q.shape[-1]}.'
            )
        self._check_lengths(q.shape[1], k.shape[1], p.shape[1])

    def turn(self, x, steps, length=1):
        """All of x (b, n, h, d), turned by one and the same number of steps.

        Args:
            steps: a number or a scalar tensor, fractions allowed; with axes=2 also two
                of them, those along x and y.
            length: the present number of steps, for a rule that looks at it.
        """
        ids = ops.cast(ops.convert_to_tensor(steps), 'float32')
        ids = ops.broadcast_to(ids, (1, 1) if self.axes == 1 else (1, 1, 2))
        return self._turned(self._angles(ids, length, x.shape[-1]), x)

    def _turned(self, p, x):
        if self.axes == 1 or self.interleaved:
            return apply_rotary_position_embeddings(p, x, interleaved=self.interleaved)
        half = p.shape[-1] // 2
        parts = (p[..., :half], x[..., :half]), (p[..., half:], x[..., half:])
        parts = [
            apply_rotary_position_embeddings(*part, interleaved=False) for part in parts
        ]
        return ops.concatenate(parts, axis=-1)

    def _check_lengths(self, m, n, length):
        if None in (m, n, length) or length == m + n or length == m == n:
            return
        raise ValueError(
            f'Rotary made angles for {length} steps, which cannot rotate {m} queries '
            f'and {n} keys; where keys are not the queries themselves, call it with '
            'keys=.'
        )


def _maker(name, doc, make, options):
    """A function whose signature names all of its options."""
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(x, kind, default=None) for x in options]
    make.__signature__ = inspect.Signature(parameters)
    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return make


def scaled_rotary(rule):
    """A function that makes a `Rotary` of one scaling rule, its options given flat.

    Its options are those of `Rotary` but `scaling`, and those of the rule.
    """
    _, needed, optional = ROTARY_SCALINGS[rule]
    flat = dict.fromkeys((*needed, *optional, *_SHARED))

    def make(**options):
        scaling = {x: options.pop(x) for x in flat if x in options and x not in _OWN}
        return Rotary(scaling={'rope_type': rule, **scaling}, **options)

    doc = f'`Rotary` under the scaling rule {rule!r}.'
    return _maker(rule, doc, make, dict.fromkeys((*_OWN, *flat)))


def _rotary_2d(**options):
    return Rotary(axes=2, **options)


_NO_PLACE = (
    'Rotary(axes=2) does not know where the steps stand in the plane; call it with '
    'position_ids (1 or b, m, 2), without keys, or give width, the number of steps in '
    "a row (position_options={'width': 14}, where a name stands for it)."
)
_OWN = tuple(x for x in Rotary._argument_names() if x != 'scaling')
_SHARED = ('rope_theta', 'partial_rotary_factor')
_RULES = ('pi', 'ntk', 'ntk_fixed', 'ntk_mixed', 'ntk_by_parts', 'yarn', 'dynamic')
ROTARY_RULES = {rule: scaled_rotary(rule) for rule in _RULES}
rotary_2d = _maker(
    'rotary_2d',
    '`Rotary` in a plane, axes=2.',
    _rotary_2d,
    [x for x in Rotary._argument_names() if x != 'axes'],
)
