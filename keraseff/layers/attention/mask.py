"""Who may look at whom."""

import dataclasses

from keras import ops


@dataclasses.dataclass(frozen=True)
class Mask:
    """What a query may see of the keys; three statements, all of which must allow it.

    Args:
        padding: (b, n) true where a key is real, or None.
        causal: a Python bool: no key later than the query.  Static, so that a linear
            mechanism can answer with a running sum instead of a matrix.
        dense: (b or 1, m, n) true where query m may see key n, or None; only
            mechanisms that form the score matrix take it.
    """

    padding: object = None
    causal: bool = False
    dense: object = None

    def matrix(self, m, n):
        """All statements as one bool tensor (b or 1, 1, m, n), or None if all is seen.

        With `causal`, the last query stands at the last key, so a cache of earlier keys
        may make n larger than m.
        """
        parts = []
        if self.padding is not None:
            parts.append(ops.cast(self.padding, 'bool')[:, None, None, :])
        if self.causal:
            rows = ops.arange(m)[:, None] + (n - m)
            parts.append((ops.arange(n)[None, :] <= rows)[None, None])
        if self.dense is not None:
            parts.append(ops.cast(self.dense, 'bool')[:, None])
        if not parts:
            return None
        seen = parts[0]
        for part in parts[1:]:
            seen = ops.logical_and(seen, part)
        return seen
