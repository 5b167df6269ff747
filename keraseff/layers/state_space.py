"""State spaces in the place of attention: S4 and S4D."""

import math

import numpy as np
from keras import initializers
from keras import ops
from keras.layers import Dense

from keraseff.initializers import fresh
from keraseff.layers.base import check_sizes
from keraseff.layers.base import given
from keraseff.layers.mixer import Mixer
from keraseff.layers.shapes import check_built
from keraseff.layers.shapes import check_padding
from keraseff.layers.shapes import check_sequence
from keraseff.layers.shapes import check_step
from keraseff.layers.shapes import is_empty
from keraseff.layers.shapes import with_room
from keraseff.ops import hippo
from keraseff.ops import state_space
from keraseff.ops.activations import activation_name
from keraseff.ops.activations import get_activation


class StateSpace(Mixer):
    """What S4, S4D and LRU share: SSM(x) + D x, an activation, a gated Dense.

    A subclass writes `_build_states(e)`, `_mix(x)` for all steps, and `_state_shape()`
    and `_advance(x, state)` for one.  States and kernels are float32 whatever the dtype
    policy; every weight but those of the mixing Dense wants a small learning rate
    (1e-3) and no weight decay.

    Args:
        state_size: how many states.
        causal: False adds the same of the reversed sequence: the same rates, with an
            output matrix of its own.
        activation: before the channels are mixed.
        gated: mix by W y ⊙ σ(W' y), else by W y.
        use_bias: in the mixing.
    """

    def __init__(
        self,
        state_size,
        causal=True,
        activation='gelu',
        gated=True,
        use_bias=True,
        kernel_initializer='glorot_uniform',
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes(**given(state_size=state_size))
        self.state_size = state_size
        self.causal = causal
        self.activation = activation_name(activation)
        self.gated = gated
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer

    @property
    def directions(self):
        """1, or 2 where the sequence is read from both ends."""
        return 1 if self.causal else 2

    def build(self, input_shape):
        """Make the state space, the skip and the mixing."""
        check_sequence(self, input_shape)
        e = input_shape[-1]
        self._build_states(e)
        self.skip = self._weight('skip', (e,), initializers.RandomNormal(stddev=1.0))
        self.mixing = Dense(
            2 * e if self.gated else e,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name='mixing',
        )
        self.mixing.build(input_shape)

    def _weight(self, name, shape, initializer):
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            dtype='float32',
            autocast=False,
            name=name,
        )

    def call(self, x, mask=None):
        """All steps at once."""
        check_sequence(self, x.shape, channels=self.skip.shape[0])
        check_padding(mask, x.shape, f'{self.name}: a mask')
        x = ops.cast(x, 'float32')
        if mask is not None:
            x = x * ops.cast(mask, 'float32')[..., None]
        return self._finish(x if is_empty(x) else self._mix(x), x)

    def _finish(self, y, x):
        y = get_activation(self.activation)(y + x * ops.convert_to_tensor(self.skip))
        y = self.mixing(ops.cast(y, self.compute_dtype))
        if not self.gated:
            return y
        e = y.shape[-1] // 2
        return y[..., :e] * ops.sigmoid(y[..., e:])

    def compute_output_shape(self, input_shape):
        """The shape of x."""
        return input_shape

    def start(self, batch, length):
        """No state yet: zeros, real and imaginary."""
        if not self.causal:
            raise ValueError(
                f'{self.name} was made with causal=False and reads the sequence from '
                'both ends; only a causal one goes step by step.'
            )
        check_built(self)
        shape = (batch, *self._state_shape())
        parts = {name: ops.zeros(shape, 'float32') for name in ('real', 'imag')}
        return with_room(parts, batch, length)

    def step(self, x, t, state):
        """One step; its number does not matter."""
        check_step(self, x, t, state)
        x = ops.cast(x, 'float32')
        y, (real, imag) = self._advance(x[:, 0], (state['real'], state['imag']))
        return self._finish(y[:, None], x), {**state, 'real': real, 'imag': imag}


def _pair(weight):
    weight = ops.convert_to_tensor(weight)
    return weight[0], weight[1]


def _constant(value):
    """An initializer: `value` (N,) or a complex one as two, for every channel."""
    parts = np.stack([value.real, value.imag]) if np.iscomplexobj(value) else value

    def initializer(shape, dtype=None):
        wide = np.expand_dims(parts, -2)
        return ops.convert_to_tensor(np.broadcast_to(wide, shape), dtype)

    return initializer


