"""Pickles read as data: an interpreter that can build values and call nothing else.

The standard `pickle` runs whatever a file names. Here `pickletools` only cuts the
file into instructions, and the few that build plain values are carried out by hand.
"""

import os
import pickletools
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from keraseff.checkpoints.base import CheckpointError

_MAX_DEPTH = 64
_SCALARS = (str, bytes, int, float, bool, type(None))
_IGNORED = {'PROTO', 'FRAME', 'STOP'}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}
_EMPTY = {'EMPTY_LIST': list, 'EMPTY_DICT': dict, 'EMPTY_SET': set}
_ARGUMENTS = set(
    'INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING '
    'SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE '
    'SHORT_BINUNICODE BINUNICODE8'.split()
)
_FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    RecursionError,
    struct.error,
)


class Known:
    """A name that a pickle may mention: a function it may call, or a constant.

    Args:
        value: what the name stands for.
        calls: whether the pickle may call it.
    """

    def __init__(self, value: object, calls: bool = True) -> None:
        self.value = value
        self.calls = calls


def _as_bytes(text: str, encoding: str) -> bytes:
    if encoding not in ('latin1', 'latin-1'):
        raise ValueError('bytes are encoded in an unusual way')
    return text.encode('latin1')


# Python 2's names come from protocols 0 to 2.
BUILTINS = {
    ('collections', 'OrderedDict'): Known(lambda pairs=(): _dict(pairs)),
    ('_codecs', 'encode'): Known(_as_bytes),
    ('builtins', 'set'): Known(lambda items=(): set(_keys(items))),
    ('__builtin__', 'set'): Known(lambda items=(): set(_keys(items))),
    ('builtins', 'frozenset'): Known(lambda items=(): frozenset(_keys(items))),
    ('__builtin__', 'frozenset'): Known(lambda items=(): frozenset(_keys(items))),
}


def _key(value: object) -> object:
    flat = isinstance(value, tuple) and all(isinstance(v, _SCALARS) for v in value)
    if flat or isinstance(value, _SCALARS):
        return value
    raise ValueError(f'a {type(value).__name__} is used as a key')


def _keys(items: object) -> list:
    if not isinstance(items, (list, tuple)):
        raise ValueError('a set is not made from a list')
    return [_key(item) for item in items]


def _dict(pairs: object) -> dict:
    if not isinstance(pairs, (list, tuple)):
        raise ValueError('a dict is not made from pairs')
    return {_key(key): value for key, value in pairs}


class _Machine:
    """The stack and the memo while one pickle is read."""

    def __init__(
        self, known: dict[tuple[str, str], Known], persistent: Callable | None
    ) -> None:
        self.known = known
        self.persistent = persistent
        self.stack: list = []
        self.below: list[list] = []
        self.memo: dict[int, object] = {}

    def step(self, name: str, argument: object) -> None:
        if name in _IGNORED:
            return
        if name in _ARGUMENTS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in ('PUT', 'BINPUT', 'LONG_BINPUT'):
            self.memo[argument] = self.stack[-1]
        elif name in ('GET', 'BINGET', 'LONG_BINGET'):
            self.stack.append(self.memo[argument])
        elif name in _HANDLERS:
            _HANDLERS[name](self)
        elif name == 'GLOBAL':
            self.find(*argument.split(' ', 1))
        else:
            raise ValueError(f'the instruction {name} is not allowed')

    def find(self, module: str, name: str) -> None:
        found = self.known.get((module, name))
        if found is None:
            raise ValueError(
                f'it asks for {module}.{name}, which is not among the names allowed'
            )
        self.stack.append(found if found.calls else found.value)

    def find_on_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError('a global has no name')
        self.find(module, name)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def to_mark(self) -> list:
        items, self.stack = self.stack, self.below.pop()
        return items

    def take(self, count: int) -> list:
        if count > len(self.stack):
            raise ValueError('its stack runs empty')
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def push(self, value: object) -> None:
        # `stack.append(to_mark())` would append to the list that is being taken away.
        self.stack.append(value)

    def push_pairs(self, items: list) -> None:
        self.push(_dict(list(zip(items[::2], items[1::2], strict=True))))

    def extend(self, kind: type, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not kind:
            raise ValueError(f'a {type(target).__name__} is filled like a {kind}')
        if kind is list:
            target.extend(items)
        elif kind is set:
            target.update(_keys(items))
        else:
            target.update(_dict(list(zip(items[::2], items[1::2], strict=True))))

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Known) or not isinstance(arguments, tuple):
            raise ValueError('it calls something that is no known function')
        self.stack.append(function.value(*arguments))

    def resolve(self, identity: object) -> None:
        if self.persistent is None:
            raise ValueError('it refers to data outside itself')
        self.stack.append(self.persistent(identity))


