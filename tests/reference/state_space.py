"""State spaces as they are defined: dense matrices, a loop over steps, float64."""

import numpy as np
from numpy.polynomial import legendre


def recur(a, b, c, u):
    """y_k = Re C x_k, x_k = A x_k-1 + B u_k; a (N, N), b and c (N,), u (n,)."""
    x, y = np.zeros(len(a), complex), []
    for value in u:
        x = a @ x + b * value
        y.append((c @ x).real)
    return np.array(y)


def impulse(a, b, c, n):
    """C A^k B for k < n."""
    return recur(a, b, c, np.eye(1, n)[0])


def cauchy_kernel(rates, p, b, c, step, n):
    """The kernel of Λ - P P* by the truncated generating function at the roots of 1.

    C̃ = C (I - Ā^n); Cauchy sums Σ c b / (g - λ); at z = -1 the limit Δ/2 C̃ B.
    """
    eye = np.eye(len(rates))
    a = np.diag(rates) - np.outer(p, p.conj())
    left = eye - step / 2 * a
    power = np.linalg.matrix_power(np.linalg.solve(left, eye + step / 2 * a), n)
    c = c @ (eye - power)
    found = []
    for z in np.exp(-2j * np.pi * np.arange(n) / n):
        if abs(1 + z) < 1e-9:
            found.append(step / 2 * (c @ b))
            continue
        under = 2 / step * (1 - z) / (1 + z) - rates
        cb, cp = (c * b / under).sum(), (c * p / under).sum()
        pb, pp = (p.conj() * b / under).sum(), (p.conj() * p / under).sum()
        found.append(2 / (1 + z) * (cb - cp * pb / (1 + pp)))
    return np.fft.ifft(found).real


def convolve(u, forward, backward=None):
    """Σ_j≤i K_i-j u_j + Σ_j≥i K'_j-i u_j; u and kernels (n,)."""
    n, y = len(u), np.zeros(len(u))
    for i in range(n):
        for j in range(n):
            if j <= i:
                y[i] += forward[i - j] * u[j]
            if j >= i and backward is not None:
                y[i] += backward[j - i] * u[j]
    return y


def legendre_coefficients(u, size):
    """Of the orthonormal polynomials √(2n+1) P_n(2s - 1) on [0, 1], u at midpoints."""
    s = (np.arange(len(u)) + 0.5) / len(u)
    return np.array([np.mean(u * orthonormal(n, s)) for n in range(size)])


def orthonormal(n, s):
    """√(2n+1) P_n(2s - 1)."""
    return np.sqrt(2 * n + 1) * legendre.Legendre.basis(n)(2 * s - 1)
