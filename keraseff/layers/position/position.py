"""The contract of a position: how far apart things are."""

from keraseff.layers.base import Layer


class Position(Layer):
    """Tells attention about distance; knows shapes only.

    `call(x, position_ids=None)` makes, once for all layers that share it, the tensor
    `p` that the three methods below receive; they keep nothing and own no weights, so
    one `p` serves any number of attention layers.  A subclass overrides what it needs:

        rotate(q, k, p): before the product; (b, m, h, d), (b, n, h, d) -> the same.
        bias(scores, q, p): added to the scores (b, h, m, n).
        mix(mixed, weights, p): added to the mixed values (b, m, h, d).

    `needs_scores` is true where `bias` or `mix` is used: only mechanisms that form the
    score matrix can serve it.
    """

    needs_scores = False

    def rotate(self, q, k, p):
        """Queries and keys, turned by their positions."""
        return q, k

    def bias(self, scores, q, p):
        """Scores with what distance adds to them."""
        return scores

    def mix(self, mixed, weights, p):
        """Mixed values with what distance adds to them."""
        return mixed
