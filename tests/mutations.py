"""Checkpoints of every kind, and ways to damage them that get past their checksums.

`MAKERS[kind](folder)` writes a small file; `DAMAGES[kind](data, random)` gives the
bytes of a damaged one. Bits are flipped anywhere, and also inside the parts that
checksums protect, with the checksums made right again.
"""

import io
import json
import struct
import zipfile
import zlib

import numpy as np

from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow
from keraseff.checkpoints.sstable import read_table
from keraseff.checkpoints.sstable import write_table

TENSORS = {
    f'layer.{i}.{name}': np.random.default_rng(i).normal(size=(5, 3)).astype('float32')
    for i in range(4)
    for name in ('weight', 'bias')
}
NUMBERS = (0, 1, -1, 2, 255, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63)
NUMBERS += (2**64, 10**30, 1.5, 1e308)
NAMES = (
    '',
    '.',
    '..',
    '../m',
    '/etc/passwd',
    '/dev/zero',
    '/dev/stdin',
    'm\0',
    'm/../m',
)
NAMES += ('C:m', '\\\\host\\m', 'NUL', '\ud800', 'é' * 300, 'a' * 5000, 'm.index.json')


def tensorflow(folder):
    write_tensorflow(folder / 'm', TENSORS)
    return folder / 'm.index'


def safetensors(folder):
    write_safetensors(folder / 'm.safetensors', TENSORS)
    return folder / 'm.safetensors'


def sharded(folder):
    write_safetensors(folder / 'm.safetensors', TENSORS, max_shard_size=200)
    return folder / 'm.safetensors.index.json'


def torch_zip(folder, new=True):
    import torch

    state = {name: torch.from_numpy(value) for name, value in TENSORS.items()}
    torch.save(state, folder / 'm.bin', _use_new_zipfile_serialization=new)
    return folder / 'm.bin'


def torch_legacy(folder):
    return torch_zip(folder, new=False)


def keras_h5(folder, **options):
    import h5py

    with h5py.File(folder / 'tf_model.h5', 'w') as root:
        root.attrs['layer_names'] = [b'layer']
        group = root.create_group('layer')
        names = [name.replace('.', '/') for name in TENSORS]
        group.attrs['weight_names'] = [f'{name}:0'.encode() for name in names]
        for name, value in zip(names, TENSORS.values(), strict=True):
            group.create_dataset(f'{name}:0', data=value, **options)
    return folder / 'tf_model.h5'


MAKERS = {
    'tensorflow': tensorflow,
    'safetensors': safetensors,
    'sharded': sharded,
    'torch_zip': torch_zip,
    'torch_legacy': torch_legacy,
    'keras_h5': keras_h5,
}


def scramble(data, random):
    """Bits flipped, bytes cut out, doubled, moved, overwritten or cut off."""
    data = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        if not data:
            break
        start = int(random.integers(len(data)))
        size = int(random.integers(1, 1 + min(64, len(data))))
        kind = int(random.integers(7))
        if kind == 0:
            data[start] ^= 1 << int(random.integers(8))
        elif kind == 1:
            data[start] = int(random.integers(256))
        elif kind == 2:
            del data[start : start + size]
        elif kind == 3:
            data[start:start] = data[start : start + size]
        elif kind == 4:
            data[start : start + size] = random.bytes(size)
        elif kind == 5:
            data[start : start + 8] = random.choice([b'\xff', b'\0', b'\x80']) * 8
        else:
            del data[start:]
    return bytes(data)


