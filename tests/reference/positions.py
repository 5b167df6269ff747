"""Positions as loops: buckets, relative vectors, scaled frequencies."""

import math
from decimal import Decimal
from decimal import localcontext

import numpy as np


def t5_bucket(distance, buckets, max_distance, bidirectional):
    """The bucket of one distance (key - query), by boundaries of fifty digits."""
    start = 0
    if bidirectional:
        buckets //= 2
        start = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return start + distance
    with localcontext() as context:
        context.prec = 50
        ratio = Decimal(max_distance) / exact
        bucket = exact
        for step in range(1, buckets - exact):
            power = (ratio.ln() * step / (buckets - exact)).exp()
            if distance >= exact * power * (1 - Decimal(10) ** -40):
                bucket = exact + step
    return start + bucket


def nezha_vector(distance, reach, size):
    """NEZHA's vector of one distance."""
    row = max(-reach, min(reach, distance)) + reach
    vector = np.zeros(size)
    for c in range(size // 2):
        angle = row / 10000 ** (2 * c / size)
        vector[2 * c : 2 * c + 2] = math.sin(angle), math.cos(angle)
    return vector


def relative_attention(q, k, v, vector, hidden):
    """softmax of q_i (k_j + R_ij) / √d over what is not hidden, on (v_j + R_ij)."""
    b, m, h, d = q.shape
    out = np.zeros((b, m, h, v.shape[-1]))
    for s, i, a in np.ndindex(b, m, h):
        shares = np.zeros(k.shape[1])
        values = np.zeros((k.shape[1], v.shape[-1]))
        for j in range(k.shape[1]):
            r = vector(j - i)
            if not hidden(s, i, j):
                shares[j] = math.exp(q[s, i, a] @ (k[s, j, a] + r) / math.sqrt(d))
            values[j] = v[s, j, a] + r
        out[s, i, a] = shares / shares.sum() @ values
    return out


def rotate_pair(x, y, angle):
    """Two channels turned by an angle."""
    turned = complex(x, y) * complex(math.cos(angle), math.sin(angle))
    return turned.real, turned.imag


def rotate_half_split(x, position, frequencies):
    """One vector whose channels i and i + r/2 are turned by position × frequency i."""
    out, half = np.array(x, 'float64'), len(frequencies)
    for i, frequency in enumerate(frequencies):
        out[i], out[i + half] = rotate_pair(x[i], x[i + half], position * frequency)
    return out


def llama3_frequency(frequency, factor, low, high, trained):
    """Meta's rule, for one frequency, case by case."""
    wavelength = 2 * math.pi / frequency
    if wavelength < trained / high:
        return frequency
    if wavelength > trained / low:
        return frequency / factor
    smooth = (trained / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / factor + smooth * frequency


def dynamic_frequency(i, dim, base, factor, length, trained):
    """The frequency of pair i when the base is stretched for `length` steps."""
    length = max(length, trained)
    stretched = base * (factor * length / trained - (factor - 1)) ** (dim / (dim - 2))
    return stretched ** (-2 * i / dim)
