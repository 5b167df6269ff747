"""Linear attention: a product of features in the exponential's place."""

import keras
from keras import ops

from keraseff.layers.attention.mechanism import Mechanism
from keraseff.layers.base import check_not_negative
from keraseff.layers.base import check_sizes
from keraseff.ops.linear_attention import causal_linear_attention
from keraseff.ops.linear_attention import divide
from keraseff.ops.linear_attention import noncausal_linear_attention


def elu_features(x):
    """elu(x) + 1, which is positive (Katharopoulos et al., 2020)."""
    return ops.elu(x) + 1, None


def exp_features(x):
    """e^x channel by channel, as features of at most 1 and the logarithm left out."""
    return scaled_exp(x)


def cosine_features(x):
    """[1, x / ‖x‖], so that the product is 1 + cos: the least that is not negative."""
    norm = ops.rsqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12)
    return ops.concatenate([ops.ones_like(x[..., :1]), x * norm], axis=-1), None


def taylor_features(x):
    """[1, x, x ⊗ x / √2], whose product is 1 + s + s²/2 with s = q·k."""
    square = x[..., :, None] * x[..., None, :] / 2**0.5
    square = ops.reshape(square, ops.shape(x)[:-1] + (x.shape[-1] ** 2,))
    return ops.concatenate([ops.ones_like(x[..., :1]), x, square], axis=-1), None


def scaled_exp(logs):
    """e^logs as (features of at most 1, logarithm of the factor left out (…, 1))."""
    top = ops.stop_gradient(ops.max(logs, axis=-1, keepdims=True))
    return ops.exp(logs - top), top


FEATURE_MAPS = {
    'cosine': cosine_features,
    'elu': elu_features,
    'exp': exp_features,
    'taylor': taylor_features,
}


class LinearAttention(Mechanism):
    """φ(q_i)·Σ_j φ(k_j) v_j / φ(q_i)·Σ_j φ(k_j), in time linear in the length.

    Args:
        feature_map: 'elu', φ(x) = elu(x) + 1; 'exp', φ(x) = e^x; 'cosine', φ(q)·φ(k) =
            1 + cos(q, k); 'taylor', φ(q)·φ(k) = 1 + s + s²/2, s = q·k / √d; or a
            function of x (…, d) that returns φ(x) (…, f), not negative.
        chunk: steps whose scores are formed at once where it is causal.
        epsilon: added to the denominator; where φ is an exponential it only keeps an
            empty sum from dividing by nothing.

    Elu and exp do not scale the queries by 1 / √d, as their papers do not.  They rotate
    φ(q) and φ(k), in the numerator alone, where there is a `Rotary` position; others
    take rotated queries and keys.  The sums of e^x are relative to the largest key up
    to each query, so that no later key has any influence.
    Raises ValueError where nobody bears the map's name.
    Katharopoulos et al., 2020, https://arxiv.org/abs/2006.16236; other maps: Su, 2020,
    https://kexue.fm/archives/7546, 2021, https://kexue.fm/archives/8338
    """

    def __init__(self, feature_map='elu', chunk=64, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        known = feature_map in FEATURE_MAPS if isinstance(feature_map, str) else None
        if not (known or callable(feature_map)):
            known = ', '.join(sorted(FEATURE_MAPS))
            raise ValueError(
                f'feature_map={feature_map!r} is unknown; there are: {known}, or give '
                'a function.'
            )
        check_sizes(chunk=chunk)
        check_not_negative(epsilon=epsilon)
        self.feature_map = feature_map
        self.chunk = chunk
        self.epsilon = epsilon
        self.turns_itself = feature_map in ('elu', 'exp')
        self.scaled = feature_map == 'taylor'

    def features(self, x):
        """φ(x) of x (b, n, h, d) in float32.

        -> (features, logs): φ = exp(logs) features; logs (b, n, h, 1) or None.
        """
        if callable(self.feature_map):
            return self.feature_map(x), None
        return FEATURE_MAPS[self.feature_map](x)

    def call(self, q, k, v, where, rotation=None):
        """The mixed values (b, m, h, d_v)."""
        dtype = q.dtype
        if where.causal:
            check_one_length(self, q, k)
        features, turned, logs = self._compared(q, k, rotation)
        options = {'padding': where.padding, 'logs': logs, 'turned': turned}
        options['epsilon'] = self._floor(logs)
        if where.causal:
            mixed = causal_linear_attention(*features, v, chunk=self.chunk, **options)
        else:
            mixed = noncausal_linear_attention(*features, v, **options)
        return ops.cast(mixed, dtype)

    def _compared(self, q, k, rotation):
        q, k = balanced(q, k, self.scaled)
        (q, _), (k, logs) = self.features(q), self.features(k)
        return (q, k), rotation.pair(q, k) if rotation is not None else None, logs

    def _floor(self, logs):
        return self.epsilon if logs is None else TINY

    def start(self, batch, length, heads, key_size, value_size):
        """Empty sums: the state before the first step."""
        x = ops.zeros((1, 1, 1, key_size))
        size = keras.tree.map_structure(lambda f: f.shape[-1], self.features(x)[0])
        return {
            'states': ops.zeros((batch, heads, size, value_size)),
            'total': ops.zeros((batch, heads, size)),
            'top': ops.full((batch, heads, 1), -1e30),
        }

    def step(self, q, k, v, t, state, rotation=None):
        """Row t of the causal `call`, and the sums with key t."""
        dtype = q.dtype
        features, turned, logs = self._compared(q, k, rotation)
        mixed, state = add_step(features, turned, v, logs, state, self._floor(logs))
        return ops.cast(mixed, dtype), state


TINY = 1e-30


def add_step(features, turned, v, logs, state, epsilon):
    """One step of `causal_linear_attention`: the mixed values and the next state.

    Args:
        features: φ(q), φ(k) (b, 1, h, f); turned: the same rotated, or None.
        v: (b, 1, h, d).
        logs: (b, 1, h, 1) or None.
        state: a dict of `states` (b, h, f, d), `total` (b, h, f), `top` (b, h, 1).
        epsilon: added to the denominator; None: there is no denominator.
    """
    q, k = (x[:, 0] for x in features)
    tq, tk = (x[:, 0] for x in turned or features)
    v = ops.cast(v[:, 0], 'float32')
    states, total, top = state['states'], state['total'], state['top']
    if logs is not None:
        new = ops.maximum(top, logs[:, 0])
        fade, share = ops.exp(top - new), ops.exp(logs[:, 0] - new)
        states, total, top = states * fade[..., None], total * fade, new
        k, tk = k * share, tk * share
    states = states + tk[..., :, None] * v[..., None, :]
    total = total + k
    mixed = ops.einsum('bhf,bhfd->bhd', tq, states)
    if epsilon is not None:
        below = ops.sum(q * total, axis=-1, keepdims=True)
        mixed = divide(mixed, below, epsilon)
    return mixed[:, None], {'states': states, 'total': total, 'top': top}


def balanced(q, k, scaled):
    """Queries and keys in float32; the whole of 1 / √d in the queries is shared."""
    q, k = ops.cast(q, 'float32'), ops.cast(k, 'float32')
    if not scaled:
        return q, k
    root = q.shape[-1] ** 0.25
    return q * root, k / root


def check_one_length(mechanism, q, k):
    """Raise ValueError where a causal mechanism gets unlike numbers of steps."""
    m, n = q.shape[1], k.shape[1]
    if None not in (m, n) and m != n:
        raise ValueError(
            f'{type(mechanism).__name__} got {m} queries and {n} keys; where it is '
            'causal they must be of one sequence.'
        )
