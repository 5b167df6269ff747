"""Keys under which TensorFlow stores the parts of a partitioned tensor.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/saved_tensor_slice_util.cc
"""

from collections.abc import Sequence

Extent = tuple[int, int]


def slice_key(name: str, extents: Sequence[Extent]) -> bytes:
    """The key of a slice, in an encoding whose bytes sort as the values do.

    Args:
        name: the whole tensor's name.
        extents: for each axis (start, length), where length -1 is the full axis.
    """
    text = name.encode().replace(b'\0', b'\0\xff')
    parts = [_increasing(0), text, b'\0\x01', _increasing(len(extents))]
    for start, length in extents:
        parts += [_signed(start), _signed(length)]
    return b''.join(parts)


def _increasing(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 7) // 8, 'big')
    return bytes([len(data)]) + data


def _signed(value: int) -> bytes:
    """As many leading bits as the code has bytes tell its length, inverted below 0."""
    bits = (~value if value < 0 else value).bit_length()
    size = bits // 7 + 1
    header = ((1 << size) - 1) << (8 * size - size)
    mask = (1 << 8 * size) - 1
    return ((value & mask) ^ header).to_bytes(size, 'big')
