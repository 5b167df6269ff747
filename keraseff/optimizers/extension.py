"""How an optimizer class is extended, and found again when a model is reopened."""

import re
from functools import cache
from types import new_class

import keras
from keras import ops

from keraseff import backends
from keraseff.optimizers.arguments import warn_of_none

register = keras.saving.register_keras_serializable


class DenseGradients:
    """An optimizer that gets the gradients of embeddings whole, as in bert4keras.

    On PyTorch it changes weights and slots in place, which Keras does only for the
    classes that it has written anew for PyTorch, and which can not be extended.
    """

    def assign(self, variable, value):
        """Replace."""
        if not backends.assign_in_place(variable, 'copy_', value):
            super().assign(variable, value)

    def assign_add(self, variable, value):
        """Increase."""
        if not backends.assign_in_place(variable, 'add_', value):
            super().assign_add(variable, value)

    def assign_sub(self, variable, value):
        """Lessen."""
        if not backends.assign_in_place(variable, 'sub_', value):
            super().assign_sub(variable, value)

    def _backend_apply_gradients(self, grads, trainable_variables):
        dense = [backends.dense(g) for g in grads]
        with backends.without_gradients():
            super()._backend_apply_gradients(dense, trainable_variables)


class Extension(DenseGradients):
    """What an extension adds to an optimizer class; subclasses are mixed in before it.

    An extension overrides `update_step`, and sees what those within it did, or one of
    the methods around it.  Its arguments come by keyword, and are in its config; those
    that are patterns for `matches` are named in `searched`.
    """

    searched = ()

    def get_config(self):
        """The optimizer's own, and how its class was made."""
        config = super().get_config()
        recipe = vars(type(self)).get('recipe')
        if recipe is not None:
            base, mixins = recipe
            names = [[_name(mixin), name] for mixin, name in mixins]
            config['extended'] = {'base': _name(base), 'extensions': names}
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The optimizer; its class is made anew where this process has none such."""
        config = dict(config)
        extended = config.pop('extended', None)
        made = cls
        if cls is Extension:
            made = _made_again(**extended, custom_objects=custom_objects)
        return super(Extension, made).from_config(config, custom_objects)

    def build(self, variables):
        """Make the slots; warn of `searched` arguments that find no weight."""
        if self.built:
            return
        super().build(variables)
        for kind in type(self).__mro__:
            for name in vars(kind).get('searched', ()):
                warn_of_none(name, getattr(self, name), variables, matches)

    def path_of(self, variable):
        """The path of a weight, such as 'Embedding-Token/embeddings'."""
        # TensorFlow's loop hands out its own variables, which know no path.
        return self._trainable_variables[self._get_variable_index(variable)].path


# All classes made here are saved under one name, and that name leads to `Extension`.
_register = register('keraseff', 'ExtendedOptimizer')
_register(Extension)


def extend(base, mixin, name=None):
    """A class that is `base` extended.

    Args:
        base: an optimizer class of Keras, of ours, already extended, or the user's
            own; that one must be registered with Keras to be saved.
        mixin: a subclass of `Extension`, registered.
        name: of the new class; both names together by default.

    Raises TypeError for what can not be extended, ValueError for another mixin.
    """
    if not isinstance(mixin, type) or not issubclass(mixin, Extension):
        raise ValueError(f'mixin={mixin!r} must be a subclass of Extension')
    _check(base, mixin)
    return _extended(base, mixin, name or base.__name__ + mixin.__name__)


@cache
def _extended(base, mixin, name):
    made = new_class(name, (mixin, base))
    made.__doc__ = f'{base.__name__} with an extension.\n\n{mixin.__doc__}'
    made.__module__ = mixin.__module__
    origin, mixins = vars(base).get('recipe', (base, ()))
    made.recipe = origin, (*mixins, (mixin, name))
    _register(made)
    _register(Extension)
    return made


def matches(path, patterns):
    """Whether a regular expression of the list is found in a weight's path."""
    return any(re.search(pattern, path) for pattern in patterns)


def norm(x):
    """The Euclidean length of a whole tensor, in float32."""
    return ops.sqrt(ops.sum(ops.square(ops.cast(x, 'float32'))))


def _check(base, mixin):
    if not isinstance(base, type) or not issubclass(base, keras.optimizers.Optimizer):
        raise TypeError(
            f'{base!r} is no optimizer class; extend a class such as '
            'keras.optimizers.Adam, and make the optimizer from what comes out.'
        )
    if issubclass(base, keras.optimizers.LossScaleOptimizer):
        raise TypeError('Extend the class of the optimizer inside LossScaleOptimizer.')
    if hasattr(base, '_parallel_update_step'):
        raise TypeError(
            f"{base} is Torch's variant of an optimizer, which updates all weights at "
            f'once; extend keras.optimizers.{base.__name__} itself.'
        )
    if issubclass(base, mixin):
        raise TypeError(f'{base.__name__} has the extension {mixin.__name__} already.')


def _name(cls):
    """What a class is called in a saved file."""
    name = keras.saving.get_registered_name(cls)
    known = getattr(keras.optimizers, name, cls)
    if known is not cls:
        raise ValueError(
            f'{cls} has the name of one of Keras but is not it; decorate it with '
            '@keras.saving.register_keras_serializable() to save it.'
        )
    return name


def _made_again(base, extensions, custom_objects):
    made = _found(base, custom_objects)
    for mixin, name in extensions:
        made = extend(made, _found(mixin, custom_objects), name)
    return made


def _found(name, custom_objects):
    found = keras.saving.get_registered_object(name, custom_objects)
    found = found or getattr(keras.optimizers, name, None)
    if found is None:
        raise ValueError(
            f'The optimizer was made from {name!r}, which is not known here; import '
            'its module first, or pass it in custom_objects.'
        )
    return found
