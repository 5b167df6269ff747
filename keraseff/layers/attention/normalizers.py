"""Other ways from scores to weights, in the softmax's place."""

import math

import keras
from keras import ops

from keraseff.layers.attention.softmax import Softmax
from keraseff.layers.base import Layer
from keraseff.layers.base import check_positive
from keraseff.layers.base import check_sizes
from keraseff.ops import masked_value
from keraseff.ops.normalizers import entmax
from keraseff.ops.normalizers import gumbel_softmax
from keraseff.ops.normalizers import perturb_max
from keraseff.ops.normalizers import relaxed_max
from keraseff.ops.normalizers import sparsemax
from keraseff.ops.normalizers import taylor_softmax
from keraseff.ops.normalizers import topk_softmax
from keraseff.ops.normalizers import topp_softmax


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
        check_sizes(length=length, shortest=shortest)
        if length < 2:
            raise ValueError(f'length={length}: log {length} divides; use 2 or more.')
        self.length = length
        self.shortest = shortest

    def weigh(self, scores, where):
        """The softmax of the scaled scores over the keys that may be seen."""
        dtype = scores.dtype
        keys = ops.maximum(seen_keys(scores, where), float(self.shortest))
        factor = ops.log(keys) / math.log(self.length)
        weights = super().weigh(ops.cast(scores, 'float32') * factor, where)
        return ops.cast(weights, dtype)


class Normalizer(Softmax):
    """Any map from scores to weights that gives a masked score nothing.

    Args:
        dropout: share of the weights dropped while training.

    A subclass writes `normalize(scores)`, (b, h, m, n) in float32 -> the same, where
    hidden keys have scores of `masked_value`.
    """

    def normalize(self, scores):
        """The weights.  A subclass writes it."""
        raise NotImplementedError(f'{type(self).__name__} must define normalize.')

    def weigh(self, scores, where):
        """The weights of the keys that may be seen, 0 for all others."""
        dtype = scores.dtype
        scores = ops.cast(scores, 'float32')
        seen = where.matrix(*ops.shape(scores)[-2:])
        if seen is not None:
            scores = ops.where(seen, scores, masked_value('float32'))
        weights = ops.cast(self.normalize(scores), dtype)
        return self.drop(weights) if self.drop else weights


class Sparsemax(Normalizer):
    """relu(q kᵀ - λ) with λ such that the weights sum to 1; most of them are 0.

    Args:
        dropout: share of the weights dropped while training.

    Martins & Astudillo, 2016, https://arxiv.org/abs/1602.02068
    """

    def normalize(self, scores):
        """Sparsemax along the keys."""
        return sparsemax(scores)


class Entmax(Normalizer):
    """relu(β q kᵀ - λ)^(1/β), β = alpha - 1: between the softmax and sparsemax.

    Args:
        dropout: share of the weights dropped while training.
        alpha: 1 is the softmax, 2 sparsemax.

    Peters et al., 2019, https://arxiv.org/abs/1905.05702
    """

    def __init__(self, dropout=0.0, alpha=1.5, **kwargs):
        super().__init__(dropout, **kwargs)
        check_positive(alpha=alpha)
        if alpha < 1:
            raise ValueError(
                f'alpha={alpha} is below 1; 1 is the softmax, 2 sparsemax.'
            )
        self.alpha = alpha

    def normalize(self, scores):
        """Entmax along the keys."""
        return entmax(scores, self.alpha)


class Taylor(Normalizer):
    """The Taylor polynomial of exp(q kᵀ) over its sum; 1 + s + s²/2 for order 2.

    Scores below -1 are trouble: the order-2 polynomial is least there and rises again,
    so a key that fits worse still gets more weight.  Keep the scores small, by
    normalised queries and keys for instance (`qk_norm`, or a small key_size).

    Args:
        dropout: share of the weights dropped while training.
        order: of the polynomial; even.

    A query that sees no key gets zeros.
    de Brébisson & Vincent, 2016, https://arxiv.org/abs/1511.05042
    """

    def __init__(self, dropout=0.0, order=2, **kwargs):
        super().__init__(dropout, **kwargs)
        check_sizes(order=order)
        if order % 2:
            raise ValueError(f'order={order}: use 2, 4 or another even number.')
        self.order = order

    def normalize(self, scores):
        """The Taylor softmax along the keys."""
        return taylor_softmax(scores, self.order)


