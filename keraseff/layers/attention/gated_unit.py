"""The gated attention unit: attention and feed-forward network in one layer."""

from keras import ops
from keras.layers import Dense

from keraseff.initializers import fresh
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.multi_head import get_mechanism
from keraseff.layers.base import Layer
from keraseff.layers.normalization import ScaleOffset
from keraseff.layers.position import get_position
from keraseff.ops.activations import activation_name
from keraseff.ops.activations import get_activation


class GatedAttentionUnit(Layer):
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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.key_size = key_size
        self.activation = activation_name(activation)
        self.use_bias = use_bias
        self.self_attention = self_attention
        self.attention_scale = attention_scale
        self.attention_dropout = attention_dropout or 0.0
        self.normalization = get_mechanism(
            normalization, self.attention_dropout, self.dtype_policy
        )
        self.kernel_initializer = kernel_initializer
        self.position = get_position(position, key_size)
        self.causal = causal
        self.return_attention_scores = return_attention_scores
        if not (self.normalization.forms_scores and self.normalization.compares):
            raise ValueError(
                f'{type(self.normalization).__name__} never forms the score matrix of '
                "queries and keys; use a mechanism that does, such as 'squared_relu'."
            )

    def build(self, q_shape, k_shape=None, v_shape=None, p_shape=None):
        """Make the projections."""
        self._check_sources(k_shape, v_shape)
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
        if self.position is not None and p_shape is None and not self.position.built:
            self.position.build(q_shape)

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
        padding = v_mask
        if v is None:
            padding = q_mask if q_mask is not None else mask
        if p is None and self.position is not None:
            p = self.position(q)
        u, q, k, v = self._project(q, k, v)
        scores = self._scores(q, k, p, residual)
        weights = self.normalization.weigh(scores, Mask(padding, self.causal, dense))
        mixed = ops.einsum('bhmn,bnhd->bmhd', weights, v[:, :, None])
        if self.position is not None:
            mixed = self.position.mix(mixed, weights, p)
        out = self.o_dense(u * mixed[:, :, 0])
        return (out, scores) if self.return_attention_scores else out

    def _project(self, q, k, v):
        units = self.units
        if self.self_attention:
            x = self.i_dense(q)
            u, v, z = x[..., :units], x[..., units : 2 * units], x[..., 2 * units :]
            return u, self.q_scaleoffset(z), self.k_scaleoffset(z), v
        x = self.uq_dense(q)
        return x[..., :units], x[..., units:], self.k_dense(k), self.v_dense(v)

    def _scores(self, q, k, p, residual):
        q, k = q[:, :, None], k[:, :, None]  # (b, m, 1, d): a single head
        if self.position is not None:
            q, k = self.position.rotate(q, k, p)
        if self.attention_scale:
            q = q / self.key_size**0.5
        scores = self.normalization.score(q, k)  # (b, 1, m, n)
        if self.position is not None:
            scores = self.position.bias(scores, q, p)
        return scores if residual is None else scores + residual
