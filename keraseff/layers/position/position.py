"""The contract of a position: how far apart things are."""

from keras import ops

from keraseff.layers.base import Layer


class Position(Layer):
    """Tells attention about distance; knows shapes only.

    `call(x, position_ids=None, keys=None)` makes, once for all layers that share it,
    the tensor `p` that the three methods below receive.  The positions of `x` are
    0, 1, 2, … unless `position_ids` (1 or b, m) says otherwise; `keys` (b, n, …) is a
    second sequence, counted from 0, whose steps `x` attends to; by default `x` itself.

    The methods keep nothing and use no weights, so one `p` serves any number of
    attention layers, each with an instance of the class of its own.  A subclass
    overrides what it needs:

        rotate(q, k, p): before the product; (b, m, h, d), (b, n, h, d) -> the same.
        bias(scores, q, p): added to the scores (b, h, m, n); `q` is divided by √d
            already, where the attention layer divides.
        mix(mixed, weights, p): added to the mixed values (b, m, h, d).

    Where the score itself depends on distance, `compare(q, k, p, score)` is overridden,
    which puts the first two around the product.

    `needs_scores` is true where `bias`, `mix` or `compare` is used: only mechanisms
    that form the score matrix can serve it.  `rotates_once` is true where the rotation
    of a key depends on its own position alone, so that a cache may keep rotated keys.
    `causal_only` is true where it makes no sense of later keys; `turns` where there is
    `turn(x, steps)`, a rotation of all of x by one number of steps; `learned` where
    `build` makes weights.
    """

    needs_scores = False
    rotates_once = True
    learned = False
    causal_only = False
    turns = False

    def compute_mask(self, x, previous_mask=None):
        """None: positions have no padding."""
        return None

    @property
    def caches_rotated(self):
        """Whether a cache keeps keys as `rotate` left them, and needs nothing else."""
        return self.rotates_once and not self.needs_scores

    @property
    def mixes(self):
        """Whether something is added to the mixed values."""
        return type(self).mix is not Position.mix

    def rotate(self, q, k, p):
        """Queries and keys, turned by their positions."""
        return q, k

    def bias(self, scores, q, p):
        """Scores with what distance adds to them."""
        return scores

    def compare(self, q, k, p, score):
        """The scores (b, h, m, n) with all that distance does to them.

        Args:
            score: a function of queries and keys, (b, m, h, d), (b, n, h, d) ->
                (b, h, m, n).
        """
        q, k = self.rotate(q, k, p)
        return self.bias(score(q, k), q, p)

    def mix(self, mixed, weights, p):
        """Mixed values with what distance adds to them."""
        return mixed


def distances(x, position_ids=None, keys=None):
    """How far each key stands behind each query: position of key - that of query.

    Args:
        x: the queries' sequence, (b, m, …); `[x, keys]` is understood as well.
        position_ids: positions of the queries, (1 or b, m); 0, 1, 2, … by default.
        keys: another sequence (b, n, …) counted from 0; by default `x` itself.

    -> (1 or b, m, n) int32.
    """
    if isinstance(x, list | tuple):
        x, keys = x
    if position_ids is None:
        queries = ops.arange(ops.shape(x)[1], dtype='int32')[None]
    else:
        queries = ops.cast(position_ids, 'int32')
    behind = queries
    if keys is not None:
        behind = ops.arange(ops.shape(keys)[1], dtype='int32')[None]
    return behind[:, None, :] - queries[:, :, None]
