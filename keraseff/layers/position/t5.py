"""T5's positions: a learned scalar for each head and bucket of distances."""

import numpy as np
from keras import ops

from keraseff.layers.base import check_sizes
from keraseff.layers.base import given
from keraseff.layers.position.position import Position
from keraseff.layers.position.position import distances


def t5_buckets(buckets=32, max_distance=128, bidirectional=True):
    """The bucket of each distance -max_distance … max_distance, by T5's rule.

    Half of the buckets hold one distance each; the distances from there to
    `max_distance` share the others on a logarithmic scale, and all beyond it fall into
    the last.  A key behind its query has the upper half of the buckets if
    `bidirectional`, else bucket 0.

    -> integers (2 × max_distance + 1,).
    Raises ValueError where there are too few buckets, or max_distance is within those
    that hold one distance each.
    """
    count = buckets // 2 if bidirectional else buckets
    exact = count // 2
    if exact < 1 or max_distance <= exact:
        raise ValueError(
            f'buckets={buckets} and max_distance={max_distance} leave no room: there '
            f'must be at least {4 if bidirectional else 2} buckets, and max_distance '
            f'must exceed {exact}.'
        )
    row, wide = list(range(exact)), count - exact
    step = 0
    for d in range(exact, max_distance + 1):
        # d has passed the boundary of step + 1 where
        # log(d / exact) / log(max_distance / exact) >= (step + 1) / wide: in integers,
        # since rounded logarithms put distances on a boundary into either bucket.
        while step < wide - 1 and (
            d**wide * exact ** (step + 1) >= max_distance ** (step + 1) * exact**wide
        ):
            step += 1
        row.append(exact + step)
    before = np.array(row, 'int32')
    after = before[1:] + count if bidirectional else np.zeros(max_distance, 'int32')
    return np.concatenate([before[::-1], after]).astype('int32')


class _Bucketed(Position):
    needs_scores = True
    learned = True

    def _look_up(self, table, buckets, x, position_ids, keys):
        table = ops.convert_to_tensor(table)
        reach = len(buckets) // 2
        by_distance = ops.take(table, buckets, axis=0)  # (2 reach + 1, h)
        steps = ops.clip(distances(x, position_ids, keys), -reach, reach) + reach
        return ops.transpose(ops.take(by_distance, steps, axis=0), (0, 3, 1, 2))

    def bias(self, scores, q, p):
        """Scores plus the scalar of each head and distance."""
        return scores + ops.cast(p, scores.dtype)


class T5Relative(_Bucketed):
    """A learned scalar for each head and bucket of distances, added to the scores.

    Args:
        head_size: not used; every position takes it.
        heads: number of heads; may be left out where only `bias` is used.
        buckets: number of scalars for each head.
        max_distance: distances from here on share a bucket.
        bidirectional: keys behind the query are told apart from those before it; False
            where no query sees a later key (T5's decoder).

    (b, m, …) -> p (1 or b, heads, m, n).  T5 does not divide its scores by √d.
    Raises ValueError where the buckets leave no room, see `t5_buckets`.
    Raffel et al., 2020, https://arxiv.org/abs/1910.10683
    """

    def __init__(
        self,
        head_size=None,
        heads=None,
        buckets=32,
        max_distance=128,
        bidirectional=True,
        embeddings_initializer='zeros',
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes(buckets=buckets, max_distance=max_distance, **given(heads=heads))
        self.head_size = head_size
        self.heads = heads
        self.buckets = buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.embeddings_initializer = embeddings_initializer
        self._buckets = t5_buckets(buckets, max_distance, bidirectional)

    def build(self, x_shape, position_ids_shape=None, keys_shape=None):
        """Make the table (buckets, heads)."""
        if self.heads is None:
            raise ValueError(
                'T5Relative(heads=None) cannot make its table; give heads, the number '
                'of attention heads.'
            )
        self.embeddings = self.add_weight(
            shape=(self.buckets, self.heads),
            initializer=self.embeddings_initializer,
            name='embeddings',
        )

    def call(self, x, position_ids=None, keys=None):
        """What is added to the scores, for each head, query and key."""
        return self._look_up(self.embeddings, self._buckets, x, position_ids, keys)


class RelativePositionEmbeddingT5(_Bucketed):
    """`T5Relative` under bert4keras' name and arguments.

    Args:
        input_dim: number of buckets.
        output_dim: number of heads.
        max_distance, bidirectional: as in `T5Relative`.

    (b, m, …), or a list of queries' and keys' sequence -> p (1 or b, output_dim, m, n).
    """

    def __init__(
        self,
        input_dim,
        output_dim,
        max_distance=128,
        bidirectional=True,
        embeddings_initializer='zeros',
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes(
            input_dim=input_dim, output_dim=output_dim, max_distance=max_distance
        )
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.embeddings_initializer = embeddings_initializer
        self._buckets = t5_buckets(input_dim, max_distance, bidirectional)

    def build(self, x_shape, position_ids_shape=None, keys_shape=None):
        """Make the table (input_dim, output_dim)."""
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            name='embeddings',
        )

    def call(self, x, position_ids=None, keys=None):
        """What is added to the scores, for each head, query and key."""
        return self._look_up(self.embeddings, self._buckets, x, position_ids, keys)
