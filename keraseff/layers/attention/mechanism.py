"""The contract of an attention mechanism: how values are mixed."""

import dataclasses

from keras import ops

from keraseff.layers.base import Layer


@dataclasses.dataclass(frozen=True)
class Rotation:
    """A sequence's rotations, for a mechanism that turns something of its own.

    Args:
        position: a `Position` that rotates.
        p: what it made of the sequence.
    """

    position: object
    p: object

    def pair(self, q, k):
        """Queries and keys (b, m, h, d), (b, n, h, d), each turned by its position."""
        return self.position.rotate(q, k, self.p)

    def by(self, x, steps):
        """All of x (b, n, h, d) turned by one number of steps."""
        return self.position.turn(x, steps)


class Mechanism(Layer):
    """Mixes values; knows queries, keys, values and a `Mask`, and nothing else.

    A subclass writes `call(q, k, v, where)` with q (b, m, h, d), k (b, n, h, d),
    v (b, n, h, d_v) and a `Mask`, and returns (b, m, h, d_v).  If it makes weights, its
    `build(q_shape, k_shape, v_shape)` gets those shapes.  Where it may be causal it
    also writes `start` and `step`, the same one step at a time.  Attributes tell the
    attention layer what it may ask:

        forms_scores: the (m, n) matrix of scores is formed, so biases, dense masks,
            windows and residual scores are accepted; such a one derives from
            `ScoreMechanism`.
        compares: queries and keys are used at all.
        can_be_causal: it can hide later keys.
        one_sequence: queries and keys must come from the same sequence.
        scaled: the queries come divided by √d.
        turns_far: besides, what is far is turned by one number of steps, which not
            every position that rotates can do.
        turns_itself: queries and keys come unrotated, and `call` and `step` get
            `rotation`, a `Rotation` or None, for what the mechanism rotates instead.
    """

    forms_scores = False
    compares = True
    can_be_causal = True
    one_sequence = False
    scaled = True
    turns_far = False
    turns_itself = False

    def build(self, q_shape, k_shape, v_shape):
        """Make the weights, if there are any; shapes (b, m, h, d) each."""

    def call(self, q, k, v, where):
        """The mixed values.  A subclass writes it."""
        raise NotImplementedError(f'{type(self).__name__} must define call.')

    def start(self, batch, length, heads, key_size, value_size):
        """The state before the first step, a dict of tensors.

        Args:
            batch: number of sequences.
            length: the most steps that will come.
            heads, key_size, value_size: h, d and d_v.
        """
        raise NotImplementedError(f'{type(self).__name__} must define start.')

    def step(self, q, k, v, t, state):
        """Row t of the causal `call`, from q, k, v (b, 1, h, d) of that step alone.

        Returns:
            The mixed values (b, 1, h, d_v), and the state for the next step, of the
            same shapes whatever t: memory does not grow.
        """
        raise NotImplementedError(f'{type(self).__name__} must define step.')


class ScoreMechanism(Mechanism):
    """A mechanism that forms the matrix of scores and then weighs by it.

    Three strokes instead of one call, for what is added in between belongs to others:
    `score(q, k)` -> (b, h, m, n), `weigh(scores, where)` -> (b, h, m, n) and
    `mix(weights, v)` -> (b, m, h, d_v), the weighted sums.  It needs neither `start`
    nor `step`: the attention layer keeps keys and values for it.

    `reads_input`: `score` also gets `x`, the queries' sequence (b, m, e) before any
    projection, `n`, the number of keys, and `start`, the step at which x begins; and
    `build` also gets `x_shape`.
    """

    forms_scores = True
    reads_input = False

    def score(self, q, k):
        """How well each key answers each query, before scale and mask."""
        raise NotImplementedError(f'{type(self).__name__} must define score.')

    def weigh(self, scores, where):
        """The share of each key in each query's answer."""
        raise NotImplementedError(f'{type(self).__name__} must define weigh.')

    def fused(self, q, k, v, where):
        """The mixed values without a matrix of scores, or None if that is no option."""
        return None

    def mix(self, weights, v):
        """The values summed by their weights."""
        return ops.einsum('bhmn,bnhd->bmhd', weights, v)

    def call(self, q, k, v, where):
        """All three strokes."""
        return self.mix(self.weigh(self.score(q, k), where), v)
