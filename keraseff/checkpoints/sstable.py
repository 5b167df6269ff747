"""LevelDB's sorted string table, in which TensorFlow keeps its index.

https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

from collections.abc import Iterator
from collections.abc import Sequence

from keraseff.checkpoints.crc32c import masked_crc32c
from keraseff.checkpoints.wire import read_varint
from keraseff.checkpoints.wire import write_varint

_MAGIC = 0xDB4775248B80FB57.to_bytes(8, 'little')
_FOOTER = 48
_TRAILER = 5
_BLOCK = 4096
_RESTART_INTERVAL = 16


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All the entries of a table, each block's checksum verified.

    Raises:
        ValueError: not a table, truncated, corrupt or compressed.
    """
    if len(data) < _FOOTER or data[-8:] != _MAGIC:
        raise ValueError('is no TensorFlow checkpoint index, or is truncated')
    footer = data[-_FOOTER:]
    position = 0
    for _ in range(2):
        _, position = read_varint(footer, position)
    index = _block(data, footer, position)
    # A key may repeat the one before it at no cost in the file, not in memory.
    budget = [64 * len(data) + 65536]
    entries: dict[bytes, bytes] = {}
    end = 0
    for _, handle in _entries(index, budget):
        start, _ = read_varint(handle, 0)
        if start < end:
            raise ValueError('has blocks that overlap')
        block = _block(data, handle, 0)
        end = start + len(block) + _TRAILER
        for key, value in _entries(block, budget):
            if key in entries:
                raise ValueError(f'lists {key!r:.80} twice')
            entries[key] = value
    return entries


def _block(data: bytes, handle: bytes, position: int) -> bytes:
    offset, position = read_varint(handle, position)
    size, position = read_varint(handle, position)
    if offset + size + _TRAILER > len(data) - _FOOTER:
        raise ValueError('is truncated or damaged: a block lies outside the file')
    block = data[offset : offset + size + 1]
    stored = int.from_bytes(data[offset + size + 1 : offset + size + 5], 'little')
    if masked_crc32c(block) != stored:
        raise ValueError('is corrupt: the checksum of a block is wrong')
    if block[-1]:
        raise ValueError(
            'is compressed, which TensorFlow does not do by default; load it with '
            'TensorFlow and save it again'
        )
    return block[:-1]


def _entries(block: bytes, budget: list[int]) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], 'little')
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError('has a block without room for its restarts')
    position, key = 0, b''
    while position < end:
        shared, position = read_varint(block, position)
        fresh, position = read_varint(block, position)
        size, position = read_varint(block, position)
        if shared > len(key) or position + fresh + size > end:
            raise ValueError('has an entry that runs over its block')
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        budget[0] -= len(key)
        if budget[0] < 0:
            raise ValueError('has keys that add up to far more than the file')
        yield key, block[position : position + size]
        position += size


def write_table(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A table of the entries, which come sorted by key and without repeats."""
    data = bytearray()
    handles: list[tuple[bytes, bytes]] = []
    waiting: list[tuple[bytes, bytes]] = []
    size = 0
    for entry in entries:
        waiting.append(entry)
        size += len(entry[0]) + len(entry[1])
        if size >= _BLOCK:
            handles.append((entry[0], _append_block(data, waiting)))
            waiting, size = [], 0
    if waiting:
        handles.append((waiting[-1][0], _append_block(data, waiting)))
    footer = _append_block(data, []) + _append_block(data, handles, interval=1)
    return bytes(data) + footer.ljust(_FOOTER - 8, b'\0') + _MAGIC


def _append_block(
    data: bytearray,
    entries: Sequence[tuple[bytes, bytes]],
    interval: int = _RESTART_INTERVAL,
) -> bytes:
    """Add a block and its trailer; the handle says where it lies."""
    block = bytearray()
    restarts = [0]
    previous = b''
    for count, (key, value) in enumerate(entries):
        shared = _shared(previous, key) if count % interval else 0
        if count and count % interval == 0:
            restarts.append(len(block))
        block += write_varint(shared) + write_varint(len(key) - shared)
        block += write_varint(len(value)) + key[shared:] + value
        previous = key
    for restart in [*restarts, len(restarts)]:
        block += restart.to_bytes(4, 'little')
    handle = write_varint(len(data)) + write_varint(len(block))
    block.append(0)
    data += block + masked_crc32c(bytes(block)).to_bytes(4, 'little')
    return handle


def _shared(first: bytes, second: bytes) -> int:
    limit = min(len(first), len(second))
    return next((i for i in range(limit) if first[i] != second[i]), limit)
