"""Token embeddings that are also the output matrix."""

from keras import ops

from keraseff.initializers import fresh
from keraseff.layers.base import Layer


class Embedding(Layer):
    """A vector for each id, or scores of each id for a vector, from one matrix E.

    Args:
        input_dim: number of ids, v.
        output_dim: channels.
        mask_zero: id 0 is padding.  The first step is never masked, for some models
            begin their text with the padding.
        mask_id: another id that is padding, in place of 0.

    Call argument `mode`: 'embedding' looks up, 'dense' multiplies by Eᵀ (weight tying).

    'embedding': (b, n) -> (b, n, e); 'dense': (b, n, e) -> (b, n, v).
    Weight tying: https://arxiv.org/abs/1608.05859
    """

    def __init__(
        self,
        input_dim,
        output_dim,
        embeddings_initializer='uniform',
        mask_zero=False,
        mask_id=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = embeddings_initializer
        self.mask_zero = mask_zero
        self.mask_id = mask_id

    def build(self, input_shape):
        """Make the matrix (input_dim, output_dim)."""
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            name='embeddings',
        )

    def call(self, inputs, mode='embedding'):
        """Look up, or score."""
        if mode == 'dense':
            return ops.matmul(inputs, ops.transpose(self.embeddings))
        if mode != 'embedding':
            raise ValueError(f"mode={mode!r}: choose 'embedding' or 'dense'.")
        ids = ops.cast(inputs, 'int32')
        try:
            vectors = ops.take(self.embeddings, ids, axis=0)
        except IndexError as error:  # Torch's; to look at all ids first would cost
            raise ValueError(
                f'{self.name}: an id is outside of 0 … {self.input_dim - 1}, the rows '
                'that there are; is the tokenizer that of the model?'
            ) from error
        return ops.cast(vectors, self.compute_dtype)

    def compute_mask(self, inputs, previous_mask=None):
        """True but at padding, and at the first step; vectors keep their mask."""
        masks = self.mask_zero or self.mask_id is not None
        if not masks or len(inputs.shape) != 2:
            return previous_mask
        mask = ops.not_equal(inputs, self.mask_id or 0)
        return ops.concatenate([ops.ones_like(mask[:, :1]), mask[:, 1:]], axis=1)


class FactorizedEmbedding(Embedding):
    """A vector E_i P for each id i, or the scores x Pᵀ Eᵀ of each id for a vector.

    Args:
        hidden_dim: channels of the vectors; P is (output_dim, hidden_dim).

    The other arguments are those of `Embedding`; its E is (input_dim, output_dim).

    'embedding': (b, n) -> (b, n, hidden_dim); 'dense': (b, n, hidden_dim) -> (b, n, v).
    ALBERT https://arxiv.org/abs/1909.11942
    """

    def __init__(self, input_dim, output_dim, hidden_dim, **kwargs):
        super().__init__(input_dim, output_dim, **kwargs)
        self.hidden_dim = hidden_dim

    def build(self, input_shape):
        """Make both matrices."""
        super().build(input_shape)
        self.projection = self.add_weight(
            shape=(self.output_dim, self.hidden_dim),
            initializer=fresh(self.embeddings_initializer),
            name='projection',
        )

    def call(self, inputs, mode='embedding'):
        """Look up, or score."""
        if mode == 'dense':
            inputs = ops.matmul(inputs, ops.transpose(self.projection))
            return super().call(inputs, mode)
        return ops.matmul(super().call(inputs, mode), self.projection)
