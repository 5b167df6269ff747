"""The Protocol Buffers in TensorFlow's index: one header, one entry per tensor.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto
"""

from dataclasses import dataclass
from dataclasses import field

from keraseff.checkpoints.slices import Extent
from keraseff.checkpoints.wire import fixed32
from keraseff.checkpoints.wire import message
from keraseff.checkpoints.wire import number
from keraseff.checkpoints.wire import read_fields
from keraseff.checkpoints.wire import signed

# BundleHeaderProto: one shard, little endian, version 1.
HEADER = number(1, 1) + message(3, number(1, 1))


@dataclass
class Entry:
    """A BundleEntryProto."""

    code: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: list[tuple[Extent, ...]] = field(default_factory=list)


def _read_shape(data: bytes) -> tuple[int, ...]:
    sides = []
    for key, value in read_fields(data):
        if key == 3 and value:
            raise ValueError('has a tensor of unknown rank')
        if key == 2:
            side = dict(read_fields(_message(value)))
            sides.append(signed(_number(side.get(1, 0))))
    return tuple(sides)


def _read_slice(data: bytes) -> tuple[Extent, ...]:
    extents = []
    for key, value in read_fields(data):
        if key == 1:
            extent = dict(read_fields(_message(value)))
            start = signed(_number(extent.get(1, 0)))
            extents.append((start, signed(_number(extent.get(2, 2**64 - 1)))))
    return tuple(extents)


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError('has a number where a message belongs')
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError('has a message where a number belongs')
    return value


def read_entry(data: bytes) -> Entry:
    """What the index says of one tensor.

    Raises:
        ValueError: the entry is malformed.
    """
    entry = Entry()
    numbers = {1: 'code', 3: 'shard', 4: 'offset', 5: 'size', 6: 'crc'}
    for key, value in read_fields(data):
        if key in numbers:
            setattr(entry, numbers[key], signed(_number(value)))
        elif key == 2:
            entry.shape = _read_shape(_message(value))
        elif key == 7:
            entry.slices.append(_read_slice(_message(value)))
    return entry


def read_header(data: bytes) -> tuple[int, str]:
    """The number of data files and the order of bytes in them, '<' or '>'.

    Raises:
        ValueError: the header is malformed.
    """
    header = dict(read_fields(data))
    return _number(header.get(1, 0)), '>' if header.get(2) else '<'


def write_entry(entry: Entry) -> bytes:
    """The bytes `read_entry` reads, for a tensor that is not sliced."""
    sides = b''.join(message(2, number(1, side)) for side in entry.shape)
    return (
        number(1, entry.code)
        + message(2, sides)
        + number(3, entry.shard)
        + number(4, entry.offset)
        + number(5, entry.size)
        + fixed32(6, entry.crc)
    )
