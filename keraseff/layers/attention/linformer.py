"""Linformer: attention to a fixed number of mixtures of the keys."""

from keras import ops
from keras.initializers import RandomNormal

from keraseff.layers.attention.mechanism import Mechanism
from keraseff.layers.base import check_sizes
from keraseff.layers.dropout import Dropout


class Linformer(Mechanism):
    """softmax(q (E k)ᵀ) F v, with learned E and F (k, length).

    Args:
        length: the longest text, n at most.
        k: number of mixtures of keys, and of values.
        shared: E and F are one matrix.
        per_head: each head has matrices of its own.
        dropout: share of the weights dropped while training.

    Not causal: each mixture contains all of the text.  A shorter text uses the first
    columns of E and F.  Raises ValueError where `length` is left out, or a text is
    longer.
    Wang et al., 2020, https://arxiv.org/abs/2006.04768
    """

    can_be_causal = False
    one_sequence = True

    def __init__(
        self, length=None, k=64, shared=False, per_head=False, dropout=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        if length is None:
            raise ValueError(
                'Linformer has weights for each place; give length, that of the '
                "longest text (mechanism_options={'length': 512}, where a name stands "
                'for it; attention_options of a model).'
            )
        check_sizes(length=length, k=k)
        self.length = length
        self.k = k
        self.shared = shared
        self.per_head = per_head
        self.dropout = dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy) if dropout else None

    def build(self, q_shape, k_shape, v_shape):
        """Make E, and F unless it is E."""
        self.e = self._matrix('E', k_shape[2])
        self.f = self.e if self.shared else self._matrix('F', k_shape[2])

    def _matrix(self, name, heads):
        return self.add_weight(
            shape=(heads if self.per_head else 1, self.k, self.length),
            initializer=RandomNormal(stddev=self.k**-0.5),
            name=name,
        )

    def compute_output_shape(self, q_shape, k_shape, v_shape):
        """(b, m, h, d_v), whatever the lengths."""
        return (*q_shape[:-1], v_shape[-1])

    def call(self, q, k, v, where):
        """The mixed values (b, m, h, d_v)."""
        n = k.shape[1]
        if n is not None and n > self.length:
            raise ValueError(
                f'Linformer(length={self.length}) got a text of {n} steps; make it '
                'with the length of the longest text.'
            )
        k, v = self._mixtures(self.e, k, where), self._mixtures(self.f, v, where)
        scores = ops.cast(ops.einsum('bmhd,bhrd->bhmr', q, k), 'float32')
        if self.k == 1:  # of which ops.softmax warns
            weights = ops.ones_like(scores)
        else:
            weights = ops.softmax(scores, axis=-1)
        weights = ops.cast(weights, q.dtype)
        weights = self.drop(weights) if self.drop else weights
        return ops.einsum('bhmr,bhrd->bmhd', weights, v)

    def _mixtures(self, matrix, x, where):
        """(b, n, h, d) -> (b, h, k, d), summed in float32."""
        dtype = x.dtype
        x = ops.cast(x, 'float32')
        if where.padding is not None:
            x = x * ops.cast(where.padding, 'float32')[:, :, None, None]
        matrix = ops.cast(matrix, 'float32')[:, :, : ops.shape(x)[1]]
        if self.per_head:
            mixed = ops.einsum('hrn,bnhd->bhrd', matrix, x)
        else:
            mixed = ops.einsum('rn,bnhd->bhrd', matrix[0], x)
        return ops.cast(mixed, dtype)