class TopK(Normalizer):
    """The softmax over the k keys of the largest scores.

    Args:
        dropout: share of the weights dropped while training.
        k: how many keys a query keeps, and those equal to the last of them.

    Sun et al., Sparse-softmax, 2021, https://arxiv.org/abs/2112.12433
    """

    def __init__(self, dropout=0.0, k=10, **kwargs):
        super().__init__(dropout, **kwargs)
        check_sizes(k=k)
        self.k = k

    def normalize(self, scores):
        """The softmax of the k largest along the keys."""
        return topk_softmax(scores, self.k)


class TopP(Normalizer):
    """The softmax over the fewest keys whose softmax reaches a mass of p.

    Args:
        dropout: share of the weights dropped while training.
        p: the mass, above 0 and at most 1.

    https://kexue.fm/archives/10145
    """

    def __init__(self, dropout=0.0, p=0.9, **kwargs):
        super().__init__(dropout, **kwargs)
        check_positive(p=p)
        if p > 1:
            raise ValueError(f'p={p} is no mass; use a number above 0 and at most 1.')
        self.p = p

    def normalize(self, scores):
        """The softmax of the largest along the keys."""
        return topp_softmax(scores, self.p)


class PerturbMax(Normalizer):
    """The chance that a key is the best once each score got its own N(0, 1) noise.

    Args:
        dropout: share of the weights dropped while training.
        points: of the integral; memory is that many times the scores'.

    https://kexue.fm/archives/10145
    """

    def __init__(self, dropout=0.0, points=33, **kwargs):
        super().__init__(dropout, **kwargs)
        check_sizes(points=points)
        if points < 2:
            raise ValueError('points=1 is no integral; 33 give about 1e-7.')
        self.points = points

    def normalize(self, scores):
        """The chances along the keys; no noise is drawn."""
        return perturb_max(scores, self.points)


class Gumbel(Normalizer):
    """softmax((q kᵀ + g) / temperature), g Gumbel noise in training and 0 after it.

    Args:
        dropout: share of the weights dropped while training.
        temperature: the lower, the nearer to choosing one key.
        hard: choose one key, with the relaxed choice's gradient.
        seed: of the noise.

    Jang et al., 2016, https://arxiv.org/abs/1611.01144
    """

    def __init__(self, dropout=0.0, temperature=1.0, hard=False, seed=None, **kwargs):
        super().__init__(dropout, **kwargs)
        self.temperature = temperature
        self.hard = hard
        self.seed = seed
        self.choice = GumbelChoice(temperature, hard, seed, dtype=self.dtype_policy)

    def normalize(self, scores):
        """The choice along the keys."""
        return self.choice(scores)


class GumbelChoice(Layer):
    """A layer of its own, for only a layer's call is told whether it is training."""

    def __init__(self, temperature=1.0, hard=False, seed=None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        check_positive(temperature=temperature)
        self.temperature = temperature
        self.hard = hard
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True  # nothing to build, and an unbuilt one runs eagerly on JAX

    def call(self, scores, training=False):
        """(…, n) -> (…, n)."""
        if not training:
            return relaxed_max(scores, self.temperature, self.hard)
        return gumbel_softmax(
            scores, self.temperature, self.hard, seed=self.seed_generator
        )


NORMALIZERS = {
    'entmax': Entmax,
    'gumbel': Gumbel,
    'perturb_max': PerturbMax,
    'softmax_plus': SoftmaxPlus,
    'sparsemax': Sparsemax,
    'squared_relu': SquaredReLU,
    'taylor': Taylor,
    'top_k': TopK,
    'top_p': TopP,
}