def mangle(value, random, depth=0):
    """A JSON value in which something is of another kind, size or name."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = list(value)[int(random.integers(len(value)))]
        result = dict(value)
        change = random.random()
        if change < 0.7:
            result[key] = mangle(value[key], random, depth + 1)
        elif change < 0.8:
            del result[key]
        else:
            name = NAMES[int(random.integers(len(NAMES)))]
            result[name] = result.pop(key)
        return result
    if isinstance(value, list) and value and random.random() < 0.7:
        result = list(value)
        place = int(random.integers(len(value)))
        result[place] = mangle(value[place], random, depth + 1)
        return result
    return _anything(random)


def _anything(random):
    kind = int(random.integers(9))
    if kind < 4:
        return NUMBERS[int(random.integers(len(NUMBERS)))]
    if kind < 6:
        return NAMES[int(random.integers(len(NAMES)))]
    if kind == 6:
        nest = []
        for _ in range(int(random.integers(1, 60))):
            nest = [nest]
        return nest
    return [None, True, False, {}, [], [1] * 40, {'shape': [2**62, 4]}][
        int(random.integers(7))
    ]


def dump(value, random):
    """JSON text of it, sometimes with a key doubled, deeply nested or in no UTF-8."""
    text = json.dumps(value).encode()
    kind = random.random()
    if kind < 0.05:
        return text[:-1] + b', "a": 1, "a": 2}'
    if kind < 0.1:
        deep = int(random.integers(100, 200_000))
        return text[:-1] + b', "a": ' + b'[' * deep + b']' * deep + b'}'
    if kind < 0.15:
        return text.replace(b'"', b'"\xff\xfe', 1)
    if kind < 0.2:
        return text[:-1] + b', "a": ' + b'9' * int(random.integers(10, 20_000)) + b'}'
    return text


def damage_json(data, random):
    """The text of a JSON file, damaged in its text or in its meaning."""
    if random.random() < 0.3:
        return scramble(data, random)
    value = json.loads(data)
    for _ in range(int(random.integers(1, 4))):
        value = mangle(value, random)
    return (
        dump(value, random) if isinstance(value, dict) else json.dumps(value).encode()
    )


def damage_safetensors(data, random):
    """A file whose header fits its length and says something else."""
    if random.random() < 0.4:
        return scramble(data, random)
    size = int.from_bytes(data[:8], 'little')
    header = damage_json(data[8 : 8 + size], random)
    return len(header).to_bytes(8, 'little') + header + data[8 + size :]


def damage_tensorflow(data, random):
    """An index with right checksums over damaged entries."""
    if random.random() < 0.3:
        return scramble(data, random)
    table = read_table(data)
    for _ in range(int(random.integers(1, 4))):
        key = list(table)[int(random.integers(len(table)))]
        if random.random() < 0.7:
            table[key] = scramble(table[key], random)
        else:
            table[scramble(key, random)] = table.pop(key)
    return write_table(sorted(table.items()))


def damage_zip(data, random):
    """A zip archive with right checksums over a damaged pickle, or odd members."""
    if random.random() < 0.4:
        return scramble(data, random)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    out = io.BytesIO()
    deflated = random.random() < 0.1
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, 'w', kind) as archive:
        for name, content in members.items():
            if name.endswith('data.pkl') or random.random() < 0.05:
                content = scramble(content, random)
            if random.random() < 0.02:
                name = name + NAMES[int(random.integers(len(NAMES)))][:1000]
                name = name.encode(errors='replace').decode()
            archive.writestr(name, content)
    result = bytearray(out.getvalue())
    if random.random() < 0.3:
        # A size, an offset or a flag in the central directory.
        place = result.rfind(b'PK\x01\x02', 0, int(random.integers(1, len(result))))
        if place >= 0:
            field = place + int(random.choice([8, 10, 20, 24, 28, 30, 42]))
            struct.pack_into('<I', result, field, int(random.integers(2**32)))
    return bytes(result)


def damage_index(data, random):
    """A sharded index that names other files, or is no index."""
    return damage_json(data, random)


DAMAGES = {
    'tensorflow': damage_tensorflow,
    'safetensors': damage_safetensors,
    'sharded': damage_index,
    'torch_zip': damage_zip,
    'torch_legacy': scramble,
    'keras_h5': scramble,
}


def central_directory(entries, data):
    """A zip archive whose members (name, offset, size, crc) lie wherever it is said."""
    parts = []
    for name, offset, size, crc in entries:
        fields = (0x02014B50, 20, 20, 0, 0, 0, 0, crc, size, size, len(name))
        parts.append(struct.pack('<IHHHHHHIIIH', *fields))
        parts.append(struct.pack('<HHHHII', 0, 0, 0, 0, 0, offset) + name)
    directory = b''.join(parts)
    end = (0x06054B50, 0, 0, len(entries), len(entries), len(directory), len(data), 0)
    return data + directory + struct.pack('<IHHHHIIH', *end)


def local_member(name, content):
    """A stored member as it lies in an archive."""
    fields = (0x04034B50, 20, 0, 0, 0, 0, zlib.crc32(content), len(content))
    head = struct.pack('<IHHHHHIII', *fields, len(content))
    return head + struct.pack('<HH', len(name), 0) + name + content
