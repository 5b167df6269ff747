"""Products and quotients by adding and subtracting the words of floats.

A positive float's bits, read as an integer, are about its logarithm: 2^n (1 + f) is
stored as (n + 127 + f) 2^23, and log2(1 + f) ≈ f.  So the sum of two words, less that
of 1, is about the word of the product.  Mitchell, 1962; for training Mogami, 2020,
https://arxiv.org/abs/2012.03458; https://kexue.fm/archives/7991

A simulation: it shows what such arithmetic computes, not how fast it could.
"""

from keras import backend
from keras import ops

ONE = 0x3F800000
INFINITY = 0x7F800000
SMALLEST = 0x00800000  # the least normal number; below it counts as 0
UNSIGNED = 0x7FFFFFFF

# Added to the words so that means over uniform mantissas are exact: 0.0566 and -0.0580
# of the step from 1 to 2, in place of 3.8 % too low and 4.1 % too high.
PRODUCT_BIAS = round(0.056623 * (1 << 23))
QUOTIENT_BIAS = round(-0.057995 * (1 << 23))

BACKWARDS = 'exact', 'mitchell'


def mitchell_multiply(x, y, correct=False, backward='exact'):
    """x y from the sum of their words: between 8/9 of the product and all of it.

    Args:
        x, y: floats of any shapes that broadcast.
        correct: add a constant to the words, which leaves an error of either sign (0.92
            to 1.06) that is 0 in the mean; powers of 2 are no longer exact then.
        backward: 'exact' for the gradient of the true product, 'mitchell' for one of
            such approximations.

    Raises:
        ValueError: `backward` is another word.

    Exact where one factor is a power of 2.  Zeros and denormals count as 0; overflow is
    infinite; infinities and NaN follow IEEE 754.  float16 and bfloat16 are computed as
    float32, whose words contain theirs.
    """
    _check(backward)

    def forward(x, y):
        return _product(_left(x, correct), _right(y))

    def slopes(x, y, g):
        if backward == 'exact':
            return g * y, g * x
        g = _left(g, correct)
        return _product(g, _right(y)), _product(g, _right(x))

    x, y, dtype = _alike(x, y)
    return ops.cast(_with_gradient(forward, slopes, x, y), dtype)


def mitchell_divide(x, y, correct=False, backward='exact'):
    """x / y from the difference of their words: the quotient to 9/8 of it.

    Args:
        x, y: floats of any shapes that broadcast.
        correct: add a constant to the words, which leaves an error of either sign (0.95
            to 1.08) that is 0 in the mean.
        backward: 'exact' for the gradient of the true quotient, 'mitchell' for one of
            such approximations.

    Raises:
        ValueError: `backward` is another word.

    Zeros, denormals, overflow, infinities and NaN as in `mitchell_multiply`.
    """
    _check(backward)

    def slopes(x, y, g):
        if backward == 'exact':
            return g / y, -g * x / ops.square(y)
        share = _quotient(g, y, correct)
        ratio = _quotient(x, y, correct)
        return share, -_product(_left(share, correct), _right(ratio))

    x, y, dtype = _alike(x, y)
    return ops.cast(
        _with_gradient(lambda x, y: _quotient(x, y, correct), slopes, x, y), dtype
    )


def mitchell_matmul(x, y, correct=False, backward='exact', block=16):
    """x y with every product Mitchell's, summed in float32 as usual.

    Args:
        x: (…, m, k).
        y: (…, k, n) of the same leading axes, or (k, n).
        correct: as in `mitchell_multiply`.
        backward: as there; with 'mitchell' both matrix products of the gradient are
            Mitchell's.
        block: how many of the k products are held at once, so memory is that many
            times the result's, not k times.

    -> (…, m, n).

    Raises:
        ValueError: the shapes do not fit, or `backward` is another word.
    """
    _check(backward)
    if len(y.shape) not in (2, len(x.shape)) or len(x.shape) < 2:
        raise ValueError(
            f'x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}: use a y of '
            'two axes, or of as many as x has.'
        )
    if None not in (x.shape[-1], y.shape[-2]) and x.shape[-1] != y.shape[-2]:
        raise ValueError(
            f'x has {x.shape[-1]} columns and y {y.shape[-2]} rows: make them equal.'
        )
    dtype = backend.result_type(x.dtype, y.dtype)
    x, y = ops.cast(x, 'float32'), ops.cast(y, 'float32')
    shape = ops.shape(x)
    if len(y.shape) == 2:
        x = ops.reshape(x, (-1, x.shape[-1] or shape[-1]))

    def multiply(x, y):
        return _matmul(x, y, correct, block)

    def slopes(x, y, g):
        matmul = multiply if backward == 'mitchell' else ops.matmul
        return matmul(g, ops.swapaxes(y, -1, -2)), matmul(ops.swapaxes(x, -1, -2), g)

    out = ops.cast(_with_gradient(multiply, slopes, x, y), dtype)
    if len(y.shape) == 2:
        out = ops.reshape(out, shape[:-1] + (y.shape[-1] or ops.shape(y)[-1],))
    return out