class _PerChannel(StateSpace):
    """S4 and S4D: each channel has a state space of its own, hence a kernel."""

    def __init__(
        self, state_size=64, step_min=1e-3, step_max=1e-1, causal=True, **kwargs
    ):
        super().__init__(state_size, causal, **kwargs)
        self.step_min = step_min
        self.step_max = step_max
        if state_size is None or state_size % 2:
            raise ValueError(
                f'state_size={state_size}: the states come in conjugate pairs; use an '
                'even number.'
            )
        if not 0 < step_min <= step_max:
            raise ValueError(
                f'step_min={step_min}, step_max={step_max}: 0 < step_min <= step_max.'
            )

    def _build_states(self, e):
        half = e, self.state_size // 2
        rates = self._initial_rates()
        steps = math.log(self.step_min), math.log(self.step_max)
        self.log_step = self._weight(
            'log_step', (e, 1), initializers.RandomUniform(*steps)
        )
        self.log_decay = self._weight('log_decay', half, _constant(np.log(-rates.real)))
        self.frequency = self._weight('frequency', half, _constant(rates.imag))
        self.c = self._weight(
            'c', (self.directions, 2, *half), initializers.RandomNormal(stddev=0.5**0.5)
        )

    def _rates(self):
        """λ (e, N/2) and Δ (e, 1)."""
        decay = ops.exp(ops.convert_to_tensor(self.log_decay))
        rates = -decay, ops.convert_to_tensor(self.frequency)
        return rates, ops.exp(ops.convert_to_tensor(self.log_step))

    def _state_shape(self):
        return tuple(self.log_decay.shape)

    def _mix(self, x):
        return state_space.fft_convolve(x, *self._kernels(ops.shape(x)[1]))

    def _read(self, state):
        """y = 2 Re C x: (b, e, N/2) -> (b, e)."""
        real, _ = state_space.multiply(_pair(self.c[0]), state)
        return 2 * ops.sum(real, axis=-1)


class S4(_PerChannel):
    """y = SSM(x): x' = A x + B u, y = C x, A beginning as HiPPO-LegS, all learned.

    A = Λ - P P* (diagonal plus low rank), for each channel its own, in bilinear steps
    of Δ.  All steps at once are a convolution, see `ops.dplr_kernel`; one step is the
    recurrence itself.

    Args:
        state_size: N, even; N/2 of the conjugate pairs are kept.
        step_min, step_max: between which log Δ begins, uniform.
        causal, activation, gated, use_bias: see `StateSpace`.

    (b, n, e) -> (b, n, e).  Padded steps count as zeros.
    Gu et al., 2021, https://arxiv.org/abs/2111.00396, https://kexue.fm/archives/10162
    """

    def _initial_rates(self):
        return hippo.dplr(self.state_size)[0][: self.state_size // 2]

    def _build_states(self, e):
        super()._build_states(e)
        half = self.state_size // 2
        _, p, b, _ = hippo.dplr(self.state_size)
        self.p = self._weight('p', (2, e, half), _constant(p[:half]))
        self.b = self._weight('b', (2, e, half), _constant(b[:half]))

    def _kernels(self, n):
        rates, step = self._rates()
        p, b = _pair(self.p), _pair(self.b)
        c = ops.convert_to_tensor(self.c)
        return [
            state_space.dplr_kernel(rates, p, b, (c[i, 0], c[i, 1]), step, n)
            for i in range(self.directions)
        ]

    def _advance(self, x, state):
        rates, step = self._rates()
        state = state_space.dplr_step(
            rates, _pair(self.p), _pair(self.b), step, state, x
        )
        return self._read(state), state


class S4D(_PerChannel):
    """S4 with a diagonal A and B = 1: y_k = 2 Re Σ_j c_j x_j, exact for steps of hold.

    Args:
        state_size, step_min, step_max: as in `S4`.
        init: of A: 'legs' the diagonal of HiPPO-LegS, 'lin' -½ + iπn, or 'inv'.
        causal, activation, gated, use_bias: see `StateSpace`.

    (b, n, e) -> (b, n, e).  Padded steps count as zeros.
    Gu et al., 2022, https://arxiv.org/abs/2206.11893
    """

    def __init__(self, state_size=64, init='legs', **kwargs):
        super().__init__(state_size, **kwargs)
        self.init = init
        if init not in hippo.DIAGONALS:
            known = ', '.join(hippo.DIAGONALS)
            raise ValueError(f'init={init!r} is unknown; use one of {known}.')

    def _initial_rates(self):
        return hippo.diagonal_rates(self.init, self.state_size)

    def _kernels(self, n):
        rates, step = self._rates()
        logarithm, scale = state_space.zoh_rates(rates, step)
        c = ops.convert_to_tensor(self.c)
        weights = state_space.multiply((c[:, 0], c[:, 1]), [s[None] for s in scale])
        kernels = state_space.power_sums(logarithm, weights, n)
        return [kernels[i] for i in range(self.directions)]

    def _advance(self, x, state):
        logarithm, scale = state_space.zoh_rates(*self._rates())
        moved = state_space.multiply(state_space.exponential(logarithm), state)
        x = x[..., None]
        state = moved[0] + scale[0] * x, moved[1] + scale[1] * x
        return self._read(state), state
