"""Positions: where things stand, and how far apart."""

from keraseff.layers.position.learned import PositionEmbedding
from keraseff.layers.position.position import Position
from keraseff.layers.position.position import distances
from keraseff.layers.position.relative import Relative
from keraseff.layers.position.relative import RelativePositionEmbedding
from keraseff.layers.position.rotary import Rotary
from keraseff.layers.position.t5 import RelativePositionEmbeddingT5
from keraseff.layers.position.t5 import T5Relative
from keraseff.layers.position.t5 import t5_buckets

POSITIONS = {'relative': Relative, 'rotary': Rotary, 't5': T5Relative}


def get_position(position, head_size, heads=None):
    """The position a name stands for, for `heads` queries of `head_size` channels.

    An instance or None is returned as it is.

    Raises:
        ValueError: nobody bears that name.
    """
    if not isinstance(position, str):
        return position
    if position not in POSITIONS:
        known = ', '.join(sorted(POSITIONS))
        raise ValueError(f'position={position!r} is unknown; there are: {known}.')
    kind, sizes = POSITIONS[position], {'head_size': head_size, 'heads': heads}
    taken = kind._argument_names()
    sizes = {name: size for name, size in sizes.items() if name in taken}
    return kind(name='position', **sizes)


__all__ = [
    'POSITIONS',
    'Position',
    'PositionEmbedding',
    'Relative',
    'RelativePositionEmbedding',
    'RelativePositionEmbeddingT5',
    'Rotary',
    'T5Relative',
    'distances',
    'get_position',
    't5_buckets',
]
