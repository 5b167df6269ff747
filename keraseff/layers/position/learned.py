"""Absolute positions with a learned vector each, hierarchical beyond their number."""

from keras import ops

from keraseff.layers.base import Layer
from keraseff.layers.base import check_sizes


class PositionEmbedding(Layer):
    """A learned vector for each position, merged into the sequence.

    Args:
        input_dim: number of positions with a vector of their own, N.
        output_dim: channels.
        merge_mode: 'add', 'mul' (x (e + 1)), 'concat', or 'zero' (only the vectors).
        hierarchical: None; or α in (0, 1), True for 0.4: position k = i N + j is then
            α u_i + (1-α) u_j with u = (e - α e_0) / (1-α), which leaves the first N
            vectors as they are and reaches to N².

    Call arguments: `x` (b, n, e) and, optionally, `position_ids` (b, n) integers.

    -> (b, n, e); 'concat' -> (b, n, e + output_dim).
    Raises ValueError for a sequence longer than N (N² if hierarchical), where its
    length is known when the graph is made.
    https://arxiv.org/abs/1810.04805; hierarchical https://kexue.fm/archives/7947
    """

    def __init__(
        self,
        input_dim,
        output_dim,
        merge_mode='add',
        hierarchical=None,
        embeddings_initializer='zeros',
        **kwargs,
    ):
        super().__init__(**kwargs)
        if merge_mode not in MERGES:
            raise ValueError(
                f'merge_mode={merge_mode!r} is unknown; there are: {", ".join(MERGES)}.'
            )
        check_sizes(input_dim=input_dim, output_dim=output_dim)
        if hierarchical not in (None, True, False) and not 0 < hierarchical < 1:
            raise ValueError(
                f'hierarchical={hierarchical} must lie between 0 and 1, such as 0.4.'
            )
        if hierarchical == 0.5:
            raise ValueError(
                'hierarchical=0.5 gives positions (i, j) and (j, i) the same vector; '
                'use a smaller number such as 0.4.'
            )
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.merge_mode = merge_mode
        self.hierarchical = hierarchical
        self.embeddings_initializer = embeddings_initializer

    def build(self, x_shape, position_ids_shape=None):
        """Make the table (input_dim, output_dim)."""
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            name='embeddings',
        )

    # Written out, because Torch infers shapes by calling with 83 steps where the length
    # is free, which the check of the length would refuse.
    def compute_output_shape(self, x_shape, position_ids_shape=None):
        """The shape of `x`, with more channels where vectors are appended."""
        if self.merge_mode == 'concat':
            return (*x_shape[:-1], x_shape[-1] + self.output_dim)
        if self.merge_mode == 'zero':
            batch = None if position_ids_shape is None else x_shape[0]
            return (batch or 1, *x_shape[1:-1], self.output_dim)
        return x_shape

    def call(self, x, position_ids=None):
        """The sequence with its positions merged in."""
        table = ops.convert_to_tensor(self.embeddings)
        if position_ids is not None:
            vectors = self._look_up(table, ops.cast(position_ids, 'int32'))
        elif self.hierarchical:
            ids = ops.arange(ops.shape(x)[1], dtype='int32')
            vectors = self._look_up(table, ids)[None]
        else:
            n = self._checked(x.shape[1], self.input_dim)
            n = ops.shape(x)[1] if n is None else n
            vectors = table[None, :n]
        return MERGES[self.merge_mode](x, vectors)

    def _look_up(self, table, ids):
        if not self.hierarchical:
            return ops.take(table, ids, axis=0)
        self._checked(ids.shape[-1], self.input_dim**2)
        a = 0.4 if self.hierarchical is True else self.hierarchical
        base = (table - a * table[:1]) / (1 - a)
        coarse = ops.take(base, ids // self.input_dim, axis=0)
        fine = ops.take(base, ids % self.input_dim, axis=0)
        far = a * coarse + (1 - a) * fine
        # The same in formula, but not to the last bit.
        near = ops.take(table, ops.minimum(ids, self.input_dim - 1), axis=0)
        return ops.where(ids[..., None] < self.input_dim, near, far)

    def check_length(self, length):
        """Raise ValueError for more steps than there are positions."""
        self._checked(length, self.input_dim ** (2 if self.hierarchical else 1))

    def _checked(self, length, limit):
        if length is not None and length > limit:
            raise ValueError(
                f'{self.name}: a sequence of {length} steps is longer than the {limit} '
                'positions there are; shorten it, or set hierarchical (the model '
                'option hierarchical_position).'
            )
        return length


def _concat(x, vectors):
    shape = ops.shape(x)[:-1] + (vectors.shape[-1],)
    return ops.concatenate([x, ops.broadcast_to(vectors, shape)], axis=-1)


MERGES = {
    'add': lambda x, vectors: x + vectors,
    'mul': lambda x, vectors: x * (vectors + 1),
    'zero': lambda x, vectors: vectors,
    'concat': _concat,
}