def _check(backward):
    if backward not in BACKWARDS:
        raise ValueError(f"backward={backward!r}: use 'exact' or 'mitchell'.")


def _alike(x, y):
    """Both in float32 and of one shape, and the dtype of the result."""
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    dtype = backend.result_type(x.dtype, y.dtype, float)
    x, y = ops.cast(x, 'float32'), ops.cast(y, 'float32')
    shape = ops.shape(x + y)
    return ops.broadcast_to(x, shape), ops.broadcast_to(y, shape), dtype


def _with_gradient(forward, slopes, x, y):
    """forward(x, y), with slopes(x, y, g) for its gradient."""

    @ops.custom_gradient
    def function(x, y):
        def gradient(*args, upstream=None):
            return slopes(x, y, args[-1] if upstream is None else upstream)

        return forward(x, y), gradient

    return function(x, y)


def _parts(x):
    """The word of |x|, and a sign that is 0 for what counts as 0, ±∞ or NaN for such.

    The signs multiply as the numbers should, so only numbers of the usual kind need
    their words: ±1 times ±1 stands for an exclusive or of two bits.
    """
    word = ops.bitwise_and(_viewed(x, 'int32'), UNSIGNED)
    sign = ops.where(word >= INFINITY, x, ops.sign(x))
    return word, ops.where(word < SMALLEST, x * 0, sign)


def _left(x, correct):
    word, sign = _parts(x)
    return word - ONE + (PRODUCT_BIAS if correct else 0), sign


def _right(x):
    return _parts(x)


def _float(word):
    return _viewed(ops.where(word < SMALLEST, 0, word), 'float32')


def _viewed(x, dtype):
    # With an axis of 1 last: on TensorFlow ops.view wants to know the last axis' size.
    return ops.view(x[..., None], dtype=dtype)[..., 0]


def _product(left, right):
    (a, sign), (b, other) = left, right
    b = ops.minimum(b, INFINITY - ops.maximum(a, 0))  # else their sum is out of int32
    return sign * other * _float(a + b)


def _quotient(x, y, correct):
    (a, sign), (b, other) = _parts(x), _parts(y)
    bias = ONE + (QUOTIENT_BIAS if correct else 0)
    word = ops.minimum(a - b, INFINITY - bias) + bias
    return sign / other * _float(word)


def _matmul(x, y, correct, block):
    left, right = _left(x, correct), _right(y)
    k = x.shape[-1] or y.shape[-2] or ops.shape(x)[-1]
    if isinstance(k, int) and k <= block:
        return _summed(left, right)
    count = -(-k // block)
    padding = count * block - k
    left = [_blocks(a, -1, count, block, padding) for a in left]
    right = [_blocks(b, -2, count, block, padding) for b in right]

    def add(i, total):
        a, s, b, t = (ops.take(part, i, axis=0) for part in (*left, *right))
        return total + _summed((a, s), (b, t))

    shape = ops.shape(x)[:-1] + (ops.shape(y)[-1],)
    return ops.fori_loop(0, count, add, ops.zeros(shape, 'float32'))


def _summed(left, right):
    """(…, m, k) times (…, k, n) with all products at once."""
    left = [part[..., :, :, None] for part in left]
    right = [part[..., None, :, :] for part in right]
    return ops.sum(_product(left, right), axis=-2)


def _blocks(x, axis, count, size, padding):
    """The axis cut into blocks, zeros after its end, and these put first."""
    rank = len(x.shape)
    x = ops.moveaxis(x, axis, 0)
    x = ops.pad(x, [(0, padding)] + [(0, 0)] * (rank - 1))
    x = ops.reshape(x, (count, size) + tuple(ops.shape(x)[1:]))
    return ops.moveaxis(x, 1, axis if axis == -1 else rank - 1)
