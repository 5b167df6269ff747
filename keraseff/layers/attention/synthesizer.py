"""Synthesizer: scores that are made without comparing queries with keys."""

import math

from keras import ops
from keras.initializers import RandomNormal

from keraseff.layers.attention.softmax import Softmax
from keraseff.layers.base import Layer
from keraseff.layers.base import check_sizes
from keraseff.layers.base import given

INPUT = 'bme,ehf->bmhf'


class _Part(Layer):
    """One way to make scores; `score(x, q, k, m, n, start)` -> (b or 1, h, m, n)."""

    def __init__(self, length, hidden, factors, rank, fixed, **kwargs):
        super().__init__(**kwargs)
        self.length = length
        self.hidden = hidden
        self.factors = factors
        self.rank = rank
        self.fixed = fixed

    def _weight(self, name, shape, deviation, trainable=True):
        return self.add_weight(
            shape=shape,
            initializer=RandomNormal(stddev=deviation) if deviation else 'zeros',
            trainable=trainable,
            name=name,
        )


class _Network:
    """W_2 relu(W_1 x + b_1) + b_2 for each head."""

    def __init__(self, part, prefix, units, v_shape, x_shape):
        hidden, size = part.hidden or v_shape[-1], x_shape[-1]
        heads = v_shape[-2]

        def weight(name, shape, deviation):
            return part._weight(prefix + name, shape, deviation)

        glorot = (2 / (size + heads * hidden)) ** 0.5
        self.kernel1 = weight('kernel1', (size, heads, hidden), glorot)
        self.bias1 = weight('bias1', (heads, hidden), 0)
        self.kernel2 = weight('kernel2', (heads, hidden, units), hidden**-0.5)
        self.bias2 = weight('bias2', (heads, 1, units), 0)

    def __call__(self, x, units=None):
        """(b, m, e) -> (b, h, m, units), the first ones only where units is given."""
        bias1 = ops.cast(self.bias1, x.dtype)
        inner = ops.einsum(INPUT, x, ops.cast(self.kernel1, x.dtype)) + bias1
        kernel2 = ops.cast(self.kernel2, x.dtype)[..., :units]
        bias2 = ops.cast(self.bias2, x.dtype)[..., :units]
        return ops.einsum('bmhf,hfn->bhmn', ops.relu(inner), kernel2) + bias2


class _Dense(_Part):
    """Each step's row of scores by a network of two layers."""

    def build(self, v_shape, x_shape):
        self.network = _Network(self, '', self.length, v_shape, x_shape)

    def score(self, x, q, k, m, n, start):
        return self.network(x, n)


class _FactorizedDense(_Part):
    """The row as an outer product: score b a + i is A_i C_b, with i < a."""

    def build(self, v_shape, x_shape):
        a, b = self.factors
        self.fast = _Network(self, 'tiled_', a, v_shape, x_shape)
        self.slow = _Network(self, 'repeated_', b, v_shape, x_shape)

    def score(self, x, q, k, m, n, start):
        # One factor tiled, the other repeated: tiling both would give each pair of
        # numbers at several keys, and others nowhere.
        both = self.slow(x)[..., :, None] * self.fast(x)[..., None, :]
        shape = ops.shape(both)[:3] + (self.factors[0] * self.factors[1],)
        return ops.reshape(both, shape)[..., :n]


class _Random(_Part):
    """A matrix for each head, whatever the text says."""

    def build(self, v_shape, x_shape):
        shape = (v_shape[-2], self.length, self.length)
        self.table = self._weight('table', shape, 1, not self.fixed)

    def score(self, x, q, k, m, n, start):
        return ops.cast(_rows(self.table, start, m)[None, ..., :n], x.dtype)


class _FactorizedRandom(_Part):
    """The same of rank k: R_1 R_2ᵀ."""

    def build(self, v_shape, x_shape):
        shape = (v_shape[-2], self.length, self.rank)
        deviation = self.rank**-0.25  # the products have deviation 1, as `random` has
        self.rows = self._weight('rows', shape, deviation, not self.fixed)
        self.columns = self._weight('columns', shape, deviation, not self.fixed)

    def score(self, x, q, k, m, n, start):
        columns = ops.convert_to_tensor(self.columns)[:, :n]
        found = ops.einsum('hmk,hnk->hmn', _rows(self.rows, start, m), columns)
        return ops.cast(found[None], x.dtype)


class _Vanilla(_Part):
    """Queries times keys, as ever."""

    def build(self, v_shape, x_shape):
        """No weights."""

    def score(self, x, q, k, m, n, start):
        return ops.einsum('bmhd,bnhd->bhmn', q, k)


def _rows(table, start, m):
    """Rows start … start + m of a table (h, length, …); start may be a tensor."""
    table = ops.convert_to_tensor(table)
    if isinstance(start, int):
        return table[:, start : start + m]
    return ops.take(table, start + ops.arange(m, dtype='int32'), axis=1)


KINDS = {
    'dense': _Dense,
    'random': _Random,
    'factorized_dense': _FactorizedDense,
    'factorized_random': _FactorizedRandom,
    'vanilla': _Vanilla,
}


