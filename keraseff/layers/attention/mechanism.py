"""The contract of an attention mechanism: how values are mixed."""

from keraseff.layers.base import Layer


class Mechanism(Layer):
    """Mixes values; knows queries, keys, values and a `Mask`, and nothing else.

    A subclass writes `call(q, k, v, where)` with q (b, m, h, d), k (b, n, h, d),
    v (b, n, h, d_v) and a `Mask`, and returns (b, m, h, d_v).  Two flags tell the
    attention layer what it may ask:

        forms_scores: the (m, n) matrix of scores is formed, so biases, dense masks and
            residual scores are accepted; such a one derives from `ScoreMechanism`.
        compares: queries and keys are used at all.
    """

    forms_scores = False
    compares = True

    def call(self, q, k, v, where):
        """The mixed values.  A subclass writes it."""
        raise NotImplementedError(f'{type(self).__name__} must define call.')


class ScoreMechanism(Mechanism):
    """A mechanism that forms the matrix of scores and then weighs by it.

    Two strokes instead of one call, for what is added in between belongs to others:
    `score(q, k)` -> (b, h, m, n) and `weigh(scores, where)` -> (b, h, m, n).
    """

    forms_scores = True

    def score(self, q, k):
        """How well each key answers each query, before scale and mask."""
        raise NotImplementedError(f'{type(self).__name__} must define score.')

    def weigh(self, scores, where):
        """The share of each key in each query's answer."""
        raise NotImplementedError(f'{type(self).__name__} must define weigh.')
