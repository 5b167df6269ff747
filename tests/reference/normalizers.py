"""Maps from scores to weights, one vector at a time in float64, from definitions."""

import math

import numpy as np


def softmax(x):
    """e^x over its sum."""
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def entmax(x, alpha):
    """relu((alpha - 1) x - λ)^(1 / (alpha - 1)), λ found by halving an interval."""
    if alpha == 1:
        return softmax(x)
    z = (alpha - 1) * x

    def weights(threshold):
        return np.maximum(z - threshold, 0) ** (1 / (alpha - 1))

    low, high = z.max() - 1, z.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if weights(middle).sum() > 1 else (low, middle)
    return weights(low)


def entmax_jacobian(p, alpha):
    """diag(s) - s sᵀ / Σs with s = p^(2 - alpha) where p is not 0."""
    s = np.where(p > 0, np.maximum(p, 1e-30) ** (2 - alpha), 0)
    return np.diag(s) - np.outer(s, s) / s.sum()


def taylor(x, order=2):
    """The polynomial over its sum."""
    powers = np.array(
        [sum(a**m / math.factorial(m) for m in range(order + 1)) for a in x]
    )
    return powers / powers.sum()


def top_k(x, k):
    """The softmax of the k largest, all of them distinct."""
    out = np.zeros(len(x))
    kept = np.argsort(x)[-k:]
    out[kept] = softmax(x[kept])
    return out


def top_p(x, p):
    """The softmax of the largest, taken one by one until they hold p of it."""
    shares, kept, mass = softmax(x), [], 0.0
    for i in np.argsort(-x):
        kept.append(i)
        mass += shares[i]
        if mass >= p:
            break
    out = np.zeros(len(x))
    out[kept] = softmax(x[kept])
    return out


def perturb_max(x, points=2001):
    """E Π_{j≠i} Φ(x_i - x_j + ε) over normal ε, one integral for each i."""
    from scipy.stats import norm

    noise = np.linspace(-9, 9, points)
    weights = norm.pdf(noise) * (noise[1] - noise[0])
    out = np.empty(len(x))
    for i in range(len(x)):
        others = np.delete(x, i)
        chances = norm.cdf(x[i] - others[:, None] + noise).prod(axis=0)
        out[i] = (weights * chances).sum()
    return out
