"""What users give, looked at before it is used."""

import math
from numbers import Real

import keras


def check_numbers(least=0.0, most=math.inf, **values):
    """Raise ValueError for an argument that is no number from least to most.

    Args:
        values: the arguments by name.
    """
    for name, value in values.items():
        if isinstance(value, Real) and least <= value <= most and math.isfinite(value):
            continue
        limits = f'of at least {least:g}' if most == math.inf else (
            f'from {least:g} to {most:g}'
        )  # fmt: skip
        raise ValueError(f'{name}={value!r}: expected a number {limits}.')


def check_counts(least=1, **values):
    """Raise ValueError for an argument that is no whole number of at least `least`.

    Args:
        values: the arguments by name.
    """
    for name, value in values.items():
        whole = isinstance(value, Real) and not isinstance(value, bool)
        if not (whole and value == value // 1 and value >= least):
            raise ValueError(
                f'{name}={value!r}: expected a whole number of at least {least}.'
            )


def model_of(model):
    """A `keras.Model`, where a `Transformer` will do that of its own.

    Raises ValueError for anything else.
    """
    own = model if isinstance(model, keras.Model) else getattr(model, 'model', None)
    if not isinstance(own, keras.Model):
        raise ValueError(
            'expected a keras.Model or a built Transformer, got '
            f'{type(model).__name__}.'
        )
    return own


def check_transformer(name, value):
    """Raise ValueError for what is no built `Transformer`, such as its model.

    Args:
        name: of the argument.
    """
    if isinstance(getattr(value, 'model', None), keras.Model):
        return
    if isinstance(value, keras.Model):
        what = 'a keras.Model, which does not tell how its layers belong together'
    else:
        what = type(value).__name__
    raise ValueError(
        f'{name} is {what}; expected the Transformer itself: '
        'build_transformer_model(…, return_keras_model=False).'
    )
