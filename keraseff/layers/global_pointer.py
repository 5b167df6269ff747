"""GlobalPointer: every span of the text scored at once, nested ones included."""

import keras
from keras import ops
from keras.layers import Dense

from keraseff.initializers import fresh
from keraseff.layers.base import Layer
from keraseff.ops import apply_rotary_position_embeddings
from keraseff.ops import masked_value
from keraseff.ops import sinusoidal_embeddings

# What an untrained span scores: nearly none of the n² is an entity, and a model that
# begins at 0 spends its first epochs learning just that.  The idea is the prior of
# https://arxiv.org/abs/1708.02002, section 4.1.
PRIOR = -7.0


@keras.saving.register_keras_serializable(package='keraseff')
class SpanPrior(keras.initializers.Initializer):
    """Biases of queries and keys whose product scores every near span `score`.

    Args:
        head_size: channels of a query.
        score: negative.

    They lie, with opposite signs, on the slow half of the rotary pairs, which turn by
    less than half a radian within 50 tokens, so that the rotation leaves them.
    """

    def __init__(self, head_size, score=PRIOR):
        self.head_size = head_size
        self.score = score

    def __call__(self, shape, dtype=None):
        """The biases of all types' queries and keys, (h × 2 head_size,)."""
        d = self.head_size
        slow = ops.cast(ops.arange(d) >= d // 2, dtype or 'float32')
        bias = slow * (-self.score * d**0.5 / (d - d // 2)) ** 0.5
        return ops.tile(ops.concatenate([bias, -bias]), shape[0] // (2 * d))

    def get_config(self):
        """The constructor's arguments."""
        return {'head_size': self.head_size, 'score': self.score}


class GlobalPointer(Layer):
    """s_α(i, j) = (R_i q_iα)ᵀ (R_j k_jα) / √d for each type α and span from i to j.

    Args:
        heads: the number of entity types.
        head_size: channels of each type's query and key, even; 64 is usual.
        RoPE: rotate them by position; without it the spans' lengths are unseen.
        use_bias: biases in the projection.  They begin where an untrained span scores
            about -7 (bert4keras: 0), which saves a model that learns from nothing its
            first epochs; a checkpoint overwrites them.
        tril_mask: hide spans that end before they begin.

    (b, n, e) -> (b, heads, n, n), row = first token, column = last token, in float32
    whatever the policy.  A span is predicted where its score exceeds 0; padding and the
    lower triangle hold a number so low that this never happens.
    Su et al., 2022, https://arxiv.org/abs/2208.03054, https://kexue.fm/archives/8373
    """

    def __init__(
        self,
        heads,
        head_size,
        RoPE=True,  # noqa: N803, bert4keras' spelling
        use_bias=True,
        tril_mask=True,
        kernel_initializer='lecun_normal',
        **kwargs,
    ):
        super().__init__(**kwargs)
        if RoPE and head_size % 2:
            raise ValueError(f'head_size={head_size} must be even for RoPE.')
        self.heads = heads
        self.head_size = head_size
        self.RoPE = RoPE
        self.use_bias = use_bias
        self.tril_mask = tril_mask
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape):
        """Make the projection to the queries and keys of all types."""
        units, prior = 2 * self.heads * self.head_size, SpanPrior(self.head_size)
        self.dense = self._projection(units, 'dense', prior)
        self.dense.build(input_shape)

    def _projection(self, units, name, bias_initializer):
        return Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            bias_initializer=bias_initializer,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, x, mask=None):
        """The scores of all spans."""
        b, n = ops.shape(x)[:2]
        shape = (b, n, self.heads, 2 * self.head_size)
        q, k = ops.split(ops.reshape(self.dense(x), shape), 2, axis=-1)  # (b, n, h, d)
        q, k = self._rotate(q, k)
        return self._hide(ops.einsum('bmhd,bnhd->bhmn', q, k), mask)

    def _rotate(self, q, k):
        # Scaled here, for the scores are many more numbers than the queries.
        q = ops.cast(q, 'float32') / self.head_size**0.5
        k = ops.cast(k, 'float32')
        if not self.RoPE:
            return q, k
        positions = ops.arange(ops.shape(q)[1], dtype='float32')[None]
        angles = sinusoidal_embeddings(positions, self.head_size)  # (1, n, d)
        return apply_rotary_position_embeddings(angles, q, k)

    def _hide(self, scores, mask):
        n = ops.shape(scores)[-1]
        seen = None
        if self.tril_mask:
            seen = ops.arange(n)[:, None] <= ops.arange(n)[None, :]
        if mask is not None:
            mask = ops.cast(mask, 'bool')
            both = ops.logical_and(mask[:, None, :, None], mask[:, None, None, :])
            seen = both if seen is None else ops.logical_and(seen, both)
        if seen is None:
            return scores
        return ops.where(seen, scores, masked_value('float32'))

    def compute_mask(self, x, previous_mask=None):
        """None: the padding is already hidden in the scores."""
        return None


class EfficientGlobalPointer(GlobalPointer):
    """s_α(i, j) = (R_i q_i)ᵀ (R_j k_j) / √d + w_αᵀ [q_i; k_i; q_j; k_j].

    One query and key shared by all types say whether a span is an entity, a linear map
    of its two ends says of which type: 4 head_size parameters a type, where
    GlobalPointer needs 2 e head_size.  The unrotated projection feeds the second term,
    halved as in bert4keras.

    Arguments and shapes as in `GlobalPointer`.
    Su et al., 2022, https://arxiv.org/abs/2208.03054, https://kexue.fm/archives/8877
    """

    def build(self, input_shape):
        """Make the shared projection and the types' linear map."""
        self.p_dense = self._projection(2 * self.head_size, 'p_dense', 'zeros')
        self.p_dense.build(input_shape)
        # Both ends' biases are halved and added.
        prior = keras.initializers.Constant(PRIOR)
        self.q_dense = self._projection(2 * self.heads, 'q_dense', prior)
        self.q_dense.build((*input_shape[:-1], 2 * self.head_size))

    def call(self, x, mask=None):
        """The scores of all spans."""
        projected = self.p_dense(x)  # (b, n, 2 d)
        q, k = self._rotate(projected[..., ::2], projected[..., 1::2])
        scores = ops.einsum('bmd,bnd->bmn', q, k)
        ends = ops.cast(self.q_dense(projected), 'float32') / 2  # (b, n, 2 h)
        ends = ops.transpose(ends, (0, 2, 1))  # (b, 2 h, n)
        last, first = ends[:, ::2, None, :], ends[:, 1::2, :, None]
        return self._hide(scores[:, None] + last + first, mask)
