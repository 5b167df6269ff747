"""Other ways from scores to weights, which know how many keys a query sees."""

import math

from keras import ops

from keraseff.layers.attention.softmax import Softmax


def seen_keys(scores, where):
    """How many keys each query may see, (b or 1, 1, m or 1, 1) in float32.

    Padding, a causal mask and a dense one all count: under a causal mask the first
    query sees one key, whatever the text's length.
    """
    seen = where.matrix(*ops.shape(scores)[-2:])
    if seen is None:
        keys = ops.cast(ops.shape(scores)[-1], 'float32')
        return ops.reshape(keys, (1, 1, 1, 1))
    return ops.sum(ops.cast(seen, 'float32'), axis=-1, keepdims=True)


class SquaredReLU(Softmax):
    """relu(q kᵀ)² / l in the softmax's place, l the number of keys the query sees.

    The weights of a query need not sum to 1, and one that sees nothing gets zeros.

    Args:
        dropout: share of the weights dropped while training.

    Hua et al., 2022, https://arxiv.org/abs/2202.10447
    """

    def weigh(self, scores, where):
        """The squares, in float32 whatever the policy, of the keys that are seen."""
        dtype = scores.dtype
        scores = ops.square(ops.relu(ops.cast(scores, 'float32')))
        seen = where.matrix(*ops.shape(scores)[-2:])
        if seen is not None:
            scores = ops.where(seen, scores, 0.0)
        weights = scores / ops.maximum(seen_keys(scores, where), 1.0)
        weights = ops.cast(weights, dtype)
        return self.drop(weights) if self.drop else weights


class SoftmaxPlus(Softmax):
    """softmax(log(l) / log(512) q kᵀ), l the number of keys the query sees.

    The factor keeps the entropy of the weights from growing with the text's length.

    Args:
        dropout: share of the weights dropped while training.
        length: where the factor is 1 and this is the plain softmax.
        shortest: fewer keys count as that many, for still smaller factors do harm.

    Su, 2021, https://kexue.fm/archives/8823
    """

    def __init__(self, dropout=0.0, length=512, shortest=16, **kwargs):
        super().__init__(dropout, **kwargs)
        self.length = length
        self.shortest = shortest

    def weigh(self, scores, where):
        """The softmax of the scaled scores over the keys that may be seen."""
        dtype = scores.dtype
        keys = ops.maximum(seen_keys(scores, where), float(self.shortest))
        factor = ops.log(keys) / math.log(self.length)
        weights = super().weigh(ops.cast(scores, 'float32') * factor, where)
        return ops.cast(weights, dtype)


NORMALIZERS = {'softmax_plus': SoftmaxPlus, 'squared_relu': SquaredReLU}
