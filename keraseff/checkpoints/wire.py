"""The little of Protocol Buffers' wire format that TensorFlow's index needs."""

from collections.abc import Iterator

Field = tuple[int, int | bytes]


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned number of 7 bits a byte, and the position behind it.

    Raises:
        ValueError: the data ends first, or the number has more than 64 bits.
    """
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError('a number in the index runs over its end')
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7


def write_varint(value: int) -> bytes:
    """The bytes `read_varint` reads; a negative number takes ten, as int64 does."""
    value &= 0xFFFFFFFFFFFFFFFF
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def signed(value: int) -> int:
    """An int64 from the unsigned number it travels as."""
    return value - (1 << 64) if value >> 63 else value


def read_fields(data: bytes) -> Iterator[Field]:
    """Field number and value: an int for numbers, bytes for messages and strings.

    Raises:
        ValueError: the message is malformed.
    """
    position = 0
    while position < len(data):
        key, position = read_varint(data, position)
        kind = key & 7
        if kind == 0:
            value, position = read_varint(data, position)
            yield key >> 3, value
            continue
        if kind == 2:
            size, position = read_varint(data, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f'a message has a field of unknown kind {kind}')
        chunk = data[position : position + size]
        if len(chunk) != size:
            raise ValueError('a message in the index is cut short')
        position += size
        yield key >> 3, chunk if kind == 2 else int.from_bytes(chunk, 'little')


def number(field: int, value: int) -> bytes:
    """A varint field; nothing where the value is 0, its default."""
    return write_varint(field << 3) + write_varint(value) if value else b''


def fixed32(field: int, value: int) -> bytes:
    """A field of four bytes."""
    return write_varint(field << 3 | 5) + value.to_bytes(4, 'little')


def message(field: int, data: bytes) -> bytes:
    """A field that holds a message or a string."""
    return write_varint(field << 3 | 2) + write_varint(len(data)) + data
