"""Mitchell's arithmetic: bounds, special values, blocks, both gradients."""

import numpy as np
import pytest
from compiling import compiled
from harness import assert_close
from harness import gradients
from harness import to_numpy
from keras import ops
from reference import mitchell as slow

from keraseff.ops import mitchell
from keraseff.ops import mitchell_divide
from keraseff.ops import mitchell_matmul
from keraseff.ops import mitchell_multiply

INF, NAN = np.inf, np.nan
GRID = (1 + np.arange(128) / 128).astype('float32')  # each mantissa of 7 bits


def normals(rng, *shape):
    """Numbers of both signs and of many magnitudes."""
    return (rng.normal(size=shape) * 2.0 ** rng.integers(-9, 9, shape)).astype(
        'float32'
    )


def test_all_pairs_of_a_grid_keep_the_bounds():
    x, y = GRID[:, None], GRID[None]
    ratio = to_numpy(mitchell_multiply(x, y)) / (x.astype('float64') * y)
    assert ratio.min() == pytest.approx(8 / 9, abs=1e-7), 'at 1.5 times 1.5'
    assert np.unravel_index(ratio.argmin(), ratio.shape) == (64, 64)
    assert ratio.max() == 1
    np.testing.assert_array_equal(ratio == 1, (x == 1) | (y == 1))
    ratio = to_numpy(mitchell_divide(x, y)) / (x.astype('float64') / y)
    assert ratio.min() >= 1 - 1e-7
    assert 1.1245 < ratio.max() <= 9 / 8


def test_random_pairs_equal_the_rule_with_real_logarithms(rng):
    x, y = normals(rng, 20_000), normals(rng, 20_000)
    found = to_numpy(mitchell_multiply(x, y))
    few = slice(0, 2000)
    pairs = list(zip(x[few].tolist(), y[few].tolist(), strict=True))
    np.testing.assert_allclose(
        found[few], [slow.multiply(*p) for p in pairs], rtol=1e-6
    )
    ratio = found / (x.astype('float64') * y)
    assert 8 / 9 - 1e-7 <= ratio.min() < 0.8894
    assert ratio.max() <= 1 + 1e-7
    found = to_numpy(mitchell_divide(x, y))
    np.testing.assert_allclose(found[few], [slow.divide(*p) for p in pairs], rtol=1e-6)
    ratio = found / (x.astype('float64') / y)
    assert 1 - 1e-7 <= ratio.min()
    assert 1.124 < ratio.max() <= 9 / 8 + 1e-7
    swapped = to_numpy(mitchell_multiply(y, x))
    np.testing.assert_array_equal(swapped, to_numpy(mitchell_multiply(x, y)))
    rising = to_numpy(mitchell_multiply(np.sort(np.abs(x)), np.float32(1.7)))
    assert (np.diff(rising) >= 0).all()


def test_examples():
    found = float(mitchell_multiply(np.float32(12.3), np.float32(4.56)))
    assert found == pytest.approx(53.68, abs=1e-4)
    assert float(mitchell_multiply(np.float32(1.5), np.float32(-1.5))) == -2
    assert float(mitchell_divide(np.float32(-1), np.float32(1.5))) == -0.75


PRODUCTS = [
    (0, 3, 0), (-0.0, 5, 0), (1e-40, 8, 0), (1e-40, 3e38, 0), (0, 1e-40, 0),
    (3e38, 3e38, INF), (-3e38, 3e38, -INF), (2e-38, 2e-38, 0), (1e-20, 1e-20, 0),
    (INF, 0.25, INF), (INF, -2, -INF), (-INF, -INF, INF), (INF, 0, NAN),
    (0, -INF, NAN), (INF, 1e-40, NAN), (NAN, 1, NAN), (0, NAN, NAN), (2, -4, -8),
    (2.0**127, 1, 2.0**127), (2.0**100, 2.0**28, INF), (2.0**-126, 1, 2.0**-126),
]  # fmt: skip
QUOTIENTS = [
    (0, 3, 0), (3, 0, INF), (-3, 0, -INF), (3, -0.0, -INF), (0, 0, NAN),
    (1, 1e-40, INF), (1e-40, 1, 0), (3e38, 2e-38, INF), (2e-38, 3e38, 0),
    (INF, 2, INF), (2, INF, 0), (INF, -INF, NAN), (NAN, 1, NAN), (1, NAN, NAN),
    (INF, 0, INF), (0, INF, 0), (8, -4, -2), (1.75, 1.75, 1),
]  # fmt: skip


