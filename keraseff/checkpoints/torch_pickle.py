"""What a PyTorch pickle may mention: inert stand-ins for tensors and storages."""

from dataclasses import dataclass

from keraseff.checkpoints.pickled import BUILTINS
from keraseff.checkpoints.pickled import Known

_STORAGES = {
    'DoubleStorage': 'float64',
    'FloatStorage': 'float32',
    'HalfStorage': 'float16',
    'BFloat16Storage': 'bfloat16',
    'LongStorage': 'int64',
    'IntStorage': 'int32',
    'ShortStorage': 'int16',
    'CharStorage': 'int8',
    'ByteStorage': 'uint8',
    'BoolStorage': 'bool',
    'ComplexFloatStorage': 'complex64',
    'ComplexDoubleStorage': 'complex128',
    'UntypedStorage': 'uint8',
}
_DTYPES = (
    'float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 '
    'uint64 bool complex64 complex128'
).split()


@dataclass(frozen=True)
class _StorageType:
    element: str


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file; `start` counts them from the storage's own 0."""

    key: str
    element: str
    numel: int
    start: int = 0


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, of any strides; nothing in it has been checked."""

    storage: Storage
    element: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(
    storage: object, offset: int, shape: tuple, strides: tuple, *_: object
) -> Tensor:
    if not isinstance(storage, Storage):
        raise ValueError('a tensor has no storage')
    return Tensor(storage, storage.element, offset, shape, strides)


def _tensor_of_dtype(storage: object, *rest: object) -> Tensor:
    # offset, shape, strides, requires_grad, hooks, dtype
    made, element = _tensor(storage, *rest[:3]), rest[5]
    if element not in _DTYPES:
        raise ValueError('a tensor has no known dtype')
    return Tensor(made.storage, element, made.offset, made.shape, made.strides)


def _size(items: tuple = ()) -> tuple:
    if not isinstance(items, (list, tuple)):
        raise ValueError('a size is not made from numbers')
    return tuple(items)


def _known() -> dict[tuple[str, str], Known]:
    known = dict(BUILTINS)
    known['torch._utils', '_rebuild_tensor'] = Known(_tensor)
    known['torch._utils', '_rebuild_tensor_v2'] = Known(_tensor)
    known['torch._utils', '_rebuild_tensor_v3'] = Known(_tensor_of_dtype)
    known['torch._utils', '_rebuild_parameter'] = Known(lambda data, *_: data)
    known['torch.nn.parameter', 'Parameter'] = Known(lambda data, *_: data)
    known['torch', 'Size'] = Known(_size)
    known['torch', 'device'] = Known(lambda *_: None)
    for name, element in _STORAGES.items():
        for module in ('torch', 'torch.storage', 'torch.cuda'):
            known[module, name] = Known(_StorageType(element), calls=False)
    for name in _DTYPES:
        known['torch', name] = Known(name, calls=False)
    return known


KNOWN = _known()


def persistent_storage(identity: object, views: bool) -> Storage:
    """The storage that a persistent id describes."""
    if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6:
        raise ValueError('it refers to something that is no storage')
    tag, kind, key, _, numel = identity[:5]
    if tag != 'storage' or not isinstance(kind, _StorageType):
        raise ValueError('it refers to something that is no storage')
    if not isinstance(key, (str, int)) or type(numel) is not int or numel < 0:
        raise ValueError('it refers to a damaged storage')
    view = identity[5] if len(identity) == 6 and views else None
    if view is None:
        return Storage(str(key), kind.element, numel)
    # Before 0.4 a storage could be a window (key, first, length) of another one.
    _, first, length = view
    if (
        type(first) is not int
        or type(length) is not int
        or not (0 <= first <= first + length <= numel)
    ):
        raise ValueError('it refers to a window outside its storage')
    return Storage(str(key), kind.element, numel, first)
