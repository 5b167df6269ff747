"""Positions: where things stand, and how far apart."""

from keraseff.layers.base import make_named
from keraseff.layers.position.alibi import ALiBi
from keraseff.layers.position.alibi import alibi_slopes
from keraseff.layers.position.kerple import Kerple
from keraseff.layers.position.learned import PositionEmbedding
from keraseff.layers.position.position import Position
from keraseff.layers.position.position import distances
from keraseff.layers.position.relative import Relative
from keraseff.layers.position.relative import RelativePositionEmbedding
from keraseff.layers.position.rerope import LeakyReRoPE
from keraseff.layers.position.rerope import ReRoPE
from keraseff.layers.position.rotary import ROTARY_RULES
from keraseff.layers.position.rotary import Rotary
from keraseff.layers.position.rotary import rotary_2d
from keraseff.layers.position.sandwich import Sandwich
from keraseff.layers.position.self_extend import SelfExtend
from keraseff.layers.position.sinusoidal import SinusoidalPositionEmbedding
from keraseff.layers.position.t5 import RelativePositionEmbeddingT5
from keraseff.layers.position.t5 import T5Relative
from keraseff.layers.position.t5 import t5_buckets
from keraseff.layers.position.xpos import XPOS

POSITIONS = {
    'alibi': ALiBi,
    'kerple': Kerple,
    'leaky_rerope': LeakyReRoPE,
    'relative': Relative,
    'rerope': ReRoPE,
    'rotary': Rotary,
    'rotary_2d': rotary_2d,
    'sandwich': Sandwich,
    'self_extend': SelfExtend,
    't5': T5Relative,
    'xpos': XPOS,
    **ROTARY_RULES,
}


# Those that are added to the tokens' vectors, and their layers.
ADDED = {
    'hierarchical': PositionEmbedding,
    'learned': PositionEmbedding,
    'sinusoidal': SinusoidalPositionEmbedding,
}


def get_position(position, head_size, heads=None, options=None, causal=False):
    """The position a name stands for, for `heads` queries of `head_size` channels.

    An instance or None is returned as it is; 'none' is None.

    Args:
        options: more arguments of the position, a dict.
        causal: no query sees a later key.

    Raises:
        ValueError: nobody bears that name, it is no position inside attention, or an
            instance comes with options.
        TypeError: an option is unknown.
    """
    if position == 'none':
        position = None
    _check_place(position)
    if isinstance(position, str):
        offered = {'head_size': head_size, 'heads': heads, 'causal': causal}
        offered['name'] = 'position'
        return make_named('position', position, POSITIONS, options, **offered)
    if options:
        raise ValueError(
            f'position={position!r} leaves no room for position_options={options!r}; '
            'give a name, or options to the constructor of the position.'
        )
    if not isinstance(position, Position | None):
        raise ValueError(
            f'position={position!r} is neither a name, a Position nor None.'
        )
    return position


def _check_place(position):
    """Raise ValueError for vectors that are added before the first attention."""
    kind = ADDED.get(position) if isinstance(position, str) else type(position)
    if kind in ADDED.values():
        raise ValueError(
            f'position={position!r} adds vectors to the tokens, before attention: call '
            f'keraseff.layers.{kind.__name__} on the sequence, or give its name to '
            "build_transformer_model(position=…).  Attention's own are: "
            f'{", ".join(sorted(POSITIONS))}.'
        )


__all__ = [
    'ALiBi',
    'Kerple',
    'LeakyReRoPE',
    'POSITIONS',
    'Position',
    'PositionEmbedding',
    'ROTARY_RULES',
    'ReRoPE',
    'Relative',
    'RelativePositionEmbedding',
    'RelativePositionEmbeddingT5',
    'Rotary',
    'Sandwich',
    'SelfExtend',
    'SinusoidalPositionEmbedding',
    'T5Relative',
    'XPOS',
    'alibi_slopes',
    'distances',
    'get_position',
    'rotary_2d',
    't5_buckets',
]