@pytest.mark.every_backend
def test_zeros_infinities_and_what_is_out_of_range(rng):
    """And usual numbers beside them, plain and corrected, in one graph."""
    x, y, products = np.array(PRODUCTS, 'float32').T
    a, b, quotients = np.array(QUOTIENTS, 'float32').T
    c, d = normals(rng, 4000), normals(rng, 4000)

    def graph(x, y, a, b):
        both = [mitchell_multiply(x, y), mitchell_divide(a, b)]
        for correct in (False, True):
            both.append(mitchell_multiply(x, y, correct)[-4000:])
            both.append(mitchell_divide(a, b, correct)[-4000:])
        return both

    longer = (np.append(p, q) for p, q in ((x, c), (y, d), (a, c), (b, d)))
    found = compiled(graph, *longer)
    np.testing.assert_array_equal(found[0][: len(x)], products)
    np.testing.assert_array_equal(found[1][: len(a)], quotients)
    pairs = list(zip(c.tolist(), d.tolist(), strict=True))
    expected = [slow.multiply(*p) for p in pairs], [slow.divide(*p) for p in pairs]
    np.testing.assert_allclose(found[2:4], expected, rtol=1e-6)
    exact = np.array([c.astype('float64') * d, c.astype('float64') / d])
    ratio = found[4:] / exact
    assert (ratio.min(1) > [0.92, 0.94]).all()
    assert (ratio.max(1) < [1.06, 1.09]).all()
    assert (np.abs(ratio.mean(1) - 1) < 0.005).all()


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_short_words(dtype):
    """The words of short floats added themselves give the same."""
    bits = {'float16': 10, 'bfloat16': 7}[dtype]
    one = {'float16': 0x3C00, 'bfloat16': 0x3F80}[dtype]
    words = (one + np.arange(-3 << bits, 3 << bits, 5)).astype('int32')

    def floats(words):
        short = ops.view(ops.cast(words, 'int16'), dtype=dtype)
        return short if dtype == 'bfloat16' else to_numpy(short)

    x, y = floats(words), floats(words[::-1].copy())
    expected = ops.cast(floats(words + words[::-1] - one), 'float32')
    found = mitchell_multiply(x, y)
    assert dtype in str(found.dtype)
    assert_close(ops.cast(found, 'float32'), expected, atol=0, rtol=0)


def test_the_correction_takes_the_mean_error_away(rng):
    """Within 4 standard errors over mantissas that are uniform."""
    x, y = (1 + rng.random((2, 40_000))).astype('float32')
    wide = x.astype('float64')
    for f, exact in ((mitchell_multiply, wide * y), (mitchell_divide, wide / y)):
        ratio = to_numpy(f(x, y, correct=True)) / exact
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / len(x) ** 0.5
        plain = to_numpy(f(x, y)) / exact
        assert abs(plain.mean() - 1) > 0.03
    assert float(mitchell_multiply(np.float32(0), np.float32(3), correct=True)) == 0


@pytest.mark.every_backend
@pytest.mark.parametrize('k', [3, 37])
def test_matmul_is_the_sum_of_the_products(k, rng):
    x, y = normals(rng, 2, 5, k), normals(rng, 2, k, 3)
    x[0, 0], y[1, 0] = 0, 0
    found, flat, one = compiled(
        lambda x, y: (
            mitchell_matmul(x, y),
            mitchell_matmul(x, y[0]),
            mitchell_matmul(x[0, :1], y[0], block=2),
        ),
        x,
        y,
    )
    wide = [slow.matmul(a, b) for a, b in zip(x, y, strict=True)]
    scale = np.abs(x) @ np.abs(y)
    assert (np.abs(found - wide) <= 1e-6 * scale).all()
    assert (np.abs(found - x.astype('float64') @ y) <= scale / 9 * (1 + 1e-5)).all()
    assert (np.abs(flat[0] - found[0]) <= 1e-6 * scale[0]).all()
    assert (np.abs(one - found[0, :1]) <= 1e-6 * scale[0, :1]).all()


