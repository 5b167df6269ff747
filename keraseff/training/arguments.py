"""What users give, looked at before it is used."""

import keras


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
