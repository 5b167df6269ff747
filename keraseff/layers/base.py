"""The base of every layer here: the config is written once, for all of them."""

import difflib
import inspect
import numbers
import re

import keras


class Layer(keras.layers.Layer):
    """A Keras layer whose config is its constructor's arguments.

    Each argument of `__init__` is stored under its own name; `get_config` and
    `from_config` then need no line in a subclass.  Every subclass is registered under
    'keraseff', so `keras.models.load_model` finds it once its module is imported.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(package='keraseff')(cls)

    def __init__(self, **kwargs):
        self._check_keywords(kwargs)
        super().__init__(**kwargs)
        self.supports_masking = True

    def _check_keywords(self, kwargs):
        line = type(self).__mro__
        if line[line.index(Layer) + 1] is not keras.layers.Layer:
            return  # another layer's class takes some of them
        known = [*self._argument_names(), *_KERAS]
        for key in kwargs:
            if key not in (*known, 'input_dim', 'input_shape'):
                raise TypeError(
                    f'{type(self).__name__} has no argument {key!r}; it has: '
                    f'{", ".join(known)}.{nearest(key, known)}'
                )

    @classmethod
    def _argument_names(cls):
        names = {}
        for base in reversed(cls.__mro__):
            if issubclass(base, Layer) and '__init__' in vars(base):
                parameters = inspect.signature(base.__init__).parameters.values()
                named = (p.name for p in parameters if p.kind not in _VARIADIC)
                names |= dict.fromkeys(named)
        names.pop('self', None)
        return list(names)

    def get_config(self):
        """The constructor's arguments, nested objects serialised."""
        config = super().get_config()
        for name in self._argument_names():
            value = getattr(self, name)
            config[name] = keras.saving.serialize_keras_object(value)
        policies = self._quantised_parts()
        if policies:
            policy = keras.dtype_policies.DTypePolicyMap(_own(self), policies)
            config['dtype'] = keras.saving.serialize_keras_object(policy)
        return config

    def build_from_config(self, config):
        """Build as before: sublayers frozen, or quantised, if they were."""
        super().build_from_config(config)
        for part in self._flatten_layers():
            if not self.trainable:
                part.trainable = False  # Keras tells them only when it is set
            # Keras' Dense writes a file by the policy that is its own.
            part._dtype_policy = _own(part)

    def _quantised_parts(self):
        """{pattern of a path: policy} of the sublayers that `quantize` changed."""
        found = {}
        for part in self._flatten_layers(include_self=False):
            if part.quantization_mode is not None:
                inner = part.path.removeprefix(f'{self.path}/')
                found[f'(.*/)?{re.escape(f"{self.name}/{inner}")}'] = _own(part)
        return found

    @classmethod
    def from_config(cls, config):
        """The layer that `get_config` described."""
        return cls(**{name: _deserialize(value) for name, value in config.items()})


# What every Keras layer takes.
_KERAS = ('activity_regularizer', 'autocast', 'dtype', 'name', 'trainable')
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _own(layer):
    """A layer's policy, taken from the map that it may share."""
    policy = layer.dtype_policy
    is_map = isinstance(policy, keras.dtype_policies.DTypePolicyMap)
    return policy[layer.path or ''] if is_map else policy


def _deserialize(value):
    if isinstance(value, dict) and 'class_name' in value:
        return keras.saving.deserialize_keras_object(value)
    return value


def make_named(what, name, makers, options=None, /, **offered):
    """The layer that a name stands for.

    Args:
        what: the argument that holds the name, for errors: 'mechanism', 'position' ….
        name: a key of `makers`.
        makers: {name: class or function}.
        options: arguments that the caller asks for; each must be understood.
        offered: arguments that are given to those makers that take them.

    Raises:
        ValueError: nobody bears that name.
        TypeError: an option is unknown, with the nearest known one.
    """
    if name not in makers:
        raise ValueError(
            f'{what}={name!r} is unknown; there are: {", ".join(sorted(makers))}.'
            f'{nearest(str(name).lower(), makers, 0.6)}'
        )
    maker, options = makers[name], dict(options or {})
    check_options(f'{what}={name!r}', maker, options)
    known = (*accepted(maker), 'name', 'dtype')
    offered = {key: value for key, value in offered.items() if key in known}
    return maker(**{**offered, **options})


def check_options(said, maker, options):
    """Raise TypeError for options that a layer's class, or a function, does not take.

    Args:
        said: what asked for it, for the error: "mechanism='performer'".
    """
    taken = accepted(maker)
    for key in options:
        if key not in (*taken, 'name', 'dtype'):
            raise TypeError(
                f'{said} has no option {key!r}; it has: '
                f'{", ".join(taken) or "none"}.{nearest(key, taken)}'
            )


def nearest(name, known, cutoff=0.5):
    """'  Did you mean …?' for the end of an error, or '' where nothing is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f'  Did you mean {near[0]!r}?' if near else ''


def check_sizes(**sizes):
    """Raise ValueError for what is no whole number of 1 or more."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f'{name}={size!r} must be a whole number, at least 1.')


def given(**values):
    """Those that are not None, for checks of what need not be said."""
    return {name: value for name, value in values.items() if value is not None}


def check_positive(**values):
    """Raise ValueError for what is no number above 0."""
    for name, number in values.items():
        if not _is_number(number) or not 0 < number < float('inf'):
            raise ValueError(f'{name}={number!r} must be a number above 0.')


def check_not_negative(**values):
    """Raise ValueError for what is no number of 0 or more."""
    for name, number in values.items():
        if not _is_number(number) or not 0 <= number < float('inf'):
            raise ValueError(f'{name}={number!r} must be a number, at least 0.')


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def accepted(maker):
    """The names of the arguments that a layer's class, or a function, takes."""
    if isinstance(maker, type) and issubclass(maker, Layer):
        return maker._argument_names()
    return list(inspect.signature(maker).parameters)


def left_open(maker):
    """The names of the arguments that have no default, or None."""
    parameters = inspect.signature(maker).parameters.values()
    unset = (inspect.Parameter.empty, None)
    return [p.name for p in parameters if p.default in unset]


def copy_of(layer, **changes):
    """A new layer with the same options, and weights of its own once it is built.

    Args:
        changes: arguments in place of the layer's own, such as `name`.
    """
    return type(layer).from_config({**layer.get_config(), **changes})


class Loss(Layer):
    """A loss inside the graph: subclass it and write `compute_loss`.

    Args:
        output_axis: which of the inputs come out again: None for all, an index, or a
            list of indices.

    `compute_loss(inputs, mask)` returns a scalar that is added to the model's loss.
    """

    def __init__(self, output_axis=None, **kwargs):
        super().__init__(**kwargs)
        self.output_axis = output_axis

    def call(self, inputs, mask=None):
        """Add the loss and pass the chosen inputs through."""
        self.add_loss(self.compute_loss(inputs, mask))
        return self._chosen(inputs)

    def compute_mask(self, inputs, previous_mask=None):
        """The masks of the inputs that come out again."""
        return None if previous_mask is None else self._chosen(previous_mask)

    def _chosen(self, values):
        if self.output_axis is None:
            return values
        if isinstance(self.output_axis, list | tuple):
            return [values[i] for i in self.output_axis]
        return values[self.output_axis]

    def compute_loss(self, inputs, mask=None):
        """The scalar to add to the model's loss; a subclass writes it."""
        raise NotImplementedError(
            f'{type(self).__name__} must define compute_loss(inputs, mask).'
        )