class Synthesizer(Softmax):
    """softmax(B) v with scores B that the text, or nothing at all, decides.

    For each head and n = `length`, cut to the length of the text:

        dense: row i of B is W_2 relu(W_1 x_i + b_1) + b_2.
        random: B is a weight (n, n).
        factorized_dense: row i is tile(A_i) * repeat(C_i), an outer product, with A_i
            and C_i made of x_i like `dense`.
        factorized_random: B = R_1 R_2ᵀ with weights (n, k).
        vanilla: q kᵀ, for mixtures.

    Args:
        kind: one of these, or a list of them, which are mixed: Σ α_i B_i, with
            α = softmax(a weight).
        length: the longest text.
        hidden: channels of the first layer of dense kinds; by default those of a
            head's values.
        factors: lengths of A and C, whose product is at least `length`; by default
            both near √length.
        rank: k.
        fixed: the matrices of random kinds stay as they were drawn.
        dropout: share of the weights dropped while training.

    Queries and keys are made where 'vanilla' is among the kinds only.  Raises
    ValueError where the kind is unknown, the factors are too small, a text is longer
    than `length`, or queries and keys belong to two sequences.
    Tay et al., 2020, https://arxiv.org/abs/2005.00743, https://kexue.fm/archives/7430
    """

    one_sequence = True
    reads_input = True

    def __init__(
        self,
        kind='dense',
        length=None,
        hidden=None,
        factors=None,
        rank=8,
        fixed=False,
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(dropout, **kwargs)
        self.kind = kind if isinstance(kind, str) else list(kind)
        self.length = length
        self.hidden = hidden
        self.factors = None if factors is None else list(factors)
        self.rank = rank
        self.fixed = fixed
        kinds = [kind] if isinstance(kind, str) else self.kind
        self._check(kinds)
        self.compares = 'vanilla' in kinds
        if factors is None:
            a = math.ceil(length**0.5)
            factors = (a, math.ceil(length / a))
        options = (length, hidden, tuple(factors), rank, fixed)
        self.parts = [
            KINDS[name](*options, name=name, dtype=self.dtype_policy) for name in kinds
        ]

    def _check(self, kinds):
        unknown = [name for name in kinds if name not in KINDS]
        if unknown or not kinds or len(set(kinds)) < len(kinds):
            raise ValueError(
                f'Synthesizer(kind={self.kind!r}) must be one of {", ".join(KINDS)}, '
                'or a list of several of them, each once.'
            )
        if self.length is None:
            raise ValueError(
                'Synthesizer has weights for each place; give length, that of the '
                "longest text (mechanism_options={'length': 512}, where a name stands "
                'for it; attention_options of a model).'
            )
        check_sizes(length=self.length, rank=self.rank, **given(hidden=self.hidden))
        if self.factors is not None and len(self.factors) != 2:
            raise ValueError(f'factors={self.factors} must be two lengths, of A and C.')
        a, b = self.factors or (self.length, 1)
        check_sizes(factors_a=a, factors_b=b)
        if a * b < self.length:
            raise ValueError(
                f'factors={self.factors} make rows of {a * b} scores, fewer than '
                f'length={self.length}.'
            )

    def build(self, q_shape, k_shape, v_shape, x_shape):
        """Make the weights of each kind, and of the mixture."""
        for part in self.parts:
            part.build(v_shape, x_shape)
        if len(self.parts) > 1:
            self.mixture = self.add_weight(
                shape=(len(self.parts),), initializer='zeros', name='mixture'
            )

    def score(self, q, k, x=None, n=None, start=0):
        """Scores (b, h, m, n) of the queries' sequence x (b, m, e).

        Args:
            q, k: (b, m, h, d), (b, n, h, d) for 'vanilla', else None.
            n: number of keys.
            start: the step at which x begins, an int or a scalar tensor.
        """
        self._check_lengths(q, k, x, n, start)
        b, m = ops.shape(x)[:2]
        shares = [1.0]
        if len(self.parts) > 1:
            shares = ops.softmax(ops.cast(self.mixture, 'float32'))
            shares = ops.unstack(ops.cast(shares, x.dtype), len(self.parts))
        scores = sum(
            part.score(x, q, k, m, n, start) * share
            for part, share in zip(self.parts, shares, strict=True)
        )
        return ops.broadcast_to(scores, (b, *ops.shape(scores)[1:]))

    def _check_lengths(self, q, k, x, n, start):
        if x is None:
            raise ValueError(
                'Synthesizer makes its scores of the sequence itself; call score with '
                'x=, n= and start=, as the attention layers do.'
            )
        # Lengths may be unknown: None, or a symbol while JAX infers shapes.
        m, count = (size if isinstance(size, int) else None for size in (x.shape[1], n))
        last = start + m if isinstance(start, int) and m else 0
        if max(last, count or 0) > self.length:
            raise ValueError(
                f'A text of {max(last, count or 0)} steps is longer than the '
                f'{self.length} that {self.name} has weights for; shorten it, or make '
                'Synthesizer with a greater length.'
            )
        if k is not None and m and count and (q.shape[1], k.shape[1]) != (m, count):
            raise ValueError(
                f'{q.shape[1]} queries and {k.shape[1]} keys are a part of the {m} and '
                f'{count} there are, and Synthesizer cannot tell which.  Use a '
                'position that scores all at once (block=None).'
            )
