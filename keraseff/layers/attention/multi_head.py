"""Multi-head attention: projections and heads around a mechanism and a position."""

from keras import ops
from keras.layers import Dense

from keraseff.initializers import fresh
from keraseff.layers.attention.attention import Attention
from keraseff.layers.base import check_not_negative
from keraseff.layers.base import check_sizes
from keraseff.layers.base import given
from keraseff.layers.normalization import LayerNormalization
from keraseff.layers.shapes import ROOM
from keraseff.layers.shapes import check_step
from keraseff.layers.shapes import is_empty


class MultiHeadAttention(Attention):
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
        mechanism_options, position_options: more arguments of what the names stand for.
        logn: the length L of the texts seen in training; queries that see n > L keys
            are multiplied by log n / log L, which keeps the entropy of their weights.
        window: how many steps a query sees, its own among them; None sees all.
        sinks: how many of the first keys are seen besides.

    Call arguments: `q` (b, m, e); `k`, `v` (b, n, e), by default `q`; `p`, what the
    position layer made of the sequence, by default made here; `dense` (b or 1, m, n),
    true where a query may see a key; `residual` (b, h, m, n), scores of the layer below
    to be added (RealFormer).

    A causal one also goes step by step: `start(batch, length)` makes the state before
    the first, `step(x, t, state)` turns x (b, 1, e) of step t into (b, 1, out_dim) and
    the next state; with return_attention_scores the scores come between them.

    -> (b, m, out_dim), or with the scores (b, h, m, n) as well.
    https://arxiv.org/abs/1706.03762, RealFormer https://arxiv.org/abs/2012.11747,
    grouped queries https://arxiv.org/abs/2305.13245,
    log n https://kexue.fm/archives/8823
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
        mechanism_options=None,
        position_options=None,
        logn=None,
        window=None,
        sinks=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes(heads=heads, head_size=head_size)
        check_sizes(**given(out_dim=out_dim, key_size=key_size, kv_heads=kv_heads))
        check_not_negative(qk_norm_epsilon=qk_norm_epsilon)
        self.heads = heads
        self.head_size = head_size
        self.out_dim = out_dim or heads * head_size
        self.key_size = key_size or head_size
        self.kv_heads = kv_heads or heads
        self.use_bias = use_bias
        self.out_bias = use_bias if out_bias is None else out_bias
        self.qk_norm = qk_norm
        self.qk_norm_epsilon = qk_norm_epsilon
        self.kernel_initializer = kernel_initializer
        if self.heads % self.kv_heads:
            raise ValueError(
                f'kv_heads={self.kv_heads} does not divide heads={self.heads}: each '
                'head of keys and values serves as many heads of queries.'
            )
        self.mechanism = self._assemble(
            mechanism,
            position,
            heads,
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
        self._check_inputs(q_shape, k_shape, v_shape, dense_shape, residual_shape)
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
        m, n = q_shape[:2], k_shape[:2]
        self._build_parts(
            (*m, self.heads, keys),
            (*n, self.heads, keys),
            (*n, self.heads, self.head_size),
            q_shape,
            p_shape,
        )

    # Written out, because shapes are else inferred by calling with some 80 steps, which
    # a mechanism of fixed length refuses.
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
        out = (*q_shape[:-1], self.out_dim)
        scores = (q_shape[0], self.heads, q_shape[1], (k_shape or q_shape)[1])
        return (out, scores) if self.return_attention_scores else out

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
        self._check_inputs(q, k, v, dense, residual)
        padding = v_mask
        if v is None:
            padding = q_mask if q_mask is not None else mask
        k = q if k is None else k
        v = k if v is None else v
        x = q
        if is_empty(q):
            out = self._nothing(q, ops.shape(k)[1], *self._sizes())
            return out if self.return_attention_scores else out[0]
        if p is None:
            p = self.make_position(q, k)
        q, k = self._compared(q, k) if self.mechanism.compares else (None, None)
        v = self._split(self.v_dense(v), self.kv_heads)  # (b, n, h, d)
        k, v = self._shared(k), self._shared(v)
        where = self.mask(padding, dense)
        mixed, scores = self.mix(q, k, v, x, p, where, residual)
        out = self._join(mixed)
        return (out, scores) if self.return_attention_scores else out

    def start(self, batch, length):
        """The state before the first step: tensors for `length` steps at most."""
        heads = (self.heads, self.kv_heads)
        return self._start(batch, length, *heads, self.head_size)

    def step(self, x, t, state, p=None, residual=None):
        """Step number t alone: x (b, 1, e) -> (b, 1, out_dim), and the next state.

        Args:
            t: 0 for the first, an int or a scalar tensor.
            state: what `start`, or the step before, returned.
            p: what the position made of it, see `position_at`; by default made here.
            residual: scores (b, h, 1, n) to add.
        """
        check_step(self, x, t, state)
        if is_empty(x):
            out = self._nothing(x, state[ROOM].shape[1], *self._sizes())
            return *out, state
        if p is None:
            p = self.position_at(x, t, state)
        q, k = self._compared(x, x) if self.mechanism.compares else (None, None)
        v = self._split(self.v_dense(x), self.kv_heads)
        mixed, scores, state = self.mix_step(
            q, k, v, x, t, state, p, residual, self._shared
        )
        out = self._join(mixed)
        return (out, scores, state) if self.return_attention_scores else (out, state)

    def _sizes(self):
        return self.heads, self.heads * self.head_size

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
