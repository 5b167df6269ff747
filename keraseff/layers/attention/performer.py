"""Performer: softmax attention estimated by random features."""

import math

import keras
from keras import ops

from keraseff.layers.attention.linear import LinearAttention
from keraseff.layers.attention.linear import scaled_exp
from keraseff.layers.base import check_sizes
from keraseff.layers.base import given


def positive_features(x, w):
    """exp(W x - ‖x‖²/2): their mean product is e^(q·k) for rows of W from N(0, I)."""
    return _features(_projected(x, w), x)


def hyperbolic_features(x, w):
    """exp(±W x - ‖x‖²/2): twice as many, of less variance."""
    projected = _projected(x, w)
    return _features(ops.concatenate([projected, -projected], axis=-1), x)


def relu_features(x, w):
    """relu(W x) + 0.001: a kernel of its own, no estimate of the softmax."""
    return ops.relu(_projected(x, w)) + 1e-3, None


def _projected(x, w):
    if len(x.shape) < 4:
        return ops.matmul(x, ops.transpose(w))
    # Heads first and back again: as Torch lays it out, blocks are no copies then.
    x = ops.matmul(ops.swapaxes(x, 1, 2), ops.transpose(w))
    return ops.swapaxes(x, 1, 2)


def _features(projected, x):
    # ‖x‖²/2 is the same for all features: it belongs to the factor left out.
    features, logs = scaled_exp(projected)
    return features, logs - ops.sum(ops.square(x), axis=-1, keepdims=True) / 2


KINDS = {
    'hyperbolic': hyperbolic_features,
    'positive': positive_features,
    'relu': relu_features,
}


class Performer(LinearAttention):
    """FAVOR+: softmax(q kᵀ / √d) v estimated in linear time by m random features.

    φ(x) = exp(W x - ‖x‖²/2) / √m with random rows in W (m, d), and e^(q·k) is the mean
    of φ(q)·φ(k) over W.

    Args:
        num_features: m; by default d ln d, at least d.
        orthogonal: rows of W are orthogonal within each d of them, which makes the
            estimate better; their lengths are those of normal vectors.
        kind: 'positive' as above, 'hyperbolic' with exp(±W x), or 'relu' with
            relu(W x) + 0.001, another kernel than the softmax's.
        redraw_every: draw a new W after so many steps of training; None: keep it.
        seed: of the drawing.
        chunk: steps whose scores are formed at once where it is causal.
        epsilon: added to each feature, of which the largest of a query or key is 1; 0
            gives the pure estimate.

    W is saved with the model and never trained.  A `Rotary` position turns queries and
    keys.  Raises ValueError where the kind is unknown.
    Choromanski et al., 2020, https://arxiv.org/abs/2009.14794
    """

    def __init__(
        self,
        num_features=None,
        orthogonal=True,
        kind='positive',
        redraw_every=None,
        seed=None,
        chunk=64,
        epsilon=1e-6,
        **kwargs,
    ):
        super().__init__(chunk=chunk, epsilon=epsilon, **kwargs)
        if kind not in KINDS:
            known = ', '.join(sorted(KINDS))
            raise ValueError(f'kind={kind!r} is unknown; there are: {known}.')
        check_sizes(**given(num_features=num_features, redraw_every=redraw_every))
        self.num_features = num_features
        self.orthogonal = orthogonal
        self.kind = kind
        self.redraw_every = redraw_every
        self.seed = seed
        self.random = keras.random.SeedGenerator(seed)
        self.turns_itself = False
        self.scaled = True

    def build(self, q_shape, k_shape, v_shape):
        """Draw W."""
        d = q_shape[-1]
        m = self.num_features or max(d, math.ceil(d * math.log(d)))
        self.w = self.add_weight(
            shape=(m, d),
            initializer=lambda shape, dtype: self._draw(*shape)(),
            dtype='float32',
            autocast=False,
            trainable=False,
            name='features',
        )
        if self.redraw_every:
            self.steps = self.add_weight(
                shape=(),
                initializer='zeros',
                dtype='int32',
                trainable=False,
                name='steps',
            )

    def _draw(self, m, d):
        """A function that makes W (m, d) of numbers drawn here and now."""
        size = -(-m // d) * d if self.orthogonal else m
        normal = keras.random.normal((2, size, d), dtype='float32', seed=self.random)
        if self.orthogonal:
            return lambda: orthogonal_rows(normal)[:m]
        return lambda: normal[0]

    def features(self, x):
        """φ(x) of x (b, n, h, d) in float32: (features, logs or None)."""
        features, logs = KINDS[self.kind](x, ops.convert_to_tensor(self.w))
        return features + (0 if logs is None else self.epsilon), logs

    def call(self, q, k, v, where, training=None):
        """The mixed values (b, m, h, d_v); in training W is redrawn when it is time."""
        if training and self.redraw_every:
            self._redraw()
        return super().call(q, k, v, where)

    def _redraw(self):
        steps = ops.convert_to_tensor(self.steps) + 1
        w, draw = ops.convert_to_tensor(self.w), self._draw(*self.w.shape)
        due = ops.equal(steps % self.redraw_every, 0)
        self.w.assign(ops.stop_gradient(ops.cond(due, draw, lambda: w)))
        self.steps.assign(steps)


def orthogonal_rows(normal):
    """Random rows, orthogonal within each d, of the lengths of normal vectors.

    Args:
        normal: (2, m, d) of N(0, 1), m a multiple of d: for directions and lengths.

    -> (m, d).
    """
    m, d = normal.shape[1:]
    q, r = ops.qr(ops.reshape(normal[0], (m // d, d, d)))
    # QR's signs are no accident: Householder's first column lies in a half-space.
    signs = ops.sign(ops.diagonal(r, axis1=-2, axis2=-1))
    rows = ops.swapaxes(q * signs[:, None, :], -1, -2)
    lengths = ops.sqrt(ops.sum(ops.square(normal[1]), axis=-1, keepdims=True))
    return ops.reshape(rows, (m, d)) * lengths
