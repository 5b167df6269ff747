"""Relative positions that enter the keys and the values (Shaw et al., NEZHA)."""

from keras import ops

from keraseff.initializers import Sinusoidal
from keraseff.layers.base import check_sizes
from keraseff.layers.base import given
from keraseff.layers.position.position import Position
from keraseff.layers.position.position import distances


class _Relative(Position):
    needs_scores = True

    def _look_up(self, table, reach, x, position_ids, keys):
        steps = ops.clip(distances(x, position_ids, keys), -reach, reach) + reach
        return ops.take(table, steps, axis=0)

    def bias(self, scores, q, p):
        """Scores plus q · R, R the vector of the distance between query and key."""
        self._check(q.shape[-1], p.shape[-1], 'queries')
        p = ops.cast(p, q.dtype)
        if p.shape[0] == 1:
            return scores + ops.einsum('bmhd,mnd->bhmn', q, p[0])
        return scores + ops.einsum('bmhd,bmnd->bhmn', q, p)

    def mix(self, mixed, weights, p):
        """Mixed values plus the R of each distance, by the weight it has."""
        self._check(mixed.shape[-1], p.shape[-1], 'values')
        p = ops.cast(p, weights.dtype)
        if p.shape[0] == 1:
            return mixed + ops.einsum('bhmn,mnd->bmhd', weights, p[0])
        return mixed + ops.einsum('bhmn,bmnd->bmhd', weights, p)

    def _check(self, found, size, what):
        if found is not None and found != size:
            raise ValueError(
                f'{type(self).__name__} adds vectors of {size} channels to keys and '
                f'values alike, but the {what} have {found}; the sizes of keys '
                '(key_size) and values (head_size) must equal it.'
            )


class Relative(_Relative):
    """NEZHA's positions: a fixed sinusoidal vector R for each distance, cut at `reach`.

    The score of query i and key j is q_i · (k_j + R_ij), the output Σ a_ij (v_j + R_ij)
    with R_ij = table[clip(j - i, -reach, reach) + reach].  Row t of the table is
    [sin t θ_0, cos t θ_0, …], θ_c = 10000^(-2c/d), in the authors' code: the sine of
    row t, not of the distance t - reach.  It is computed, so no checkpoint holds it.

    Args:
        head_size: channels of a head's queries, and of its values.
        reach: the greatest distance with a vector of its own.

    (b, m, …) -> p (1 or b, m, n, head_size), which all layers share.  Raises ValueError
    where queries or values have other than head_size channels.
    Wei et al., NEZHA, 2019, https://arxiv.org/abs/1909.00204; the form is that of Shaw
    et al., 2018, https://arxiv.org/abs/1803.02155
    """

    def __init__(self, head_size=None, reach=64, **kwargs):
        super().__init__(**kwargs)
        check_sizes(reach=reach, **given(head_size=head_size))
        self.head_size = head_size
        self.reach = reach

    def call(self, x, position_ids=None, keys=None):
        """The vector of each distance between a query and a key."""
        if self.head_size is None or self.head_size % 2:
            raise ValueError(
                f'Relative(head_size={self.head_size}) cannot make its vectors; give '
                "head_size, the channels of a head's queries, an even number."
            )
        shape = (2 * self.reach + 1, self.head_size)
        table = Sinusoidal()(shape, dtype=self.compute_dtype)
        return self._look_up(table, self.reach, x, position_ids, keys)


class RelativePositionEmbedding(_Relative):
    """The same with a learned table, under bert4keras' name and arguments.

    Args:
        input_dim: number of vectors, odd: 2 × reach + 1.
        output_dim: channels of a head's queries and values.

    (b, m, …), or a list of queries' and keys' sequence -> p (1 or b, m, n, output_dim).
    """

    def __init__(self, input_dim, output_dim, embeddings_initializer='zeros', **kwargs):
        super().__init__(**kwargs)
        check_sizes(input_dim=input_dim, output_dim=output_dim)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = embeddings_initializer

    def build(self, x_shape, position_ids_shape=None, keys_shape=None):
        """Make the table (input_dim, output_dim)."""
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            name='embeddings',
        )

    def call(self, x, position_ids=None, keys=None):
        """The vector of each distance between a query and a key."""
        table = ops.convert_to_tensor(self.embeddings)
        reach = (self.input_dim - 1) // 2
        return self._look_up(table, reach, x, position_ids, keys)
