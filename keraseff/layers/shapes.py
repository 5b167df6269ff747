"""Shapes that came, against those that were expected."""

import numbers

from keras import ops

# How many steps a state has room for, as the shape of a tensor that holds nothing:
# so it goes with the state through a compiler and through a beam's reordering.
ROOM = 'room'


def is_empty(x):
    """Whether a sequence (b, n, …) is known to have no texts, or no steps."""
    return any(isinstance(size, int) and size == 0 for size in x.shape[:2])


def check_sequence(layer, shape, what='x', steps=None, channels=None):
    """Raise ValueError for a shape that is not (b, n, e).

    Args:
        layer: who expects it.
        what: the argument's name, for the error.
        steps, channels: n and e, where they are settled.
    """
    wanted = ('b', 'n' if steps is None else steps, channels or 'e')
    shape = tuple(shape)
    if any(isinstance(size, list | tuple) for size in shape):
        raise ValueError(
            f'{layer.name}: {len(shape)} tensors came in a list for {what}; give each '
            'as an argument of its own.'
        )
    if not _fits(shape, wanted):
        hint = '; add the axis of the texts, x[None]' if len(shape) == 2 else ''
        raise ValueError(
            f'{layer.name}: {what} of shape {shape} came, a sequence '
            f'{_shown(wanted)} was expected{hint}.'
        )


def check_attended(layer, q, k=None, v=None, dense=None, residual=None):
    """Raise ValueError where the arguments of an attention layer do not fit.

    Args:
        layer: who expects them.
        q, k, v, dense, residual: tensors, or their shapes.
    """
    given = {'q': q, 'k': k, 'v': v, 'dense': dense, 'residual': residual}
    shapes = {
        name: tuple(getattr(x, 'shape', x))
        for name, x in given.items()
        if x is not None
    }
    for name in set(shapes) & set('qkv'):
        check_sequence(layer, shapes[name], name)
    b, m, _ = shapes['q']
    n = shapes.get('k', shapes['q'])[1]
    expected = {
        'k': [(b, None, None)],
        'v': [(b, n, None)],
        'dense': [(b, m, n), (1, m, n)],
        'residual': [(b, None, m, n), (1, None, m, n)],
    }
    for name in set(shapes) & set(expected):
        if not any(_fits(shapes[name], wanted) for wanted in expected[name]):
            raise ValueError(
                f'{layer.name}: {name} of shape {shapes[name]} came, '
                f'{" or ".join(map(_shown, expected[name]))} was expected for q of '
                f'shape {shapes["q"]} and {n} keys.'
            )
    if n == 0 and m != 0:
        raise ValueError(f'{layer.name}: there is no key for q to see; k is empty.')


def check_mask(what, shape, *wanted):
    """Raise ValueError for a part of a `Mask` that is of none of the wanted shapes."""
    if not any(_fits(tuple(shape), sizes) for sizes in wanted):
        raise ValueError(
            f'Mask({what}=…) of shape {tuple(shape)} came, '
            f'{" or ".join(map(_shown, wanted))} was expected.'
        )


def check_padding(padding, shape, what='Mask(padding=…)'):
    """Raise ValueError for a padding mask that is not that of a sequence.

    Args:
        padding: true where a step is real, or None.
        shape: of the sequence, (b, n, …); one row of padding may stand for all texts.
        what: the mask's name, for the error.
    """
    if padding is None:
        return
    b, n = shape[:2]
    found = tuple(padding.shape)
    if not _fits(found, (b, n)) and not _fits(found, (1, n)):
        raise ValueError(
            f'{what} of shape {found} came, {_shown((b, n))} was expected: true for '
            'each step that is not padding.'
        )


def check_mixed(layer, shape, wanted):
    """Raise ValueError where a mechanism's call returned another shape than it must.

    Args:
        layer: the mechanism.
        shape: of what it returned.
        wanted: (b, m, h, d_v).
    """
    if not _fits(tuple(shape), wanted):
        raise ValueError(
            f'{type(layer).__name__} returned mixed values of shape {tuple(shape)}; '
            f'(b, m, h, d_v), here {_shown(wanted)}, was expected.'
        )


def check_built(layer):
    """Raise ValueError for a layer that has no weights yet, which steps need."""
    if not layer.built:
        raise ValueError(
            f'{layer.name} has no weights yet; call the layer once, or build it, first.'
        )


def _fits(shape, wanted):
    """Whether sizes that are known on both sides agree."""
    return len(shape) == len(wanted) and all(
        s == w
        for s, w in zip(shape, wanted, strict=True)
        if isinstance(s, int) and isinstance(w, int)
    )


def _shown(shape):
    sizes = ['…' if size is None else str(size) for size in shape]
    return f'({", ".join(sizes)})'


# States


def with_room(state, batch, length):
    """The state before the first step, which knows how many steps may come.

    Raises:
        ValueError: the length is no whole number.
    """
    whole = isinstance(length, numbers.Integral) and not isinstance(length, bool)
    if not whole or length < 1:
        raise ValueError(
            f'start(length={length!r}): it must be a whole number, at least 1, the '
            'most steps that will come.'
        )
    return {**state, ROOM: ops.zeros((batch, int(length), 0))}


def check_step(layer, x, t, state):
    """Raise ValueError for a step that does not fit the state, where that is known.

    Args:
        layer: with `start(batch, length)`.
        x: the step's sequence, (b, 1, e).
        t: its number.
        state: what came as the state.
    """
    check_built(layer)
    check_sequence(layer, x.shape, steps=1)
    if not isinstance(state, dict) or ROOM not in state:
        shown = sorted(state) if isinstance(state, dict) else type(state).__name__
        raise ValueError(_foreign(layer, shown))
    batch, length, _ = state[ROOM].shape
    found = {name: tuple(value.shape) for name, value in state.items()}
    wanted = _expected(layer, length)
    if set(found) != set(wanted) or not all(
        _fits(found[name], (batch, *wanted[name])) for name in wanted
    ):
        raise ValueError(_foreign(layer, found))
    if isinstance(t, numbers.Real) and not (
        isinstance(t, numbers.Integral) and 0 <= t < length
    ):
        raise ValueError(
            f'step {t} is outside of the {length} steps that start(batch, '
            f'length={length}) made room for, 0 … {length - 1}.'
        )
    if isinstance(x.shape[0], int) and x.shape[0] != batch:
        raise ValueError(
            f'{x.shape[0]} sequences came, but the state is that of {batch}; call '
            f'start with batch={x.shape[0]}.'
        )


def _expected(layer, length):
    """{name: shape of one text} of a state, worked out once for each length."""
    known = getattr(layer, '_state_shapes', (None, ()))
    if known[0] != length:
        made = layer.start(1, length)
        shapes = [(name, *value.shape[1:]) for name, value in made.items()]
        known = layer._state_shapes = (length, tuple(shapes))
    return {name: tuple(shape) for name, *shape in known[1]}


def _foreign(layer, found):
    return (
        f'{layer.name} got the state {found}, which is that of another layer; give '
        'what its own start(batch, length), or its step before, returned.'
    )
