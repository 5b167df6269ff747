"""ReRoPE and Leaky ReRoPE: rotary positions whose far distances stand still."""

import numbers

from keras import ops

from keraseff.layers.position.rotary import Rotary


class TwoRangeRotary(Rotary):
    """RoPE within a window, other rotations beyond it: the base of those two.

    A subclass writes `far(ids)`, where steps stand for the far range, and `shift()`;
    a far key then is `far(i) - far(j) + shift` steps behind its query, or
    `far(j) - far(i) + shift` ahead.  Such a distance is no difference of two places, so
    each range is rotated and multiplied by itself and the scores chosen by distance.

    Args:
        window: distances below it are those of RoPE.
        causal: no query sees a later key, so that the range ahead is left out; the
            scores of later keys then mean nothing.
        block: None forms one matrix of scores (m, n) for each range and chooses.  A
            number goes by so many queries at a time and forms each far score once, and
            near ones for window + block keys around them only; the scores are equal.
            With position_ids, or lengths that are unknown while TensorFlow lays its
            graph, it is not used.

    (b, m, …) -> p (1 or b, m + n, channels): for queries, then for keys (by default the
    same sequence), the sinusoids of each range, and the place where position_ids are
    given.  A cache must keep keys that are not rotated.
    """

    needs_scores = True
    rotates_once = False

    def __init__(self, window=256, causal=False, block=None, **kwargs):
        super().__init__(**kwargs)
        for name, value in (('window', window), ('block', block)):
            number = isinstance(value, numbers.Real)
            if value is not None and not (number and value >= 1 and value % 1 == 0):
                raise ValueError(
                    f'{name}={value!r} must be a whole number of steps, at least 1.'
                )
        if self.axes != 1:
            raise ValueError(
                f'{type(self).__name__}(axes={self.axes}) has no distance to compare '
                'with its window; places must lie along a line, axes=1.'
            )
        self.window = window
        self.causal = causal
        self.block = block

    def far(self, ids):
        """Where the steps `ids`, float32, stand for the far range."""
        raise NotImplementedError(f'{type(self).__name__} must define far(ids).')

    def shift(self):
        """What is added to the difference of two far places."""
        raise NotImplementedError(f'{type(self).__name__} must define shift().')

    def call(self, x, position_ids=None, keys=None):
        """The sinusoids of each range, for queries and for keys."""
        ids, length = self._places(x, position_ids, keys)
        if keys is None:
            ids = ops.concatenate([ids, ids], axis=1)
        m = ops.shape(x)[1]
        far, shift = self.far(ids), self.shift()
        places = [ids, ops.concatenate([far[:, :m] + shift, far[:, m:]], axis=1)]
        if not self.causal:
            places.append(ops.concatenate([far[:, :m] - shift, far[:, m:]], axis=1))
        size = self.head_size or x.shape[-1]
        parts = [self._angles(place, length, size) for place in places]
        if position_ids is not None:
            parts.append(ids[..., None])
        return ops.concatenate(parts, axis=-1)

    def rotate(self, q, k, p):
        """Raise ValueError: there is a rotation for each range."""
        raise ValueError(
            f'{type(self).__name__} turns queries and keys in another way for each '
            'range of distances; use compare(q, k, p, score).'
        )

    def compare(self, q, k, p, score):
        """The scores (b, h, m, n), each of the range that its distance is in."""
        ranges = 2 if self.causal else 3
        channels = (p.shape[-1] - p.shape[-1] % 2) // ranges
        turned = [
            super(TwoRangeRotary, self).rotate(
                q, k, p[..., i * channels : (i + 1) * channels]
            )
            for i in range(ranges)
        ]
        m, n = q.shape[1], k.shape[1]
        if p.shape[-1] % 2:  # position_ids came
            m = ops.shape(q)[1]
            behind = p[:, :m, None, -1] - p[:, None, m:, -1]
            return self._choose(turned, behind[:, None], score)
        if isinstance(m, int) and isinstance(n, int):
            if max(m, n) <= self.window:
                return score(*turned[0])
            if self.block and m > 1:
                return self._by_blocks(turned, m, n, score)
        behind = _behind(0, ops.shape(q)[1], 0, ops.shape(k)[1])
        return self._choose(turned, behind, score)

    def _choose(self, turned, behind, score):
        """All scores of all ranges, and of these the right ones."""
        near, far, *ahead = (score(q, k) for q, k in turned)
        if ahead:
            far = ops.where(behind > 0, far, ahead[0])
        return ops.where(ops.abs(behind) < self.window, near, far)

    def _by_blocks(self, turned, m, n, score):
        """The same; of what lies outside of the window, only the range that counts."""
        rows = []
        for start in range(0, m, self.block):
            stop = min(start + self.block, m)
            queries = [(q[:, start:stop], k) for q, k in turned]
            # Keys that are near one of these queries at least.
            low = min(max(start - self.window + 1, 0), n)
            high = min(stop + self.window - 1, n)
            parts = [_some(queries[1], 0, low, score)]
            if low < high:
                near = [(q, k[:, low:high]) for q, k in queries]
                behind = _behind(start, stop, low, high)
                parts.append(self._choose(near, behind, score))
            parts.append(_some(queries[-1], high, n, score))
            parts = [part for part in parts if part is not None]
            rows.append(ops.concatenate(parts, axis=-1))
        return ops.concatenate(rows, axis=2)


def _behind(start, stop, low, high):
    """How far keys low … high stand behind queries start … stop, (1, 1, m, n)."""
    queries = ops.arange(start, stop, dtype='int32')
    return (queries[:, None] - ops.arange(low, high, dtype='int32'))[None, None]


def _some(pair, low, high, score):
    """The scores of the keys low … high, or None where there are none."""
    q, k = pair
    return score(q, k[:, low:high]) if low < high else None


class ReRoPE(TwoRangeRotary):
    """RoPE with the distance min(i - j, w): what is far is all equally far.

    Leaky ReRoPE, with `leak` k, takes w + (i - j - w) / k for those beyond the window.
    A model trained with RoPE reads longer texts without training, for it meets no
    distance that it has not seen: up to w, or w + (n - w) / k.  Distances ahead, where
    they are seen, are treated alike.

    Args:
        window: w; a quarter to a half of the length seen in training.
        leak: k; None (infinite) stands still, 1 is RoPE.
        causal, block: see `TwoRangeRotary`.
        head_size, base, interleaved, scaling, max_position, partial: see `Rotary`.

    (b, m, …) -> p, to be used by `compare` alone.  Raises ValueError where the window
    or leak make no sense.
    Su, 2023, https://kexue.fm/archives/9708, https://github.com/bojone/rerope
    """

    def __init__(self, window=256, leak=None, **kwargs):
        super().__init__(window=window, **kwargs)
        if leak is not None and not (isinstance(leak, numbers.Real) and leak > 0):
            raise ValueError(
                f'leak={leak!r} divides distances and must be positive; None takes '
                'them all for the window.'
            )
        self.leak = leak

    def far(self, ids):
        """Steps divided by `leak`; all at 0 without it."""
        return ids / self.leak if self.leak else ops.zeros_like(ids)

    def shift(self):
        """What makes both ranges meet at the window."""
        return self.window - self.window / self.leak if self.leak else self.window


class LeakyReRoPE(ReRoPE):
    """`ReRoPE` with a leak of 16 where nothing else is said.

    https://kexue.fm/archives/9731
    """

    def __init__(self, window=256, leak=16, **kwargs):
        super().__init__(window, leak, **kwargs)
