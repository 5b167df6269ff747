"""The language of checkpoint tables: two columns of brace patterns."""

import itertools
import re
from collections.abc import Iterator

_GROUP = re.compile(r'\{([^{}]*)\}')
_INDEX = re.compile(r'i(?::(0?\d*d?))?')


class _Pattern:
    """A pattern cut into literal text, alternatives and layer indices."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.groups: list[list[str]] = []
        self.indexed = False
        pieces = _GROUP.split(text)
        self.literals = pieces[::2]
        self.slots = [self._slot(inside) for inside in pieces[1::2]]
        if any('{' in literal or '}' in literal for literal in self.literals):
            raise ValueError(
                f'Braces do not match in {text!r}; groups cannot be nested.'
            )

    def _slot(self, inside: str) -> int | str:
        """The number of a group of alternatives, or the format of a layer index."""
        index = _INDEX.fullmatch(inside)
        if index:
            self.indexed = True
            return index.group(1) or ''
        if ',' not in inside:
            raise ValueError(
                f'{{{inside}}} in {self.text!r} is neither alternatives such as '
                f'{{query,key}} nor a layer index such as {{i}} or {{i:03d}}.'
            )
        self.groups.append(inside.split(','))
        return len(self.groups) - 1

    def fill(self, choices: tuple[int, ...], i: int) -> str:
        parts = [self.literals[0]]
        for slot, literal in zip(self.slots, self.literals[1:], strict=True):
            if isinstance(slot, str):
                parts.append(format(i, slot))
            else:
                parts.append(self.groups[slot][choices[slot]])
            parts.append(literal)
        return ''.join(parts)


def _rows(left: _Pattern, right: _Pattern, layers: int) -> Iterator[tuple[str, str]]:
    sizes = [len(group) for group in left.groups]
    if sizes != [len(group) for group in right.groups]:
        raise ValueError(
            f'Groups do not pair up: {left.text!r} has {len(sizes)} with '
            f'{sizes} alternatives, {right.text!r} has {len(right.groups)} with '
            f'{[len(group) for group in right.groups]}.'
        )
    indices = range(layers) if left.indexed or right.indexed else range(1)
    for i in indices:
        for choices in itertools.product(*map(range, sizes)):
            yield left.fill(choices, i), right.fill(choices, i)


def expand(table: dict[str, str], layers: int, shared: bool = False) -> dict[str, str]:
    """Write out a table of brace patterns, one left name to one right name.

    `{a,b}` stands for alternatives: the k-th group on the left walks in step with the
    k-th on the right, several groups multiply out. `{i}` (also `{i:02d}`) counts the
    layers. A row with `{i}` on its left only maps every layer to one right name, as
    in ALBERT.

    Args:
        table: left pattern -> right pattern.
        layers: how many layers `{i}` runs over, from 0.
        shared: accept two rows that lead to the same right name.

    Raises:
        ValueError: groups that do not pair up, or a name that comes twice.
    """
    names: dict[str, str] = {}
    owner: dict[str, str] = {}
    for left_text, right_text in table.items():
        left, right = _Pattern(left_text), _Pattern(right_text)
        one_for_all = shared or (left.indexed and not right.indexed)
        for name, target in _rows(left, right, layers):
            if name in names:
                raise ValueError(
                    f'{name!r} comes twice on the left; the second time from '
                    f'{left_text!r}.'
                )
            if target in owner and not (
                shared or (one_for_all and owner[target] == left_text)
            ):
                raise ValueError(
                    f'{target!r} comes twice on the right, from {owner[target]!r} '
                    f'and {left_text!r}. Pass shared=True if that is meant.'
                )
            owner[target] = left_text
            names[name] = target
    return names
