"""Absolute positions with a sinusoidal vector each."""

from keras import ops

from keraseff.layers.base import Layer
from keraseff.layers.base import check_sizes
from keraseff.layers.position.learned import MERGES
from keraseff.ops import sinusoidal_embeddings


class SinusoidalPositionEmbedding(Layer):
    """[sin k θ_0, cos k θ_0, …], θ_i = 10000^(-2i/d), merged into the sequence.

    Args:
        output_dim: channels d, even.
        merge_mode: 'add', 'mul' (x (e + 1)), 'concat', or 'zero' (only the vectors).
        custom_position_ids: position_ids must be given.

    Call arguments: `x` (b, n, e) and, optionally, `position_ids` (1 or b, n), fractions
    allowed; `[x, position_ids]` is understood as well.  No weights, no longest text.

    -> (b, n, e); 'concat' -> (b, n, e + output_dim).
    Raises ValueError for an unknown merge_mode, an odd output_dim, missing positions.
    https://arxiv.org/abs/1706.03762
    """

    def __init__(
        self, output_dim, merge_mode='add', custom_position_ids=False, **kwargs
    ):
        super().__init__(**kwargs)
        if merge_mode not in MERGES:
            known = ', '.join(MERGES)
            raise ValueError(
                f'merge_mode={merge_mode!r} is unknown; there are: {known}.'
            )
        check_sizes(output_dim=output_dim)
        if output_dim % 2:
            raise ValueError(
                'SinusoidalPositionEmbedding needs an even output_dim, got '
                f'{output_dim}.'
            )
        self.output_dim = output_dim
        self.merge_mode = merge_mode
        self.custom_position_ids = custom_position_ids
        # Else a policy of half precision rounds position_ids.
        self.autocast = False

    def call(self, x, position_ids=None):
        """The sequence with its positions merged in."""
        if isinstance(x, list | tuple):
            x, position_ids = x
        if position_ids is not None:
            ids = ops.cast(position_ids, 'float32')
        elif self.custom_position_ids:
            raise ValueError(
                f'{self.name} was made with custom_position_ids and needs them; call '
                'it with position_ids (1 or b, n).'
            )
        else:
            ids = ops.arange(ops.shape(x)[1], dtype='float32')[None]
        vectors = sinusoidal_embeddings(ids, self.output_dim)
        x, vectors = (ops.cast(t, self.compute_dtype) for t in (x, vectors))
        return MERGES[self.merge_mode](x, vectors)

    def compute_mask(self, x, previous_mask=None):
        """The mask of the sequence."""
        if isinstance(previous_mask, list | tuple):
            return previous_mask[0]
        return previous_mask
