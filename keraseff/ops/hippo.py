"""HiPPO: the differential equations of an online memory, as float64 constants."""

import numpy as np
from scipy.linalg import expm


def _legs(size, window):
    root, n = np.sqrt(2 * np.arange(size) + 1.0), np.arange(size)
    a = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0)
    return a, root


def _legt(size, window):
    root = np.sqrt(2 * np.arange(size) + 1.0)
    return -np.outer(root, root) * _signs(size).T / window, root / window


def _lmu(size, window):
    odd = 2 * np.arange(size) + 1.0
    signs = (-1.0) ** np.arange(size)
    return -odd[:, None] * _signs(size) / window, odd * signs / window


def _signs(size):
    """(-1)^(n-k) on the diagonal and below, 1 above."""
    n = np.arange(size)
    return np.where(n[:, None] >= n, (-1.0) ** (n[:, None] - n), 1.0)


MEASURES = {'legs': _legs, 'legt': _legt, 'lmu': _lmu}


def hippo_matrices(measure, size, window=1.0):
    """A and B of x' = A x + B u, whose x_n is u's coefficient of the n-th polynomial.

    Args:
        measure: 'legs': all that was, x' = (A x + B u) / t, and u(s) ≈
            Σ x_n √(2n+1) P_n(2s/t - 1); 'legt': the last `window` seconds, u(t - s) ≈
            Σ x_n √(2n+1) P_n(1 - 2s/window); 'lmu': the same window with plain
            polynomials, u(t - s) ≈ Σ x_n P_n(2s/window - 1).
        size: number of coefficients.
        window: in seconds; 'legs' has none.

    Returns:
        a (size, size) and b (size,).
    Gu et al., 2020, https://arxiv.org/abs/2008.07669; 'lmu': Voelker et al., 2019
    """
    _check(measure, MEASURES, 'measure')
    if size < 1 or window <= 0:
        raise ValueError(f'size={size}, window={window}: both must be positive.')
    return MEASURES[measure](size, window)


def _euler(a, b, step, one):
    return one + step * a, step * b


def _backward(a, b, step, one):
    return np.linalg.inv(one - step * a), np.linalg.solve(one - step * a, step * b)


def _bilinear(a, b, step, one):
    left = one - step / 2 * a
    return np.linalg.solve(left, one + step / 2 * a), np.linalg.solve(left, step * b)


def _zoh(a, b, step, one):
    # e^[[A, B], [0, 0]] holds both, also where A has no inverse.
    joined = np.zeros((len(a) + 1,) * 2, np.result_type(a, b, float))
    joined[:-1, :-1], joined[:-1, -1] = a, b
    power = expm(step * joined)
    return power[:-1, :-1], power[:-1, -1]


METHODS = {'euler': _euler, 'backward': _backward, 'bilinear': _bilinear, 'zoh': _zoh}


def discretize(a, b, step, method='bilinear'):
    """x_k = Ā x_k-1 + B̄ u_k, which follows x' = A x + B u in steps of `step` seconds.

    Args:
        a, b: (N, N) and (N,), real or complex.
        method: 'euler' I + ΔA; 'backward' (I - ΔA)⁻¹; 'bilinear'
            (I - ΔA/2)⁻¹(I + ΔA/2); 'zoh' e^(ΔA), exact where u is constant in a step.
    """
    _check(method, METHODS, 'method')
    return METHODS[method](np.asarray(a), np.asarray(b), step, np.eye(len(a)))


def dplr(size):
    """LegS as a diagonal less a product: A = V (Λ - P P*) V*, and B = V B'.

    Args:
        size: even; the second half of Λ, P and B' is the conjugate of the first, whose
            Λ have positive imaginary parts and rise.

    Returns:
        Λ (size,), P (size,), B' (size,), and the unitary V (size, size).
    Gu et al., 2021, https://arxiv.org/abs/2111.00396
    """
    if size < 2 or size % 2:
        raise ValueError(f'size={size}: the states come in pairs; use an even number.')
    a, b = hippo_matrices('legs', size)
    p = np.sqrt(np.arange(size) + 0.5)
    skew = a + np.outer(p, p) + np.eye(size) / 2
    rates, vectors = np.linalg.eigh(-1j * skew)
    rates, vectors = rates[size // 2 :], vectors[:, size // 2 :]
    v = np.concatenate([vectors, vectors.conj()], axis=1)
    return np.concatenate([rates, -rates]) * 1j - 0.5, v.conj().T @ p, v.conj().T @ b, v


def _diagonal_legs(size):
    return dplr(size)[0][: size // 2]


def _diagonal_lin(size):
    return -0.5 + 1j * np.pi * np.arange(size // 2)


def _diagonal_inv(size):
    n = np.arange(size // 2)
    return -0.5 + 1j * size / np.pi * (size / (2 * n + 1) - 1)


DIAGONALS = {'legs': _diagonal_legs, 'lin': _diagonal_lin, 'inv': _diagonal_inv}


def diagonal_rates(init, size):
    """The size/2 complex rates, one of each conjugate pair, that S4D begins with.

    Args:
        init: 'legs' the diagonal of `dplr`; 'lin' -½ + iπn, Fourier's; 'inv'
            -½ + i(N/π)(N/(2n+1) - 1).
    Gu et al., 2022, https://arxiv.org/abs/2206.11893
    """
    _check(init, DIAGONALS, 'init')
    if size < 2 or size % 2:
        raise ValueError(f'size={size}: the states come in pairs; use an even number.')
    return DIAGONALS[init](size)


def _check(name, known, what):
    if name not in known:
        raise ValueError(f'{what}={name!r} is unknown; use one of {", ".join(known)}.')
