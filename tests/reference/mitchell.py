"""Mitchell's product and quotient from exponents and mantissas."""

import math

import numpy as np


def split(x):
    """|x| as n and f with |x| = 2^n (1 + f), 0 ≤ f < 1."""
    mantissa, exponent = math.frexp(abs(x))
    return exponent - 1, 2 * mantissa - 1


def power(log):
    """2^n (1 + f) for n the whole part of log and f the rest of it."""
    n = math.floor(log)
    return 2.0**n * (1 + log - n)


def multiply(x, y):
    """The product by adding approximate logarithms."""
    if x == 0 or y == 0:
        return 0.0
    (n, f), (m, g) = split(x), split(y)
    return math.copysign(1, x) * math.copysign(1, y) * power(n + m + f + g)


def divide(x, y):
    """The quotient by subtracting them."""
    (n, f), (m, g) = split(x), split(y)
    return math.copysign(1, x) * math.copysign(1, y) * power(n - m + f - g)


def matmul(x, y):
    """(m, k), (k, n) -> (m, n)."""
    out = np.zeros((x.shape[0], y.shape[1]))
    for i, j in np.ndindex(out.shape):
        out[i, j] = sum(multiply(a, b) for a, b in zip(x[i], y[:, j], strict=True))
    return out
