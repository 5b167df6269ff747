"""Who may look at whom."""

import dataclasses

from keras import ops

from keraseff.layers.shapes import check_mask


@dataclasses.dataclass(frozen=True)
class Mask:
    """What a query may see of the keys; statements that must all allow it.

    Args:
        padding: (b, n) true where a key is real, or None.
        causal: a Python bool: no key later than the query.  Static, so that a linear
            mechanism can answer with a running sum instead of a matrix.
        dense: (b or 1, m, n) true where query m may see key n, or None; only
            mechanisms that form the score matrix take it.
        window: how many steps back a query sees, its own among them, and as many
            ahead; None sees all.
        sinks: the first keys, which the window does not hide (a Λ-shaped mask).

    Windows with sinks: Han et al., LM-Infinite, 2023, https://arxiv.org/abs/2308.16137
    """

    padding: object = None
    causal: bool = False
    dense: object = None
    window: int | None = None
    sinks: int = 0

    def matrix(self, m, n):
        """All statements as one bool tensor (b or 1, 1, m, n), or None if all is seen.

        With `causal` or `window`, the last query stands at the last key, so a cache of
        earlier keys may make n larger than m.

        Raises:
            ValueError: padding or dense are of another shape.
        """
        parts = []
        if self.padding is not None:
            check_mask('padding', self.padding.shape, (None, n))
            parts.append(ops.cast(self.padding, 'bool')[:, None, None, :])
        if self.causal or self.window is not None:
            rows = ops.arange(m)[:, None] + (n - m)
            parts.append(self.reach(rows, ops.arange(n)[None])[None, None])
        if self.dense is not None:
            check_mask('dense', self.dense.shape, (None, m, n))
            parts.append(ops.cast(self.dense, 'bool')[:, None])
        if not parts:
            return None
        seen = parts[0]
        for part in parts[1:]:
            seen = ops.logical_and(seen, part)
        return seen

    def reach(self, queries, keys):
        """Whether `causal`, `window` and `sinks` let steps see steps.

        Args:
            queries, keys: integer tensors that broadcast.
        """
        behind = queries - keys
        seen = behind >= 0 if self.causal else behind == behind
        if self.window is None:
            return seen
        near = ops.abs(behind) < self.window
        if self.sinks:
            near = ops.logical_or(near, keys < self.sinks)
        return ops.logical_and(seen, near)
