"""Linear state spaces on tensors: kernels, convolutions, recurrences.

Complex numbers are pairs (real, imaginary) of float32 tensors, as Keras' FFT has them.
Of states in conjugate pairs one of each pair is kept, and results are twice the real
part.
"""

import math

from keras import ops

BABY = 128  # most steps in one giant step of `power_sums`
ALIAS = 2.5e-6  # r^4n: what `generated_kernel` lets come around


def multiply(a, b):
    """The product of two complex pairs."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def divide(a, b):
    """The quotient of two complex pairs."""
    size = ops.square(b[0]) + ops.square(b[1])
    real, imag = multiply(a, (b[0], -b[1]))
    return real / size, imag / size


def exponential(a):
    """e^a of a complex pair."""
    size = ops.exp(a[0])
    return size * ops.cos(a[1]), size * ops.sin(a[1])


def phasors(angle, n):
    """e^(i k θ) for k < n, a pair of (…, n, N), from θ (…, N).

    By doubling where n is an int: k θ itself would lose the digits of its fraction.
    """
    if not isinstance(n, int):
        k = _upto(n)[:, None]
        return ops.cos(angle[..., None, :] * k), ops.sin(angle[..., None, :] * k)
    turn = ops.cos(angle)[..., None, :], ops.sin(angle)[..., None, :]
    found = ops.ones_like(turn[0]), ops.zeros_like(turn[0])
    for _ in range((n - 1).bit_length()):
        later = multiply(found, turn)
        found = [ops.concatenate(f, axis=-2) for f in zip(found, later, strict=True)]
        turn = multiply(turn, turn)
    return found[0][..., :n, :], found[1][..., :n, :]


def powers(logarithm, n):
    """λ^k for k < n, a pair of (…, n, N), from log λ (…, N); and log λ^n."""
    size, angle = logarithm
    turns = phasors(angle, n)
    last = multiply([t[..., -1, :] for t in turns], (ops.cos(angle), ops.sin(angle)))
    longer = size * ops.cast(n, 'float32'), ops.arctan2(last[1], last[0])
    decay = ops.exp(size[..., None, :] * _upto(n)[:, None])
    return (decay * turns[0], decay * turns[1]), longer


def power_sums(logarithm, weights, n):
    """2 Re Σ_j w_j λ_j^k for all steps k < n: the kernels of diagonal state spaces.

    With k = m a + r, λ^k = λ^(m a) λ^r, and the sum is a product of two thin
    matrices: the (N, n) powers of each channel (Vandermonde's matrix) are never formed.

    Args:
        logarithm: log λ, a pair of (e, N), one λ of each conjugate pair.
        weights: w, a pair of (s, e, N): s kernels of the same λ.
        n: an int or a scalar tensor.

    Returns:
        (s, e, n).
    """
    baby = _balanced(n)
    s, e, _ = weights[0].shape
    small, longer = powers(logarithm, baby)
    large, _ = powers(longer, (n + baby - 1) // baby)
    large = multiply([w[:, :, None] for w in weights], [p[None] for p in large])
    small = ops.concatenate(small, axis=-1)  # (e, r, 2N)
    large = ops.concatenate([large[0], -large[1]], axis=-1)  # (s, e, a, 2N)
    found = 2 * ops.matmul(large, ops.swapaxes(small, 1, 2))  # (s, e, a, r)
    return ops.reshape(found, (s, e, -1))[..., :n]


def _balanced(n):
    """A power of 2, about √n where it is known: few powers, small and large ones."""
    if not isinstance(n, int):
        return BABY
    return min(BABY, 1 << max(0, (n - 1).bit_length() + 1) // 2)


def bilinear_rates(rates, step):
    """log of (1 + Δλ/2) / (1 - Δλ/2), and Δ / (1 - Δλ/2), complex pairs.

    Args:
        rates: λ, a pair of (e, N), with negative real parts.
        step: Δ (e, 1).
    """
    a, b = rates[0] * step / 2, rates[1] * step / 2
    below = ops.square(1 - a) + ops.square(b)
    # log |1+w|²/|1-w|²; -1 would be a λ̄ of 0
    size = ops.log1p(ops.maximum(4 * a / below, -1 + 1e-6)) / 2
    angle = ops.arctan2(2 * b, 1 - ops.square(a) - ops.square(b))
    return (size, angle), (step * (1 - a) / below, step * b / below)


def zoh_rates(rates, step):
    """Δλ and (e^(Δλ) - 1) / λ, complex pairs; arguments as in `bilinear_rates`."""
    a, b = rates[0] * step, rates[1] * step
    real = ops.expm1(a) * ops.cos(b) - 2 * ops.square(ops.sin(b / 2))
    return (a, b), divide((real, ops.exp(a) * ops.sin(b)), rates)


def dplr_kernel(rates, p, b, c, step, n):
    """K_k = C Ā^k B̄ of A = Λ - P P*, bilinear steps: the convolution kernel of S4.

    Where n is an int, from Ā^r B̄ (r < 128) and C Ā^(128 a), each by repeated squaring
    of Ā: at n = 4096 seven times as fast as `generated_kernel`, which is taken where n
    is a tensor, in a third of the memory, and right to 1e-6 instead of 1e-5.

    Args:
        rates, p, b, c: Λ, P, B, C, pairs of (e, N), one of each conjugate pair.
        step: Δ (e, 1).
        n: the steps, an int or a scalar tensor.

    Returns:
        (e, n).  Gu et al., 2021, https://arxiv.org/abs/2111.00396
    """
    if not isinstance(n, int):
        return generated_kernel(rates, p, b, c, step, n)
    e, half = rates[0].shape
    # states as 2N real numbers; each unit vector, one step later, is a row of Ā'
    eye = ops.eye(2 * half)[:, None]
    units = [
        ops.broadcast_to(part, (2 * half, e, half))
        for part in (eye[..., :half], eye[..., half:])
    ]
    nothing, none = ops.zeros((2 * half, e)), [ops.zeros((1, e, half))] * 2
    square = _rows(dplr_step(rates, p, b, step, units, nothing))  # (e, 2N, 2N)
    right = _rows(dplr_step(rates, p, b, step, none, ops.ones((1, e))))
    for _ in range((min(n, BABY) - 1).bit_length()):
        right = ops.concatenate([right, ops.matmul(right, square)], axis=1)
        square = ops.matmul(square, square)
    square = ops.swapaxes(square, 1, 2)
    left = 2 * ops.concatenate([c[0], -c[1]], axis=-1)[:, None]
    for i in range((-(-n // right.shape[1]) - 1).bit_length()):
        square = ops.matmul(square, square) if i else square
        left = ops.concatenate([left, ops.matmul(left, square)], axis=1)
    kernel = ops.matmul(left, ops.swapaxes(right, 1, 2))  # (e, a, r)
    return ops.reshape(kernel, (e, -1))[:, :n]


def _rows(states):
    """A pair of (k, e, N) -> (e, k, 2N)."""
    return ops.transpose(ops.concatenate(states, axis=-1), (1, 0, 2))


def generated_kernel(rates, p, b, c, step, n):
    """`dplr_kernel` from its generating function, for any n; arguments as there.

    K̂(z) = Σ_k K_k z^k is, by Woodbury's identity, made of four of diagonal systems,
    D_cb - q D_cp D_pb / (1 + q D_pp) with q = (1 + z)/2.  Each is the Fourier transform
    of `power_sums`, so that no Cauchy matrix (N, n) is formed and z = -1 is a point
    like others.  On a circle of a radius r < 1 the terms after the 4n-th vanish by
    themselves: neither A^n is needed, nor does C depend on n.
    """
    logarithm, scale = bilinear_rates(rates, step)
    length = 4 * _rounded(n)
    shrink = math.log(ALIAS) / ops.cast(length, 'float32')  # log r
    conjugate = p[0], -p[1]
    outer = [
        multiply(x, y) for x, y in ((c, b), (c, p), (conjugate, b), (conjugate, p))
    ]
    weights = [ops.stack(parts) for parts in zip(*outer, strict=True)]
    weights = multiply(weights, [s[None] for s in scale])
    sums = power_sums((logarithm[0] + shrink, logarithm[1]), weights, length)
    real, imag = ops.rfft(sums)  # (4, e, 2n + 1)
    cb, cp, pb, pp = zip(
        ops.unstack(real, 4, axis=0), ops.unstack(imag, 4, axis=0), strict=True
    )
    angle = -2 * math.pi * _upto(length // 2 + 1) / ops.cast(length, 'float32')
    radius = ops.exp(shrink)
    q = (1 + radius * ops.cos(angle)) / 2, radius * ops.sin(angle) / 2
    below = multiply(q, pp)
    turned = divide(multiply(q, multiply(cp, pb)), (1 + below[0], below[1]))
    kernel = ops.irfft((cb[0] - turned[0], cb[1] - turned[1]))[:, :n]
    return kernel * ops.exp(-shrink * _upto(n))


def _upto(n):
    return ops.cast(ops.arange(n), 'float32')


def _rounded(n):
    """A length for fast transforms: the next multiple of 16."""
    return (n + 15) // 16 * 16


def fft_convolve(x, kernel, backward=None):
    """y_i = Σ_j≤i K_i-j x_j, and with a second kernel + Σ_j≥i K'_j-i x_j.

    Args:
        x: (b, n, e), float32.
        kernel, backward: (e, n), each channel its own.

    Returns:
        (b, n, e), by Fourier transforms of twice the length: nothing comes around.
    """
    n = ops.shape(x)[1]
    rest = 2 * _rounded(n) - n
    x = ops.pad(ops.transpose(x, (0, 2, 1)), [(0, 0), (0, 0), (0, rest)])
    k = ops.rfft(ops.pad(kernel, [(0, 0), (0, rest)]))
    if backward is not None:
        # the transform of a kernel read backwards is the conjugate
        real, imag = ops.rfft(ops.pad(backward, [(0, 0), (0, rest)]))
        k = k[0] + real, k[1] - imag
    y = ops.irfft(multiply(ops.rfft(x), [part[None] for part in k]))
    return ops.transpose(y[..., :n], (0, 2, 1))


def dplr_step(rates, p, b, step, state, x):
    """x_k = Ā x_k-1 + B̄ u_k of `dplr_kernel`'s system, in O(N) by Woodbury's identity.

    Args:
        rates, p, b, step: as there.
        state: x_k-1, a pair of (b, e, N).
        x: u_k (b, e).
    """
    a = rates[0] * step / 2, rates[1] * step / 2
    conjugate = p[0], -p[1]

    def along(v):  # P* v over both of each pair, (…, 1)
        return 2 * ops.sum(multiply(conjugate, v)[0], axis=-1, keepdims=True) * step / 2

    moved, held = multiply(a, state), along(state)
    right = [
        s + m - held * q + step * w * x[..., None]
        for s, m, q, w in zip(state, moved, p, b, strict=True)
    ]  # (I + ΔA/2) x + ΔB u
    below = 1 - a[0], -a[1]
    right, inverse = divide(right, below), divide(p, below)
    back = along(right) / (1 + along(inverse))
    return [r - i * back for r, i in zip(right, inverse, strict=True)]
