import numpy as np
import pytest

from keraseff.checkpoints.crc32c import crc32c
from keraseff.checkpoints.crc32c import masked_crc32c


def bit_by_bit(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ('data', 'expected'),
    [  # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b'\xff' * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b'123456789', 0xE3069283),
        (b'', 0),
    ],
)
def test_published_values(data, expected):
    assert crc32c(data) == expected


@pytest.mark.parametrize('size', [1, 63, 64, 65, 255, 256, 257, 511, 512, 513, 5000])
def test_against_bit_by_bit(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == bit_by_bit(data)


def test_chunks_join():
    data = np.random.default_rng(0).integers(0, 256, (1 << 22) + 70, 'uint8')
    head, tail = crc32c(data[:-70]), data[-70:]
    # Continue the register over the tail, one bit at a time.
    state = head ^ 0xFFFFFFFF
    for byte in tail.tolist():
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(data) == state ^ 0xFFFFFFFF


def test_mask():
    crc = crc32c(b'foo')
    rotated = (crc >> 15 | crc << 17) % 2**32
    assert masked_crc32c(b'foo') == (rotated + 0xA282EAD8) % 2**32
