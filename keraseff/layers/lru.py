"""The linear recurrent unit in the place of attention."""

import math

from keras import initializers
from keras import ops

from keraseff.layers.base import check_positive
from keraseff.layers.state_space import StateSpace
from keraseff.ops import state_space
from keraseff.ops.linear_recurrence import diagonal_recurrence


class LRU(StateSpace):
    """y_k = Re C x_k with x_k = λ x_k-1 + γ B u_k, λ = exp(-e^ν + i e^θ) diagonal.

    Args:
        state_size: N complex states, shared by all channels; e by default.
        r_min, r_max: |λ| begins uniform on the ring between.
        max_phase: arg λ begins uniform in [0, max_phase].
        causal, activation, gated, use_bias: see `StateSpace`.

    γ begins as √(1 - |λ|²), so that states of white noise have variance 1.
    (b, n, e) -> (b, n, e).  Padded steps count as zeros.
    Orvieto et al., 2023, https://arxiv.org/abs/2303.06349
    """

    def __init__(
        self, state_size=None, r_min=0.9, r_max=0.999, max_phase=2 * math.pi, **kwargs
    ):
        super().__init__(state_size, **kwargs)
        self.r_min = r_min
        self.r_max = r_max
        self.max_phase = max_phase
        check_positive(max_phase=max_phase)
        if not 0 <= r_min <= r_max < 1:
            raise ValueError(f'r_min={r_min}, r_max={r_max}: 0 <= r_min <= r_max < 1.')

    def _build_states(self, e):
        size = self.state_size or e
        # unlike numpy's, a Keras initializer gives the same numbers each time
        square = initializers.RandomUniform(self.r_min**2, self.r_max**2)
        phase = initializers.RandomUniform(1e-4, 1.0)

        def nu(shape, dtype=None):
            return ops.log(-0.5 * ops.log(ops.maximum(square(shape, dtype), 1e-8)))

        def theta(shape, dtype=None):
            return ops.log(self.max_phase * phase(shape, dtype))

        def gamma(shape, dtype=None):
            return ops.log(1 - square(shape, dtype)) / 2

        self.nu = self._weight('nu', (size,), nu)
        self.theta = self._weight('theta', (size,), theta)
        self.log_gamma = self._weight('log_gamma', (size,), gamma)
        b = initializers.RandomNormal(stddev=(2 * e) ** -0.5)
        c = initializers.RandomNormal(stddev=size**-0.5)
        self.b = self._weight('b', (e, 2 * size), b)
        self.c = self._weight('c', (self.directions * 2 * size, e), c)

    def _logarithm(self):
        nu, theta = (ops.convert_to_tensor(w) for w in (self.nu, self.theta))
        return -ops.exp(nu), ops.exp(theta)

    def _enter(self, x):
        x = ops.matmul(x, ops.convert_to_tensor(self.b))
        size = x.shape[-1] // 2
        gamma = ops.exp(ops.convert_to_tensor(self.log_gamma))
        return x[..., :size] * gamma, x[..., size:] * gamma

    def _leave(self, *states):
        # Re C x of a pair (C real, -C imaginary) stored as one matrix
        return ops.matmul(
            ops.concatenate(states, axis=-1), ops.convert_to_tensor(self.c)
        )

    def _mix(self, x):
        entered = self._enter(x)
        states = diagonal_recurrence(self._logarithm(), entered)
        if not self.causal:
            entered = [ops.flip(part, axis=1) for part in entered]
            back = diagonal_recurrence(self._logarithm(), entered)
            states = *states, *(ops.flip(part, axis=1) for part in back)
        return self._leave(*states)

    def _state_shape(self):
        return tuple(self.nu.shape)

    def _advance(self, x, state):
        moved = state_space.multiply(state_space.exponential(self._logarithm()), state)
        state = [m + u for m, u in zip(moved, self._enter(x), strict=True)]
        return self._leave(*state), state
