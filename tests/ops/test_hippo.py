import numpy as np
import pytest
from reference.state_space import orthonormal
from scipy.integrate import solve_ivp

from keraseff.ops import hippo


def test_legs_has_the_eigenvalues_of_its_diagonal():
    a, _ = hippo.hippo_matrices('legs', 8)
    np.testing.assert_allclose(sorted(np.linalg.eigvals(a).real), np.arange(-8.0, 0))


def test_legs_and_a_rank_one_matrix_are_skew_but_for_the_diagonal():
    a, b = hippo.hippo_matrices('legs', 16)
    p = np.sqrt(np.arange(16) + 0.5)
    rest = a + np.outer(p, p) + np.eye(16) / 2
    np.testing.assert_allclose(rest, -rest.T, atol=1e-12)
    np.testing.assert_allclose(b, np.sqrt(2) * p)


@pytest.mark.parametrize('size', [2, 6, 64])
def test_dplr_is_legs_in_another_basis(size):
    a, b = hippo.hippo_matrices('legs', size)
    rates, p, b_turned, v = hippo.dplr(size)
    half = size // 2
    np.testing.assert_allclose(v @ v.conj().T, np.eye(size), atol=1e-12)
    turned = v @ (np.diag(rates) - np.outer(p, p.conj())) @ v.conj().T
    np.testing.assert_allclose(turned, a, atol=1e-10)
    np.testing.assert_allclose(v @ b_turned, b, atol=1e-11)
    for vector in (rates, p, b_turned):
        np.testing.assert_allclose(vector[half:], vector[:half].conj())
    assert (rates.real == -0.5).all()
    assert (np.diff(rates[:half].imag) > 0).all()
    assert rates[0].imag > 0
    # the resolvent by Woodbury's identity equals the dense one
    g = 1.5 + 2j
    d = 1 / (g - rates)
    low_rank = np.outer(d * p, p.conj() * d) / (1 + (abs(p) ** 2 * d).sum())
    dense = np.linalg.inv(g * np.eye(size) - a)
    found = v @ (np.diag(d) - low_rank) @ v.conj().T
    np.testing.assert_allclose(found, dense, atol=1e-10)


def test_a_constant_settles_at_the_first_polynomial():
    a, b = hippo.hippo_matrices('legt', 7, window=3.0)
    np.testing.assert_allclose(-np.linalg.solve(a, b), np.eye(7)[0], atol=1e-12)


def test_legt_remembers_its_window():
    window, size = 2.0, 12
    a, b = hippo.hippo_matrices('legt', size, window)

    def u(t):
        return np.sin(3 * t) + t / 2

    found = solve_ivp(
        lambda t, x: a @ x + b * u(t), (0, 6), np.zeros(size), rtol=1e-8, atol=1e-10
    ).y[:, -1]
    ago = np.linspace(0, window, 50)
    said = sum(x * orthonormal(n, 1 - ago / window) for n, x in enumerate(found))
    assert abs(said - u(6 - ago)).max() < 5e-3


def test_lmu_is_legt_with_plain_polynomials():
    a, b = hippo.hippo_matrices('legt', 6, 2.0)
    c, d = hippo.hippo_matrices('lmu', 6, 2.0)
    n = np.arange(6)
    scale = (-1.0) ** n * np.sqrt(2 * n + 1)
    np.testing.assert_allclose(c, scale[:, None] * a / scale, atol=1e-12)
    np.testing.assert_allclose(d, scale * b)


@pytest.mark.parametrize(
    ('method', 'order'), [('euler', 1), ('backward', 1), ('bilinear', 2)]
)
def test_discretisations_converge_to_the_exact_one(method, order):
    a, b = hippo.hippo_matrices('legs', 4)

    def after_a_second(steps, method):
        one, held = hippo.discretize(a, b, 1 / steps, method)
        x = np.zeros(4)
        for _ in range(steps):
            x = one @ x + held
        return x

    exact = after_a_second(1, 'zoh')
    np.testing.assert_allclose(after_a_second(50, 'zoh'), exact, atol=1e-12)
    errors = [abs(after_a_second(n, method) - exact).max() for n in (100, 200)]
    assert 2**order * 0.8 < errors[0] / errors[1] < 2**order * 1.25


def test_hold_of_a_diagonal_is_its_formula():
    rates = np.array([-0.5 + 3j, -1.0])
    a, b = hippo.discretize(np.diag(rates), np.ones(2), 0.3, 'zoh')
    np.testing.assert_allclose(a, np.diag(np.exp(0.3 * rates)), atol=1e-12)
    np.testing.assert_allclose(b, np.expm1(0.3 * rates) / rates)
    nothing = hippo.discretize(np.zeros((2, 2)), np.ones(2), 0.3, 'zoh')
    np.testing.assert_allclose(nothing[1], [0.3, 0.3])


def test_the_rates_s4d_begins_with():
    lin, inv = (hippo.diagonal_rates(name, 8) for name in ('lin', 'inv'))
    np.testing.assert_allclose(lin, -0.5 + 1j * np.pi * np.arange(4))
    expected = [8 / np.pi * (8 / k - 1) for k in (1, 3, 5, 7)]
    np.testing.assert_allclose(inv.imag, expected)
    # 'inv' approximates 'legs'; the highest rate most closely
    legs = hippo.diagonal_rates('legs', 64)
    near = hippo.diagonal_rates('inv', 64)
    np.testing.assert_allclose(near[0].imag, legs[-1].imag, rtol=0.03)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: hippo.hippo_matrices('legz', 4), "'legz' is unknown; use one of legs"),
        (lambda: hippo.hippo_matrices('legt', 4, -1), 'must be positive'),
        (lambda: hippo.discretize(np.eye(2), np.ones(2), 1, 'rk4'), "'rk4' is unknown"),
        (lambda: hippo.dplr(5), 'use an even number'),
        (lambda: hippo.diagonal_rates('lin', 5), 'use an even number'),
        (lambda: hippo.diagonal_rates('log', 4), "'log' is unknown"),
    ],
)
def test_what_can_not_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
