"""HiPPO's memory: the past of a signal as coefficients of polynomials."""

import numpy as np
from keras import ops

from keraseff.backends import compiles_scan
from keraseff.layers.base import Layer
from keraseff.layers.base import check_positive
from keraseff.layers.base import check_sizes
from keraseff.layers.base import given
from keraseff.layers.shapes import check_padding
from keraseff.layers.shapes import check_sequence
from keraseff.layers.shapes import is_empty
from keraseff.ops import hippo


class HiPPOMemory(Layer):
    """The past of each channel as the coefficients of orthogonal polynomials.

    x_k = x(t) of x' = A x + B u ('legt', 'lmu') or of x' = (A x + B u) / t ('legs', in
    bilinear steps about t = k + ½, from x = (u_0, 0, …) at t = 1), step after step.
    Nothing is learned.

    Args:
        size: N, coefficients.
        measure: 'legs' remembers all that was, whatever its time scale; 'legt' and
            'lmu' the last `window` steps.
        window: in steps; not of 'legs'.
        method: of 'legt' and 'lmu', see `ops.discretize`.

    (b, n, e) -> (b, n, e, N), float32.  Masked steps leave the memory as it is.
    Gu et al., 2020, https://arxiv.org/abs/2008.07669, https://kexue.fm/archives/10114
    """

    def __init__(self, size, measure='legs', window=None, method='bilinear', **kwargs):
        super().__init__(autocast=False, **kwargs)
        check_sizes(size=size)
        check_positive(**given(window=window))
        self.size = size
        self.measure = measure
        self.window = window
        self.method = method
        if (window is None) != (measure == 'legs'):
            raise ValueError(
                f'measure={measure!r} with window={window}: the windowed measures want '
                "a window, in steps, and 'legs' has none."
            )
        a, b = hippo.hippo_matrices(measure, size, window or 1.0)
        self._matrices = a, b
        if window is not None:
            self._matrices = hippo.discretize(a, b, 1.0, method)
        # Keras' 'auto' would choose XLA on a GPU, where the loop may not compile.
        self.supports_jit = compiles_scan()

    def call(self, x, mask=None):
        """The memory after every step."""
        check_sequence(self, x.shape)
        check_padding(mask, x.shape, f'{self.name}: a mask')
        x = ops.cast(x, 'float32')
        if is_empty(x):
            return ops.zeros((*ops.shape(x), self.size))
        real = ops.ones_like(x[..., :1])
        if mask is not None:
            real = ops.cast(mask, 'float32')[..., None]
        seen = ops.cumsum(real, axis=1) - real  # real steps before this one
        # one tensor, as Keras' scan on TensorFlow asks for a static length of several
        packed = ops.concatenate([x, real, seen], axis=-1)
        e = x.shape[-1]

        def advance(state, now):
            u, real, seen = now[:, :e], now[:, e : e + 1], now[:, e + 1 :]
            new = self._advance(u, seen, state)
            state = ops.where(real[..., None] > 0, new, state)
            return state, state

        state = self.start(ops.shape(x)[0], None, e)['memory']
        _, found = ops.scan(advance, state, ops.transpose(packed, (1, 0, 2)))
        return ops.transpose(found, (1, 0, 2, 3))

    def compute_output_shape(self, input_shape):
        """(b, n, e) -> (b, n, e, N)."""
        return (*input_shape, self.size)

    def compute_mask(self, x, mask=None):
        """The mask of x."""
        return mask

    def start(self, batch, length, channels):
        """The empty memory of so many sequences and channels."""
        return {'memory': ops.zeros((batch, channels, self.size))}

    def step(self, x, t, state):
        """The memory (b, 1, e, N) after step t, from x (b, 1, e) of it alone."""
        x = ops.cast(x, 'float32')[:, 0]
        t = ops.ones_like(x[:, :1]) * ops.cast(t, 'float32')
        memory = self._advance(x, t, state['memory'])
        return memory[:, None], {'memory': memory}

    def _advance(self, u, seen, state):
        """u (b, e), the steps seen before (b, 1), the memory (b, e, N)."""
        a, b = (ops.convert_to_tensor(m.astype('float32')) for m in self._matrices)
        u = u[..., None]
        if self.window is not None:
            return ops.matmul(state, ops.transpose(a)) + u * b
        first = ops.convert_to_tensor(np.eye(1, self.size, dtype='float32')[0])
        step = (1 / (2 * ops.maximum(seen, 1) + 1))[..., None]  # half of Δ/t
        right = state + step * (ops.matmul(state, ops.transpose(a)) + 2 * u * b)
        left = ops.eye(self.size) - step * a  # (b, N, N), lower triangular
        new = ops.solve_triangular(left, ops.swapaxes(right, 1, 2), lower=True)
        new = ops.swapaxes(new, 1, 2)
        return ops.where(seen[..., None] > 0, new, u * first)
