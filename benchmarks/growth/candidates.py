"""What `attention_growth.py` compares: each a Keras layer called with (q, k, v)."""

import dataclasses
from collections.abc import Callable

import keras
from keras import ops

from keraseff.layers import MECHANISMS
from keraseff.layers import MIXERS
from keraseff.layers import Mask
from keraseff.layers import ScoreMechanism
from keraseff.layers import Softmax

# Their time and memory are to grow like the length, or n log n.
LINEAR = (
    'diag efficient linear linformer local norm performer vq fnet lru s4 s4d'.split()
)
SIZED = ('linformer', 'synthesizer')  # their `length` is the text's


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Something that may stand in attention's place.

    Args:
        name: what it is called in the tables.
        make: n -> a layer that turns q, k, v (b, n, h, d) into something of as many
            numbers.
        causal: it hides later keys.
        square: it forms the n × n scores.
        baseline: it is a softmax that others are measured by.
    """

    name: str
    make: Callable
    causal: bool = True
    square: bool = False
    baseline: bool = False


class Attending(keras.layers.Layer):
    """A mechanism by itself: no projections, only the scale of the queries."""

    def __init__(self, mechanism, causal, **kwargs):
        super().__init__(**kwargs)
        self.mechanism = mechanism
        self.where = Mask(causal=causal)

    def build(self, q_shape, k_shape, v_shape):
        """Make the mechanism's weights."""
        shapes = (q_shape, k_shape, v_shape)
        if getattr(self.mechanism, 'reads_input', False):
            shapes += (_flat(q_shape),)
        self.mechanism.build(*shapes)

    def call(self, q, k, v, training=None):
        """The mixed values; one that reads the sequence itself gets q's heads."""
        mechanism = self.mechanism
        if mechanism.scaled:
            q = q / q.shape[-1] ** 0.5
        if not getattr(mechanism, 'reads_input', False):
            return mechanism(q, k, v, where=self.where)
        n, pair = q.shape[1], (q, k) if mechanism.compares else (None, None)
        scores = mechanism.score(*pair, x=ops.reshape(q, _flat(q.shape)), n=n)
        return mechanism.mix(mechanism.weigh(scores, self.where), v)


class Mixing(keras.layers.Layer):
    """A mixer: v's heads, side by side, are its sequence; q and k are not looked at."""

    def __init__(self, mixer, **kwargs):
        super().__init__(**kwargs)
        self.mixer = mixer

    def build(self, q_shape, k_shape, v_shape):
        """Make the mixer's weights."""
        self.mixer.build(_flat(v_shape))

    def call(self, q, k, v, training=None):
        """(b, n, h, d) three times -> (b, n, h d)."""
        return self.mixer(ops.reshape(v, _flat(v.shape)))


class Fused(keras.layers.Layer):
    """Softmax attention as the framework itself offers it."""

    def __init__(self, function, causal, **kwargs):
        super().__init__(**kwargs)
        self.function = function
        self.causal = causal

    def build(self, q_shape, k_shape, v_shape):
        """There are no weights."""

    def call(self, q, k, v, training=None):
        """The mixed values."""
        return self.function(q, k, v, is_causal=self.causal)


def _flat(shape):
    return (*shape[:2], shape[2] * shape[3])


def _mechanism(name, policy, options):
    cls = MECHANISMS[name]
    causal = cls.can_be_causal

    def make(n):
        mine = {'length': n} if name in SIZED else {}
        mechanism = cls(dtype=policy, **(mine | options))
        return Attending(mechanism, causal, dtype=policy)

    return Candidate(name, make, causal, square=issubclass(cls, ScoreMechanism))


def _mixer(name, policy, width, options):
    cls = MIXERS[name]
    unit = name == 'gau'
    causal = getattr(cls, 'can_be_causal', True)
    mine = {'units': 2 * width, 'key_size': 128} if unit else {}
    mine |= {'causal': True} if causal else {}

    def make(n):
        return Mixing(cls(dtype=policy, **(mine | options)), dtype=policy)

    return Candidate(name, make, causal, square=unit)


def _softmaxes(fused, policy, causal):
    kind = '' if causal else ', not causal'
    yield Candidate(
        f'softmax, ours{kind}',
        lambda n: Attending(Softmax(dtype=policy), causal, dtype=policy),
        causal,
        square=True,
        baseline=True,
    )
    for name, function in fused.items():
        yield Candidate(
            f'softmax, {name}{kind}',
            lambda n, function=function: Fused(function, causal, dtype=policy),
            causal,
            baseline=True,
        )


def expand(names):
    """The names meant: those of mechanisms and mixers, 'all', 'linear-time'.

    Raises:
        ValueError: nobody bears one of them.
    """
    known = [x for x in (*MECHANISMS, *MIXERS) if x != 'softmax']
    groups = {'all': known, 'linear-time': LINEAR}
    found = []
    for name in names:
        if name not in known and name not in groups:
            raise ValueError(f'{name!r} is unknown; there are: all, linear-time, '
                             f'{", ".join(known)}.')  # fmt: skip
        found += groups.get(name, [name])
    return list(dict.fromkeys(found))


def candidates(names, fused, policy, width, options):
    """Softmaxes first, then those named.

    Args:
        names: of mechanisms and mixers.
        fused: {name: function(q, k, v, is_causal)}, the framework's softmaxes.
        policy: a dtype policy.
        width: channels of all heads.
        options: {name: {argument: value}} beyond the defaults.
    """
    named = [
        _mechanism(name, policy, options.get(name, {}))
        if name in MECHANISMS
        else _mixer(name, policy, width, options.get(name, {}))
        for name in names
    ]
    kinds = [True] if all(x.causal for x in named) else [True, False]
    return [x for kind in kinds for x in _softmaxes(fused, policy, kind)] + named
