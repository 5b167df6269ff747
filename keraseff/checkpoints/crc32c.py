"""CRC-32C (Castagnoli), many bytes at a time with numpy."""

from functools import lru_cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_LANE = 256
_CHUNK = 1 << 22


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype='uint32')
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, _POLYNOMIAL, 0).astype('uint32')
    return table


_BYTE = _byte_table()
_BYTE_LIST = _BYTE.tolist()


@lru_cache(1)
def _word_tables() -> tuple[np.ndarray, np.ndarray]:
    """What 4 zero bytes make of the low and of the high half of a register."""
    tables = []
    for shift in (0, 16):
        state = np.arange(1 << 16, dtype='uint32') << np.uint32(shift)
        for _ in range(4):
            state = _BYTE[state & 0xFF] ^ (state >> 8)
        tables.append(state)
    return tables[0], tables[1]


def _apply(columns: np.ndarray, states: np.ndarray) -> np.ndarray:
    """A 32 x 32 matrix over GF(2), given by its columns, times each register."""
    result = np.zeros_like(states)
    for bit, column in enumerate(columns):
        result ^= ((states >> np.uint32(bit)) & np.uint32(1)) * column
    return result


@lru_cache(32)
def _zeros(length: int) -> np.ndarray:
    """The matrix by which `length` zero bytes, a power of two, move a register."""
    if length == 1:
        units = np.uint32(1) << np.arange(32, dtype='uint32')
        return _BYTE[units & 0xFF] ^ (units >> 8)
    half = _zeros(length // 2)
    return _apply(half, half)


def _linear(data: np.ndarray) -> int:
    """The register after `data`, starting from zero.

    From zero, zeros in front change nothing: so the bytes are padded there to a power
    of two of equal lanes, all lanes run at once, and neighbours merge in pairs.
    """
    lanes = 1 << max(-(-len(data) // _LANE) - 1, 0).bit_length()
    padded = np.zeros(lanes * _LANE, 'uint8')
    padded[len(padded) - len(data) :] = data
    words = np.ascontiguousarray(padded.view('<u4').reshape(lanes, -1).T)
    low, high = _word_tables()
    state = np.zeros(lanes, 'uint32')
    for word in words:
        state ^= word
        state = low[state & 0xFFFF] ^ high[state >> 16]
    length = _LANE
    while len(state) > 1:
        state = _apply(_zeros(length), state[::2]) ^ state[1::2]
        length *= 2
    return int(state[0])


def crc32c(data: bytes | np.ndarray) -> int:
    """The CRC-32C of the bytes (RFC 3720, appendix B.4)."""
    array = np.frombuffer(data, 'uint8') if isinstance(data, bytes) else data
    state = 0xFFFFFFFF
    for start in range(0, len(array), _CHUNK):
        chunk = array[start : start + _CHUNK]
        if len(chunk) < 64:
            for byte in chunk.tolist():
                state = _BYTE_LIST[(state ^ byte) & 0xFF] ^ (state >> 8)
            continue
        chunk = chunk.copy()
        # The register enters a CRC as if it had been added to the next four bytes.
        chunk[:4] ^= np.frombuffer(state.to_bytes(4, 'little'), 'uint8')
        state = _linear(chunk)
    return state ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | np.ndarray) -> int:
    """The CRC as LevelDB stores it: rotated and shifted, so that CRCs can nest."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
