"""ReRoPE and Self-Extend, one query and one key at a time."""

import math

import numpy as np
from reference.positions import rotate_pair


def rerope_distance(i, j, window, leak=math.inf):
    """How far the key j stands behind the query i, signed."""
    steps = abs(i - j)
    if steps >= window:
        steps = window + (steps - window) / leak
    return math.copysign(steps, i - j)


def self_extend_distance(i, j, window, group):
    """The same by the paper's rule: far steps counted by groups."""
    if abs(i - j) < window:
        return i - j
    early, late = sorted((i, j))
    steps = late // group - early // group + window - window // group
    return math.copysign(steps, i - j)


def scores(q, k, places, key_places, distance, frequencies, interleaved=True):
    """q_i turned by the distance, times k_j, (b, m, h, d), (b, n, h, d) -> b h m n."""
    b, m, h, d = q.shape
    found = np.zeros((b, h, m, k.shape[1]))
    half = len(frequencies)
    for s, a, i, j in np.ndindex(*found.shape):
        away = distance(places[s % len(places)][i], key_places[s % len(key_places)][j])
        turned = np.array(q[s, i, a], 'float64')
        for c, frequency in enumerate(frequencies):
            x, y = (2 * c, 2 * c + 1) if interleaved else (c, c + half)
            turned[x], turned[y] = rotate_pair(turned[x], turned[y], away * frequency)
        found[s, a, i, j] = turned @ k[s, j, a]
    return found
