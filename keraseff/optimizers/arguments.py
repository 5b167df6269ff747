"""What users give, looked at before it is used."""

import math
import re
import warnings
from numbers import Real


def check_number(least=-math.inf, most=math.inf, below=math.inf, **values):
    """Raise ValueError for an argument that is no finite number within limits.

    Args:
        least, most: that it may be.
        below: that it may not be any more.
        values: the arguments by name.
    """
    for name, value in values.items():
        real = isinstance(value, Real) and math.isfinite(value)
        if real and least <= value <= most and value < below:
            continue
        named = ('at least', least), ('at most', most), ('below', below)
        limits = [f'{text} {limit:g}' for text, limit in named if math.isfinite(limit)]
        raise ValueError(f'{name}={value!r} must be a number {" and ".join(limits)}')


def check_count(least=1, **values):
    """Raise ValueError for an argument that is no whole number of at least `least`.

    Args:
        values: the arguments by name.
    """
    for name, value in values.items():
        real = isinstance(value, Real) and not isinstance(value, bool)
        if not (real and value == value // 1 and value >= least):
            raise ValueError(
                f'{name}={value!r} must be a whole number of at least {least}'
            )


def as_patterns(name, value):
    """A list of regular expressions; a string is one of them, None is none.

    Args:
        name: of the argument, for the message.

    Raises ValueError for what is no regular expression.
    """
    found = [value] if isinstance(value, str) else value or ()
    try:
        found = list(found)
        for pattern in found:
            re.compile(pattern)
    except (TypeError, re.error) as error:
        raise ValueError(
            f'{name}={value!r} must be a list of regular expressions: {error}'
        ) from None
    return found


def warn_of_none(name, texts, variables, found):
    """Warn if texts were given, and none of them is found in a weight's path.

    Args:
        name: of the argument.
        variables: all weights.
        found: (path, texts) -> whether one of them is.
    """
    if texts and variables and not any(found(v.path, texts) for v in variables):
        warnings.warn(
            f'{name}={texts!r} is found in no weight, so it does nothing; paths are '
            f'such as {variables[0].path!r}',
            stacklevel=2,
        )
