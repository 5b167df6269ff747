"""Positions: where things stand, and how far apart."""

from keraseff.layers.position.learned import PositionEmbedding
from keraseff.layers.position.position import Position
from keraseff.layers.position.rotary import Rotary

POSITIONS = {'rotary': Rotary}


def get_position(position, head_size):
    """The position a name stands for, for queries of `head_size` channels.

    An instance or None is returned as it is.

    Raises:
        ValueError: nobody bears that name.
    """
    if not isinstance(position, str):
        return position
    if position not in POSITIONS:
        known = ', '.join(sorted(POSITIONS))
        raise ValueError(f'position={position!r} is unknown; there are: {known}.')
    return POSITIONS[position](head_size=head_size, name='position')


__all__ = ['POSITIONS', 'Position', 'PositionEmbedding', 'Rotary', 'get_position']
