"""Multi-head attention: projections and heads around a mechanism and a position."""

from keras import ops
from keras.layers import Dense

from keraseff.initializers import fresh
from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.normalizers import NORMALIZERS
from keraseff.layers.attention.softmax import Softmax
from keraseff.layers.base import Layer
from keraseff.layers.normalization import LayerNormalization
from keraseff.layers.position import get_position


def get_mechanism(mechanism, dropout=0.0, dtype=None):
    """The mechanism a name stands for; an instance is returned as it is.

    Raises:
        ValueError: nobody bears that name.
    """
    if not isinstance(mechanism, str):
        return mechanism
    if mechanism not in MECHANISMS:
        known = ', '.join(sorted(MECHANISMS))
        raise ValueError(f'mechanism={mechanism!r} is unknown; there are: {known}.')
    return MECHANISMS[mechanism](dropout=dropout, dtype=dtype, name='mechanism')


MECHANISMS = {'softmax': Softmax, **NORMALIZERS}


class MultiHeadAttention(Layer):
    """softmax(q kᵀ / √d) v in several heads, any other mechanism in its place.

    Args:
        heads: number of heads.
        head_size: channels of each head's values.
        out_dim: channels of the output; heads × head_size by default.
        key_size: channels of each head's queries and keys; head_size by default.
        use_bias: biases in the projections.
        attention_scale: divide the scores by √key_size.
        attention_dropout: share of the weights dropped while training.
        mechanism: a name or a `Mechanism`.
        position: a name, a `Position`, or None for no sense of order.
        causal: no query sees a later key.
        return_attention_scores: also return the scaled scores, before masks.
        kv_heads: number of heads of keys and values, each serving heads / kv_heads
            queries (grouped-query attention); heads by default.
        out_bias: a bias in the output projection; as use_bias by default.
        qk_norm: normalise each head's queries and keys by their root mean square.
        qk_norm_epsilon: its ε.

    Call arguments: `q` (b, m, e); `k`, `v` (b, n, e), by default `q`; `p`, what the
    position layer made of the sequence, by default made here; `dense` (b or 1, m, n),
    true where a query may see a key; `residual` (b, h, m, n), scores of the layer below
    to be added (RealFormer).

    -> (b, m, out_dim), or with the scores (b, h, m, n) as well.
    https://arxiv.org/abs/1706.03762, RealFormer https://arxiv.org/abs/2012.11747,
    grouped queries https://arxiv.org/abs/2305.13245
    """

    def __init__(
        self,
        heads,
        head_size,
        out_dim=None,
        key_size=None,
        use_bias=True,
        attention_scale=True,
        attention_dropout=0.0,
        mechanism='softmax',
        position=None,
        causal=False,
        return_attention_scores=False,
        kernel_initializer='glorot_uniform',
        kv_heads=None,
        out_bias=None,
        qk_norm=False,
        qk_norm_epsilon=1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.heads = heads
        self.head_size = head_size
        self.out_dim = out_dim or heads * head_size
        self.key_size = key_size or head_size
        self.kv_heads = kv_heads or heads
        self.use_bias = use_bias
        self.out_bias = use_bias if out_bias is None else out_bias
        self.qk_norm = qk_norm
        self.qk_norm_epsilon = qk_norm_epsilon
        self.attention_scale = attention_scale
        self.attention_dropout = attention_dropout or 0.0
        self.mechanism = get_mechanism(
            mechanism, self.attention_dropout, self.dtype_policy
        )
        self.position = get_position(position, self.key_size, heads)
        self.causal = causal
        self.return_attention_scores = return_attention_scores
        self.kernel_initializer = kernel_initializer
        self._check_parts()

    def _check_parts(self):
        if self.heads % self.kv_heads:
            raise ValueError(
                f'kv_heads={self.kv_heads} does not divide heads={self.heads}: each '
                'head of keys and values serves as many heads of queries.'
            )
        if self.mechanism.forms_scores:
            return
        name = type(self.mechanism).__name__
        if self.position is not None and self.position.needs_scores:
            raise ValueError(
                f'{type(self.position).__name__} works on the score matrix, but {name} '
                'never forms one.  Use Rotary instead.'
            )
        if self.return_attention_scores:
            raise ValueError(
                f'{name} never forms the score matrix that return_attention_scores '
                'asks for.  Use a mechanism that does, such as softmax.'
            )

    def build(self, q_shape, k_shape=None, v_shape=None, p_shape=None):
        """Make the projections."""
        k_shape = k_shape or q_shape
        v_shape = v_shape or k_shape
        kv, keys = self.kv_heads, self.key_size
        if self.mechanism.compares:
            self.q_dense = self._projection('query', self.heads * keys, q_shape)
            self.k_dense = self._projection('key', kv * keys, k_shape)
            if self.qk_norm:
                self.q_norm = self._norm('query_norm')
                self.k_norm = self._norm('key_norm')
        self.v_dense = self._projection('value', kv * self.head_size, v_shape)
        mixed = (*q_shape[:-1], self.heads * self.head_size)
        self.o_dense = self._projection('output', self.out_dim, mixed, self.out_bias)
        if self.position is not None and p_shape is None and not self.position.built:
            self.position.build(q_shape)

    def _projection(self, name, units, shape, use_bias=None):
        dense = Dense(
            units,
            use_bias=self.use_bias if use_bias is None else use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(shape)
        return dense

    def _norm(self, name):
        norm = LayerNormalization(
            zero_mean=False,
            offset=False,
            epsilon=self.qk_norm_epsilon,
            dtype=self.dtype_policy,
            name=name,
        )
        norm.build((None, None, None, self.key_size))
        return norm

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
        """Attend."""
        padding = v_mask
        if v is None:
            padding = q_mask if q_mask is not None else mask
        k = q if k is None else k
        v = k if v is None else v
        if p is None and self.position is not None:
            p = self.position(q) if k is q else self.position(q, keys=k)
        where = Mask(padding, self.causal, dense)
        q, k = self._compared(q, k) if self.mechanism.compares else (None, None)
        v = self._split(self.v_dense(v), self.kv_heads)  # (b, n, h, d)
        if self.position is not None and q is not None:
            q, k = self.position.rotate(q, k, p)
        if self.attention_scale and q is not None:
            q = q / self.key_size**0.5
        k, v = self._shared(k), self._shared(v)
        if not self.mechanism.forms_scores:
            self._refuse(dense, residual)
            return self._join(self.mechanism(q, k, v, where=where))
        return self._weigh(q, k, v, p, where, residual)

    def _weigh(self, q, k, v, p, where, residual):
        scores = self.mechanism.score(q, k)  # (b, h, m, n)
        if self.position is not None:
            scores = self.position.bias(scores, q, p)
        if residual is not None:
            scores = scores + residual
        weights = self.mechanism.weigh(scores, where)
        mixed = ops.einsum('bhmn,bnhd->bmhd', weights, v)
        if self.position is not None:
            mixed = self.position.mix(mixed, weights, p)
        out = self._join(mixed)
        return (out, scores) if self.return_attention_scores else out

    def _refuse(self, dense, residual):
        for value, what in ((dense, 'a dense mask'), (residual, 'residual scores')):
            if value is not None:
                raise ValueError(
                    f'{type(self.mechanism).__name__} never forms the score matrix, so '
                    f'{what} cannot be applied.  Use a mechanism such as softmax.'
                )

    def _compared(self, q, k):
        q = self._split(self.q_dense(q), self.heads)
        k = self._split(self.k_dense(k), self.kv_heads)
        return (self.q_norm(q), self.k_norm(k)) if self.qk_norm else (q, k)

    def _shared(self, x):
        """A head of keys or values for each head of queries."""
        copies = self.heads // self.kv_heads
        if x is None or copies == 1:
            return x
        # ops.repeat has no symbolic form on Torch: laying the graph would compute it.
        b, n, h, d = ops.shape(x)[:2] + tuple(x.shape[2:])
        x = ops.broadcast_to(x[:, :, :, None], (b, n, h, copies, d))
        return ops.reshape(x, (b, n, h * copies, d))

    def _split(self, x, heads):
        size = x.shape[-1] // heads
        return ops.reshape(x, ops.shape(x)[:2] + (heads, size))

    def _join(self, x):
        flat = ops.shape(x)[:2] + (self.heads * self.head_size,)
        return self.o_dense(ops.reshape(x, flat))