_HANDLERS: dict[str, Callable[[_Machine], object]] = {
    'MARK': _Machine.mark,
    'POP': lambda m: m.stack.pop() if m.stack else m.to_mark(),
    'POP_MARK': _Machine.to_mark,
    'DUP': lambda m: m.push(m.stack[-1]),
    'MEMOIZE': lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    'TUPLE': lambda m: m.push(tuple(m.to_mark())),
    'TUPLE1': lambda m: m.push(tuple(m.take(1))),
    'TUPLE2': lambda m: m.push(tuple(m.take(2))),
    'TUPLE3': lambda m: m.push(tuple(m.take(3))),
    'LIST': lambda m: m.push(m.to_mark()),
    'DICT': lambda m: m.push_pairs(m.to_mark()),
    'FROZENSET': lambda m: m.push(frozenset(_keys(m.to_mark()))),
    'APPEND': lambda m: m.extend(list, m.take(1)),
    'APPENDS': lambda m: m.extend(list, m.to_mark()),
    'ADDITEMS': lambda m: m.extend(set, m.to_mark()),
    'SETITEM': lambda m: m.extend(dict, m.take(2)),
    'SETITEMS': lambda m: m.extend(dict, m.to_mark()),
    'STACK_GLOBAL': _Machine.find_on_stack,
    'REDUCE': _Machine.call,
    'NEWOBJ': _Machine.call,
    # An object's own attributes, such as a state dict's `_metadata`, carry no weights.
    'BUILD': lambda m: m.stack.pop(),
    'BINPERSID': lambda m: m.resolve(m.stack.pop()),
}


def read_pickle(
    path: Path,
    stream: BinaryIO | bytes,
    known: dict[tuple[str, str], Known],
    persistent: Callable | None = None,
) -> object:
    """The value of the one pickle that begins where the stream stands.

    Args:
        path: named in errors.
        stream: the pickle, or a file that holds it and perhaps more behind it.
        known: (module, name) -> what the pickle may use under that name.
        persistent: makes a value of a persistent id; None forbids them.

    Raises:
        CheckpointError: damaged, or it asks for anything else.
    """
    machine = _Machine(known, persistent)
    try:
        with warnings.catch_warnings():
            # Odd escapes in the strings of protocol 0 are warned of.
            warnings.simplefilter('ignore', DeprecationWarning)
            for instruction, argument, _ in pickletools.genops(stream):
                machine.step(instruction.name, argument)
        value = machine.stack.pop()
        check_depth(value)
    except CheckpointError:
        raise
    except _FAULTS as error:
        reason = f'holds a pickle that is damaged or not allowed: {error}'
        raise CheckpointError(path, f'{reason:.300}.') from error
    return value


def check_depth(value: object) -> None:
    """Refuse what is nested deeper than any weights; cycles end by themselves."""
    seen: set[int] = set()
    level = [value]
    for _ in range(_MAX_DEPTH):
        following: list = []
        for each in level:
            if id(each) in seen or not isinstance(each, (dict, list, tuple)):
                continue
            seen.add(id(each))
            following.extend(each.values() if isinstance(each, dict) else each)
        if not following:
            return
        level = following
    raise ValueError(f'it is nested deeper than {_MAX_DEPTH}')


def load_restricted_pickle(path: str | os.PathLike[str]) -> object:
    """A pickled value of plain containers and scalars, such as a vocabulary.

    Raises:
        CheckpointError: the pickle is damaged or names any class or function beyond
            Python's own containers; nothing it names is ever run.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(path, f'cannot be read: {error}.') from error
    return read_pickle(path, data, BUILTINS)
