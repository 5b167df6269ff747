"""Sandwich is the product of sinusoidal positions."""

import numpy as np
import pytest
from harness import assert_close
from harness import to_numpy

from keraseff.layers.position.sandwich import Sandwich
from keraseff.ops import sinusoidal_embeddings

X = np.zeros((1, 9, 2), 'float32')


@pytest.mark.every_backend
def test_products_of_sinusoidal_vectors():
    for base, dim in ((10000, 128), (50, 6)):
        vectors = to_numpy(sinusoidal_embeddings(np.arange(9), dim, base))
        products = vectors @ vectors.T
        found = to_numpy(Sandwich(None, 4, dim, base)(X))[0]
        for h in range(4):
            # The authors divide by 8 h / heads.
            assert_close(found[h], products / (8 * (h + 1) / 4), rtol=1e-4)
        even = Sandwich(None, 4, dim, base, scale=0.25)(X)
        assert_close(even, np.broadcast_to(products / 4, (1, 4, 9, 9)), rtol=1e-4)


def test_the_sum_falls_like_a_logarithm():
    """Σ cos d θ_c ≈ r (1 - (ln d + γ) / ln base) - ½ for r pairs, on the average."""
    layer = Sandwich(None, 1, scale=1)
    p = to_numpy(layer(np.zeros((1, 1, 1)), keys=np.zeros((1, 2000, 1))))[0, 0, 0]
    assert p[0] == pytest.approx(64)
    for start in (50, 100, 200, 500, 1000):
        d = np.arange(start, 2 * start)
        expected = 64 * (1 - (np.log(d) + np.euler_gamma) / np.log(10000)) - 0.5
        assert p[d].mean() == pytest.approx(expected.mean(), abs=0.2)


def test_an_odd_dim_is_refused():
    with pytest.raises(ValueError, match='even dim, got 7'):
        Sandwich(4, 2, 7)
