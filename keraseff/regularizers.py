"""Regularizers, for one variable as Keras has them or for a whole model at once."""

import re

import keras
from keras import ops
from keras.regularizers import L2


@keras.saving.register_keras_serializable(package='keraseff')
class WEISSI(keras.regularizers.Regularizer):
    """λ₁ log ‖W‖ + λ₂ ‖W / ‖W‖‖₁, the inner norms being Frobenius'.

    Args:
        lambda1: λ₁.
        lambda2: λ₂.
        least: a norm below which the logarithm does not fall further; it has no lower
            bound itself.

    In a network of ReLUs, weights of some layers may grow and those of others shrink by
    the same factor, and nothing changes; neither does the sum of this over the layers,
    where λ₁ pulls with the same force whatever the scale.  Of L2 that is not true.
    Liu, Cui & Chan, 2020, https://arxiv.org/abs/2008.02965; https://kexue.fm/archives/7681
    """

    def __init__(self, lambda1=1e-4, lambda2=1e-6, least=1e-6):
        self.lambda1, self.lambda2, self.least = lambda1, lambda2, least

    def __call__(self, x):
        """A scalar, float32."""
        x = ops.cast(x, 'float32')
        square = ops.maximum(ops.sum(ops.square(x)), self.least**2)
        share = ops.sum(ops.abs(x)) / ops.sqrt(square)
        return self.lambda1 * 0.5 * ops.log(square) + self.lambda2 * share

    def get_config(self):
        """The constructor's arguments."""
        return {
            'lambda1': self.lambda1,
            'lambda2': self.lambda2,
            'least': self.least,
        }


def apply_to_model(model, regularizer, include=r'kernel$', exclude=()):
    """Regularise many variables of a built model at once.

    Args:
        model: a built `keras.Model`, compiled or not.
        regularizer: a Keras regularizer, or its name; None takes them off.
        include: a regular expression, or several, that a variable's path has to
            contain, such as 'bert/Transformer-0-FeedForward/…/kernel'.  By default
            kernels only: no embeddings, biases or scales.
        exclude: those that it must not contain.

    Returns the paths of the variables that have it now, in the model's order.

    A `.keras` file remembers it of layers whose constructor has an argument for it
    (Dense, Embedding, convolutions …) and that the model's config describes.  Layers
    that attention makes for itself are none of these: call this again after loading.

    Raises:
        ValueError: no trainable variable is left.
    """
    regularizer = keras.regularizers.get(regularizer)
    paths = []
    for layer, variable in _owned(model):
        if not (_finds(include, variable.path) and not _finds(exclude, variable.path)):
            continue
        variable.regularizer = regularizer
        argument = f'{variable.name}_regularizer'
        if hasattr(layer, argument):
            setattr(layer, argument, regularizer)
        paths.append(variable.path)
    if not paths:
        raise ValueError(
            f'none of the {len(model.trainable_variables)} trainable variables of '
            f'{model.name!r} is left by include={include!r} and exclude={exclude!r}; '
            f'their paths look like {model.trainable_variables[0].path!r}.'
            if model.trainable_variables
            else f'{model.name!r} has no trainable variables; build it first.'
        )
    if getattr(model, 'compiled', False):
        model.train_function = model.test_function = None
    return paths


def _owned(model):
    """Each trainable variable once, with the layer that made it."""
    owners = {}
    for layer in model._flatten_layers():
        for variable in layer._trainable_variables:
            owners.setdefault(id(variable), layer)
    return [(owners.get(id(v)), v) for v in model.trainable_variables]


def _finds(patterns, path):
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return any(re.search(pattern, path) for pattern in patterns)


__all__ = ['L2', 'WEISSI', 'apply_to_model']
