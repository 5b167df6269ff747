"""Softmax attention."""

from keras import ops

from keraseff import backends
from keraseff.layers.attention.mechanism import ScoreMechanism
from keraseff.layers.dropout import Dropout
from keraseff.ops import masked_value


class Softmax(ScoreMechanism):
    """softmax(q kᵀ) v, the softmax in float32 whatever the policy.

    Args:
        dropout: share of the weights dropped while training.

    https://arxiv.org/abs/1706.03762
    """

    def __init__(self, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy) if dropout else None

    def score(self, q, k):
        """(b, m, h, d), (b, n, h, d) -> (b, h, m, n)."""
        return ops.einsum('bmhd,bnhd->bhmn', q, k)

    def weigh(self, scores, where):
        """The softmax over the keys that may be seen."""
        dtype = scores.dtype
        scores = ops.cast(scores, 'float32')
        seen = where.matrix(*ops.shape(scores)[-2:])
        if seen is not None:
            scores = ops.where(seen, scores, masked_value('float32'))
        if scores.shape[-1] == 1:  # of which ops.softmax warns
            weights = ops.ones_like(scores, dtype=dtype)
        else:
            weights = ops.cast(ops.softmax(scores, axis=-1), dtype)
        return self.drop(weights) if self.drop else weights

    def fused(self, q, k, v, where):
        """What the backend's own kernel mixes, where it has one."""
        # A subclass has another score, or other weights.
        if self.dropout or type(self) is not Softmax or not backends.fuses_attention():
            return None
        m, n = q.shape[1], k.shape[1]
        bare = where.padding is None and where.dense is None and where.window is None
        if bare and where.causal and m == n:
            return backends.fused_attention(q, k, v, causal=True)
        return backends.fused_attention(q, k, v, where.matrix(m, n))
