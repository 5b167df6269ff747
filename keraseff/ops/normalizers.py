"""Maps from scores to weights that sum to 1, in softmax's place.

All work along one axis, in float32 whatever the dtype of the scores, and give scores
at `masked_value` or minus infinity a weight of exactly 0; where every score is such,
the weights are uniform (Taylor's are 0).  A survey: https://kexue.fm/archives/10145
"""

import math

import keras
from keras import backend
from keras import ops

from keraseff.ops.masking import masked_value


def sparsemax(x, axis=-1):
    """The nearest point to x of the simplex, relu(x - λ) with λ such that it sums to 1.

    Args:
        x: scores of any shape.
        axis: along which the weights sum to 1.

    Keras' own `ops.sparsemax` (3.15) adds up all partial sums where the last one is
    meant, and its weights do not sum to 1.  First derivatives only, as for `entmax`.
    Martins & Astudillo, 2016, https://arxiv.org/abs/1602.02068
    """
    return _along(axis, _sparsemax, x)


def entmax15(x, axis=-1):
    """`entmax` of alpha 1.5 without bisection, relu(x/2 - λ)².

    Args:
        x: scores of any shape.
        axis: along which the weights sum to 1.

    Peters et al., 2019, https://arxiv.org/abs/1905.05702
    """
    return _along(axis, _entmax15, x)


def entmax(x, alpha=1.5, axis=-1):
    """relu(β x - λ)^(1/β) with β = alpha - 1 and λ such that it sums to 1.

    Args:
        x: scores of any shape.
        alpha: at least 1; 1 is the softmax, 2 sparsemax, and between them small scores
            get a weight of exactly 0, the more of them the greater alpha is.
        axis: along which the weights sum to 1.

    Raises:
        ValueError: alpha is below 1.

    λ is found by bisection, and the gradient is the exact Jacobian
    diag(s) - s sᵀ / Σs, s = p^(2 - alpha), not that of the search.  It is good for
    first derivatives only: a gradient of this gradient is 0.
    Peters et al., 2019, https://arxiv.org/abs/1905.05702
    """
    if not alpha >= 1:
        raise ValueError(f'alpha={alpha} is below 1; 1 is the softmax, 2 sparsemax.')
    closed = {1: _softmax, 1.5: _entmax15, 2: _sparsemax}
    weigh = closed.get(alpha) or (lambda x: _bisected(x, alpha))
    return _along(axis, weigh, x)


def taylor_softmax(x, order=2, axis=-1):
    """f(x) / Σ f(x), f the Taylor polynomial of the exponential; 1 + x + x²/2.

    Args:
        x: scores of any shape.
        order: of the polynomial; even, for odd ones are negative somewhere.
        axis: along which the weights sum to 1.

    Raises:
        ValueError: the order is odd or below 2.

    It is not monotone: for order 2, scores below -1 get the greater weight the lower
    they are, and adding a constant to all scores changes the weights.
    de Brébisson & Vincent, 2016, https://arxiv.org/abs/1511.05042
    """
    if order < 2 or order % 2:
        raise ValueError(f'order={order}: use 2, 4 or another even number.')
    hidden = masked_value(_float_dtype(x)) / 2  # halved, for bfloat16 rounds it

    def weigh(x):
        seen = x > hidden
        x = ops.where(seen, x, 0.0)
        powers = ops.ones_like(x)
        for m in range(order, 0, -1):
            powers = 1 + x * powers / m
        powers = ops.where(seen, powers, 0.0)
        total = ops.sum(powers, axis=-1, keepdims=True)
        return powers / ops.where(total > 0, total, 1.0)

    return _along(axis, weigh, x)


def topk_softmax(x, k, axis=-1):
    """The softmax over the k largest scores, all others getting 0.

    Args:
        x: scores of any shape.
        k: how many are kept; those equal to the k-th are kept as well.
        axis: along which the weights sum to 1.

    Raises:
        ValueError: k is below 1.

    Sun et al., Sparse-softmax, 2021, https://arxiv.org/abs/2112.12433
    """
    if k < 1:
        raise ValueError(f'k={k}: at least 1 score has to be kept.')
    return _along(axis, lambda x: _softmax(keep_largest(x, k)), x)


