"""The gated attention unit: attention and feed-forward network in one layer."""

from keras import ops
from keras.layers import Dense

from keraseff.initializers import fresh
from keraseff.layers.attention.attention import Attention
from keraseff.layers.base import check_sizes
from keraseff.layers.normalization import ScaleOffset
from keraseff.layers.shapes import ROOM
from keraseff.layers.shapes import check_step
from keraseff.layers.shapes import is_empty
from keraseff.ops.activations import activation_name
from keraseff.ops.activations import get_activation


class GatedAttentionUnit(Attention):
    """(u ⊙ A v) W_o with [u, v, z] = swish(x W_i), and A of q = γ_q z, k = γ_k z.

    One head of few channels; the gate u does what the other heads would.  Two such
    units cost what attention and a feed-forward network of 4e channels cost together.

    Args:
        units: channels of the values and of the gate, 2e in the paper.
        key_size: channels of queries and keys, 128 in the paper.
        activation: of u, v and z.
        use_bias: biases in the projections, and offsets to γ_q z and γ_k z.
        normalization: how scores become A: a name, such as 'squared_relu',
            'softmax_plus' or 'softmax', or a `Mechanism` instance.
        self_attention: False takes queries, keys and values from three sequences, each
            with a projection of its own, and without γ.
        attention_scale: divide the scores by √key_size.
        attention_dropout: share of A dropped while training.
        position: a name, a `Position`, or None for no sense of order.
        causal: no query sees a later key.
        return_attention_scores: also return the scaled scores, before masks.
        mechanism_options, position_options, logn, window, sinks: as in
            `MultiHeadAttention`.

    Call arguments are those of `MultiHeadAttention`; `k` and `v` must be there where
    `self_attention` is False and only there.  Unlike bert4keras, which masks the keys
    by the queries' padding, this hides the padding of `v`.

    (b, m, e) -> (b, m, e), or with the scores (b, 1, m, n) as well.
    Hua et al., 2022, https://arxiv.org/abs/2202.10447, https://kexue.fm/archives/8934
    """

    def __init__(
        self,
        units,
        key_size,
        activation='swish',
        use_bias=True,
        normalization='squared_relu',
        self_attention=True,
        attention_scale=True,
        attention_dropout=None,
        kernel_initializer='glorot_uniform',
        position=None,
        causal=False,
        return_attention_scores=False,
        mechanism_options=None,
        position_options=None,
        logn=None,
        window=None,
        sinks=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes(units=units, key_size=key_size)
        self.units = units
        self.key_size = key_size
        self.activation = activation_name(activation)
        self.use_bias = use_bias
        self.self_attention = self_attention
        self.kernel_initializer = kernel_initializer
        self.normalization = self._assemble(
            normalization,
            position,
            1,
            causal,
            mechanism_options=mechanism_options,
            position_options=position_options,
            attention_scale=attention_scale,
            attention_dropout=attention_dropout,
            return_attention_scores=return_attention_scores,
            logn=logn,
            window=window,
            sinks=sinks,
        )
        if not self.normalization.compares:
            raise ValueError(
                f'{type(self.normalization).__name__} never compares queries with '
                "keys, which is what this unit does; use 'squared_relu', say."
            )

        mixes = self.position is not None and self.position.mixes
        if mixes and units != key_size:
            raise ValueError(
                f'{type(self.position).__name__} adds vectors of key_size={key_size} '
                f'channels to values of units={units}; make them equal, or use rotary.'
            )

    @property
    def _mechanism(self):
        return self.normalization

    def build(
        self,
        q_shape,
        k_shape=None,
        v_shape=None,
        p_shape=None,
        dense_shape=None,
        residual_shape=None,
    ):
        """Make the projections."""
        self._check_sources(k_shape, v_shape)
        self._check_inputs(q_shape, k_shape, v_shape, dense_shape, residual_shape)
        units, size = self.units, self.key_size
        if self.self_attention:
            self.i_dense = self._projection('i_dense', 2 * units + size, q_shape)
            self.q_scaleoffset = self._scale('q_scaleoffset', q_shape)
            self.k_scaleoffset = self._scale('k_scaleoffset', q_shape)
        else:
            self.uq_dense = self._projection('uq_dense', units + size, q_shape)
            self.k_dense = self._projection('k_dense', size, k_shape)
            self.v_dense = self._projection('v_dense', units, v_shape)
        mixed = (*q_shape[:-1], units)
        self.o_dense = self._projection('o_dense', q_shape[-1], mixed, None)
        m, n = q_shape[:2], (k_shape or q_shape)[:2]
        one = ((*m, 1, size), (*n, 1, size), (*n, 1, units))
        self._build_parts(*one, q_shape, p_shape)

    def compute_output_shape(
        self,
        q_shape,
        k_shape=None,
        v_shape=None,
        p_shape=None,
        dense_shape=None,
        residual_shape=None,
    ):
        """That of the output, and of the scores where they are returned."""
        self._check_sources(k_shape, v_shape)
        scores = (q_shape[0], 1, q_shape[1], (k_shape or q_shape)[1])
        return (q_shape, scores) if self.return_attention_scores else q_shape

    def _check_sources(self, k, v):
        if (k is None, v is None) != (self.self_attention, self.self_attention):
            wanted = 'no k and v' if self.self_attention else 'both k and v'
            raise ValueError(
                f'{self.name} was made with self_attention={self.self_attention}: call '
                f'it with {wanted}.'
            )

    def _projection(self, name, units, shape, activation='inner'):
        dense = Dense(
            units,
            activation=get_activation(self.activation) if activation else None,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(shape)
        return dense

    def _scale(self, name, shape):
        layer = ScaleOffset(offset=self.use_bias, dtype=self.dtype_policy, name=name)
        layer.build((*shape[:-1], self.key_size))
        return layer

    def call(
        self,
        q,
        k=None,
        v=None,
        p=None,
        dense=None,
        residual=None,
        mask=None,
        q_mask=None,
        v_mask=None,
    ):
        """Attend, gate and project."""
        self._check_sources(k, v)
        self._check_inputs(q, k, v, dense, residual)
        padding = v_mask
        if v is None:
            padding = q_mask if q_mask is not None else mask
        x = q
        if is_empty(q):
            out = self._nothing(q, ops.shape(q if k is None else k)[1], 1, self.units)
            return out if self.return_attention_scores else out[0]
        if p is None:
            p = self.make_position(q, k)
        u, q, k, v = self._project(q, k, v)
        where = self.mask(padding, dense)
        mixed, scores = self.mix(q, k, v, x, p, where, residual)
        out = self.o_dense(u * mixed[:, :, 0])
        return (out, scores) if self.return_attention_scores else out

    def start(self, batch, length):
        """The state before the first step: tensors for `length` steps at most."""
        self._check_steps()
        return self._start(batch, length, 1, 1, self.units)

    def _check_steps(self):
        if not self.self_attention:
            raise ValueError(
                f'{self.name} takes its keys from another sequence; only '
                'self-attention goes step by step.'
            )

    def step(self, x, t, state, p=None, residual=None):
        """Step number t alone; arguments as in `MultiHeadAttention.step`."""
        check_step(self, x, t, state)
        if is_empty(x):
            out = self._nothing(x, state[ROOM].shape[1], 1, self.units)
            return *out, state
        if p is None:
            p = self.position_at(x, t, state)
        u, q, k, v = self._project(x, None, None)
        mixed, scores, state = self.mix_step(q, k, v, x, t, state, p, residual)
        out = self.o_dense(u * mixed[:, :, 0])
        return (out, scores, state) if self.return_attention_scores else (out, state)

    def _project(self, q, k, v):
        """The gate (b, m, units), and one head each of queries, keys and values."""
        units = self.units
        if self.self_attention:
            x = self.i_dense(q)
            u, v, z = x[..., :units], x[..., units : 2 * units], x[..., 2 * units :]
            q, k = self.q_scaleoffset(z), self.k_scaleoffset(z)
        else:
            x = self.uq_dense(q)
            u, q = x[..., :units], x[..., units:]
            k, v = self.k_dense(k), self.v_dense(v)
        return u, q[:, :, None], k[:, :, None], v[:, :, None]
