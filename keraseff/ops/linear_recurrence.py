"""x_k = λ x_k-1 + u_k with a complex λ for each channel, without a loop over steps."""

from keras import ops

from keraseff.ops.state_space import exponential
from keraseff.ops.state_space import multiply
from keraseff.ops.state_space import phasors
from keraseff.ops.state_space import powers

CHUNK = 32
LEVELS = 2  # of chunks of chunks; above them the recurrence is one matrix


def diagonal_recurrence(logarithm, inputs, levels=LEVELS):
    """All states x_k = Σ_j≤k λ^(k-j) u_j.

    Within chunks of 32 steps this is a product with a triangular matrix of powers; the
    chunks' last states follow the same recurrence with λ^32, solved in the same way.
    Matrix products beat `ops.associative_scan` (which TensorFlow refuses for unknown
    lengths) in time and, tenfold, in compilation; memory grows linearly.

    Args:
        logarithm: log λ, a pair of (d,) with negative real parts.
        inputs: u, a pair of (b, n, d), float32.

    Returns:
        x, a pair of (b, n, d).
    """
    b, n, d = _sizes(inputs[0])
    whole = levels == 0 or (isinstance(n, int) and n <= 2 * CHUNK)
    size = n if whole else CHUNK
    chunks = 1 if whole else (n + CHUNK - 1) // CHUNK
    rest = chunks * size - n

    def lay(part):  # (b, n, d) -> (d, k, b * chunks)
        part = ops.reshape(ops.pad(part, [(0, 0), (0, rest), (0, 0)]), (-1, size, d))
        return ops.transpose(part, (2, 1, 0))

    found = _within(logarithm, [lay(part) for part in inputs], size)
    if not whole:
        last = [ops.reshape(f[:, -1], (d, b, chunks)) for f in found]
        last = [ops.transpose(part, (1, 2, 0)) for part in last]
        table, longer = powers(logarithm, size)
        before = diagonal_recurrence(longer, last, levels - 1)
        before = [ops.pad(p[:, :-1], [(0, 0), (1, 0), (0, 0)]) for p in before]
        before = [ops.transpose(ops.reshape(p, (-1, 1, d)), (2, 1, 0)) for p in before]
        table = multiply(table, exponential(logarithm))  # λ^1 … λ^32
        table = [ops.transpose(part)[..., None] for part in table]
        found = [f + c for f, c in zip(found, multiply(table, before), strict=True)]
    found = [ops.reshape(ops.transpose(f, (2, 1, 0)), (b, -1, d)) for f in found]
    return found[0][:, :n], found[1][:, :n]


def _sizes(x):
    b, n, _ = ops.shape(x)
    return b, n, x.shape[-1]


def _within(logarithm, inputs, size):
    """The recurrence within chunks: a pair of (d, k, m) -> the same."""
    steps = ops.cast(ops.arange(size), 'float32')
    distance = steps[:, None] - steps
    seen = ops.cast(distance >= 0, 'float32')
    distance = ops.maximum(distance, 0)
    decay = ops.exp(logarithm[0][:, None, None] * distance) * seen  # (d, k, k)
    real, imag = phasors(logarithm[1][:, None], size)  # (d, k, 1)
    real, imag = [ops.reshape(p, (-1, size, 1)) for p in (real, imag)]
    real, imag = multiply(
        (real, imag), [ops.swapaxes(p, 1, 2) for p in (real, -imag)]
    )  # λ^i / λ^j
    real, imag = real * decay, imag * decay
    upper = ops.concatenate([real, -imag], axis=2)
    both = ops.concatenate([upper, ops.concatenate([imag, real], axis=2)], axis=1)
    found = ops.matmul(both, ops.concatenate(inputs, axis=1))
    return [found[:, :size], found[:, size:]]