def keep_largest(x, k):
    """x (…, n) with all but its k largest, and their equals, hidden."""
    rising = ops.sort(ops.stop_gradient(x), axis=-1)
    least = rising[..., -k:][..., :1]  # in two steps: n may be less than k, or unknown
    return ops.where(x >= least, x, masked_value('float32'))


def topp_softmax(x, p, axis=-1):
    """The softmax over the fewest scores whose softmax reaches a mass of p.

    Args:
        x: scores of any shape.
        p: the mass, above 0 and at most 1; scores equal to the last kept are kept.
        axis: along which the weights sum to 1.

    Raises:
        ValueError: p is out of that range.

    Nucleus sampling, Holtzman et al., 2019, https://arxiv.org/abs/1904.09751
    """
    if not 0 < p <= 1:
        raise ValueError(f'p={p} is no mass; use a number above 0 and at most 1.')
    if p == 1:
        return _along(axis, _softmax, x)

    def weigh(x):
        falling = -ops.sort(-ops.stop_gradient(x), axis=-1)
        shares = _softmax(falling)
        before = ops.cumsum(shares, axis=-1) - shares
        kept = ops.where(before < p, falling, float('inf'))
        least = ops.minimum(ops.min(kept, axis=-1, keepdims=True), falling[..., :1])
        return _softmax(ops.where(x >= least, x, masked_value('float32')))

    return _along(axis, weigh, x)


def perturb_max(x, points=33, axis=-1):
    """The chance that x_i is the largest once each score got its own N(0, 1) noise.

    Args:
        x: scores of any shape.
        points: of the integral ∫ φ(y - x_i) Π_{j≠i} Φ(y - x_j) dy, taken from 6 below
            the largest score to 6 above; 33 give about 1e-7.
        axis: along which the weights sum to 1.

    No noise is drawn.  Memory is `points` times that of the scores.  With Gumbel noise
    in the normal one's place the chance is the softmax itself.
    https://kexue.fm/archives/10145
    """

    def weigh(x):
        x = _lowered(x, -40.0)[..., None]  # (…, n, 1)
        t = ops.linspace(-6.0, 6.0, points) - x
        below = ops.maximum((1 + ops.erf(t / math.sqrt(2))) / 2, 1e-10)
        below = ops.log(below)
        others = ops.sum(below, axis=-2, keepdims=True) - below
        chance = ops.sum(ops.exp(others - ops.square(t) / 2), axis=-1)
        return chance / ops.sum(chance, axis=-1, keepdims=True)

    return _along(axis, weigh, x)


def gumbel_softmax(x, temperature=1.0, hard=False, seed=None, axis=-1):
    """softmax((x + g) / temperature) with Gumbel noise g: a relaxed sample.

    Args:
        x: scores of any shape; where the result is largest follows their softmax.
        temperature: the lower, the nearer to one 1 among zeros.
        hard: give that 1 among zeros, with the relaxed sample's gradient.
        seed: an integer or a `keras.random.SeedGenerator`.
        axis: along which the weights sum to 1.

    Raises:
        ValueError: the temperature is not positive.

    Jang et al., 2016, https://arxiv.org/abs/1611.01144
    """
    if not temperature > 0:
        raise ValueError(f'temperature={temperature} must be above 0.')

    def weigh(x):
        u = keras.random.uniform(ops.shape(x), dtype='float32', seed=seed)
        noise = -ops.log(-ops.log(ops.maximum(u, 1e-20)))
        noisy = _lowered(x, masked_value('float32')) + noise
        return relaxed_max(noisy, temperature, hard)

    return _along(axis, weigh, x)