def test_memory_is_that_of_a_block(monkeypatch, rng):
    seen = []
    product = mitchell._product

    def watched(left, right):
        found = product(left, right)
        seen.append(tuple(found.shape))
        return found

    monkeypatch.setattr(mitchell, '_product', watched)
    x, y = normals(rng, 6, 100), normals(rng, 100, 7)
    mitchell_matmul(x, y, block=8)
    assert set(seen) == {(6, 8, 7)}


@pytest.mark.every_backend
def test_both_gradients(rng):
    """'exact' has the slopes of true products, 'mitchell' such products' own."""
    x, y, g = normals(rng, 2, 5, 20), normals(rng, 20, 3), normals(rng, 2, 5, 3)
    a, b, w = normals(rng, 2, 1, 6), normals(rng, 4, 1), normals(rng, 2, 4, 6)

    def loss(x, y, a, b):
        total = 0
        for i, backward in enumerate(('exact', 'mitchell')):
            mixed = mitchell_matmul(x[i], y, backward=backward)
            product = mitchell_multiply(a[i], b, backward=backward)
            quotient = mitchell_divide(a[i], b, backward=backward)
            both = ops.multiply(product + quotient, w[i])
            total = total + ops.sum(ops.multiply(mixed, g[i])) + ops.sum(both)
        return total

    dx, dy, da, db = gradients(loss, x, y, a, b)
    np.testing.assert_allclose(dx[0], g[0] @ y.T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(dx[1], slow.matmul(g[1], y.T), rtol=1e-3, atol=1e-3)
    assert np.abs(dx[1] - g[1] @ y.T).max() > 1e-2
    expected = x[0].T @ g[0] + slow.matmul(x[1].T, g[1])
    np.testing.assert_allclose(dy, expected, rtol=1e-3, atol=1e-3)
    expected = (w[0] * b + w[0] / b).sum(0)
    np.testing.assert_allclose(da[0, 0], expected, rtol=1e-4, atol=1e-3)
    expected, down = np.zeros(6), (w[0] * (a[0] - a[0] / b**2)).sum(1)
    for i, j in np.ndindex(4, 6):
        share = slow.divide(w[1, i, j], b[i, 0])
        expected[j] += slow.multiply(w[1, i, j], b[i, 0]) + share
        down[i] += slow.multiply(w[1, i, j], a[1, 0, j])
        down[i] -= slow.multiply(share, slow.divide(a[1, 0, j], b[i, 0]))
    np.testing.assert_allclose(da[1, 0], expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(db[:, 0], down, rtol=1e-4, atol=1e-5 * abs(down).max())


def test_half_precision_overflows_to_infinity():
    found = mitchell_multiply(np.float16([300]), np.float16([-300]))
    assert to_numpy(found)[0] == -np.inf
    x = np.full((2, 40), 3, 'float16')
    found = to_numpy(mitchell_matmul(x, x.T))
    assert found.dtype == np.float16
    assert_close(found, np.full((2, 2), 320.0))


@pytest.mark.parametrize('f', [mitchell_multiply, mitchell_divide, mitchell_matmul])
def test_illegal_arguments_are_refused(f):
    x = np.ones((2, 3), 'float32')
    with pytest.raises(ValueError, match="backward='exakt'"):
        f(x, x, backward='exakt')
    with pytest.raises(ValueError, match='3 columns and y 2 rows'):
        mitchell_matmul(x, x)
    with pytest.raises(ValueError, match='of shape'):
        mitchell_matmul(np.ones((2, 2, 2, 3), 'float32'), np.ones((2, 3, 2), 'float32'))