def relaxed_max(x, temperature=1.0, hard=False):
    """softmax(x / temperature) of (…, n), or its largest as 1 with its gradient."""
    soft = _softmax(x / temperature)
    if not hard:
        return soft
    top = ops.cast(x >= ops.max(x, axis=-1, keepdims=True), 'float32')
    first = ops.cast(ops.cumsum(top, axis=-1) == 1, 'float32')  # of equals
    top = top * first
    return ops.stop_gradient(top) + (soft - ops.stop_gradient(soft))


def _float_dtype(x):
    dtype = backend.standardize_dtype(getattr(x, 'dtype', None) or 'float32')
    return dtype if 'float' in dtype else 'float32'


def _along(axis, weigh, x):
    """weigh(x) over the last axis, in float32, put back on `axis` and in x's dtype."""
    dtype = _float_dtype(x)
    x = ops.maximum(ops.cast(x, 'float32'), masked_value('float32'))
    last = axis in (-1, len(x.shape) - 1)
    weights = weigh(x if last else ops.moveaxis(x, axis, -1))
    return ops.cast(weights if last else ops.moveaxis(weights, -1, axis), dtype)


def _softmax(x):
    if x.shape[-1] == 1:  # of which ops.softmax warns
        return ops.ones_like(x)
    return ops.softmax(x, axis=-1)


def _lowered(x, floor):
    """x less its largest, and no lower than `floor`."""
    x = x - ops.stop_gradient(ops.max(x, axis=-1, keepdims=True))
    return ops.maximum(x, floor)


def _sparsemax(x):
    # λ is at least max - 1, so scores further down may be raised: sums stay exact.
    z = ops.stop_gradient(_lowered(x, -2.0))
    falling = -ops.sort(-z, axis=-1)
    count = ops.cumsum(ops.ones_like(z), axis=-1)
    inside = 1 + count * falling > ops.cumsum(falling, axis=-1)
    size = ops.sum(ops.cast(inside, 'float32'), axis=-1, keepdims=True)
    total = ops.sum(ops.where(inside, falling, 0.0), axis=-1, keepdims=True)
    p = ops.relu(z - (total - 1) / size)
    return _with_jacobian(x, p, ops.cast(p > 0, 'float32'))


def _entmax15(x):
    z = ops.stop_gradient(_lowered(x / 2, -2.0))
    falling = -ops.sort(-z, axis=-1)
    count = ops.cumsum(ops.ones_like(z), axis=-1)
    mean = ops.cumsum(falling, axis=-1) / count
    variance = ops.cumsum(ops.square(falling), axis=-1) / count - ops.square(mean)
    edge = mean - ops.sqrt(ops.maximum(1 / count - ops.maximum(variance, 0), 0))
    inside = ops.cast(edge <= falling, 'float32')
    size = ops.sum(inside, axis=-1, keepdims=True)
    edge = ops.sum(ops.where(count == size, edge, 0.0), axis=-1, keepdims=True)
    root = ops.relu(z - edge)
    total = ops.sum(ops.square(root), axis=-1, keepdims=True)
    return _with_jacobian(x, ops.square(root) / total, root)


def _bisected(x, alpha, steps=30):
    power = 1 / (alpha - 1)
    z = ops.stop_gradient(_lowered(x * (alpha - 1), -2.0))
    low = -ops.ones_like(z[..., :1])
    width = 1.0
    for _ in range(steps):
        width /= 2
        mass = ops.sum(ops.relu(z - low - width) ** power, axis=-1, keepdims=True)
        low = ops.where(mass >= 1, low + width, low)
    p = ops.relu(z - low) ** power
    p = p / ops.sum(p, axis=-1, keepdims=True)
    slope = ops.maximum(p, 1e-12) ** (2 - alpha)
    return _with_jacobian(x, p, ops.where(p > 0, slope, 0.0))


def _with_jacobian(x, p, s):
    """p, whose derivative by x is diag(s) - s sᵀ / Σs; p and s as constants."""
    moved = x - ops.stop_gradient(x)  # zeros, of slope 1
    mean = ops.sum(s * moved, axis=-1, keepdims=True)
    return p + s * (moved - mean / ops.sum(s, axis=-1, keepdims=True))
