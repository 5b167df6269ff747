"""What a step of training minimises, and how tricks change it.

An `Objective` takes a `Batch` to a loss.  `PlainObjective` is Keras' own; a trick wraps
the one that is there and asks it once or several times:

    class RDrop(Objective):
        def __call__(self, batch):
            loss, y = self.inner(batch)
            again, z = self.inner(batch)
            return (loss + again) / 2 + self.alpha * divergence(y, z), y

    minimise(model, RDrop, alpha=4.0)

`model.fit`, `train_on_batch`, metrics, callbacks, jit, mixed precision and saving stay
as they were, for only the gradient's function is another; a trick wrapped around a
trick works the same.  `differentiate` gives gradients inside an objective, which may be
differentiated again, and `replaced` evaluates with other numbers in some variables.

Tricks are the model object's, not its file's: see `train_plainly`.
"""

import warnings
from contextlib import nullcontext

import keras
from keras import ops

from keraseff import backends


class Batch:
    """One batch in one step of training.

    Attributes:
        model: the model that is trained.
        x, y, sample_weight: as given to `fit`, nests of tensors; y and sample_weight
            may be None.
        notes: what tricks keep for the step, by trick.
    """

    def __init__(self, model, x, y=None, sample_weight=None):
        self.model = model
        self.x, self.y, self.sample_weight = x, y, sample_weight
        self.notes = {}

    def predict(self, x=None, training=True):
        """The model's outputs, in training (dropout acts) or not, for x or its own."""
        x = self.x if x is None else x
        return backends.call_in_training(self.model, x) if training else self.model(x)

    def loss(self, y_pred):
        """The compiled loss, with regularizers and what layers added; a scalar."""
        return self.model.compute_loss(
            x=self.x, y=self.y, y_pred=y_pred, sample_weight=self.sample_weight,
            training=True,
        )  # fmt: skip

    def regularisation(self):
        """The part of the loss that the variables' regularizers add; a scalar, or 0."""
        variables = self.model.trainable_variables
        found = [v.regularizer(v) for v in variables if v.regularizer is not None]
        return sum(self.model._aggregate_additional_loss(loss) for loss in found)


class Objective:
    """Base of the tricks.

    Args:
        inner: the objective that it wraps.
    """

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, batch):
        """Batch -> (loss, y_pred): a scalar tensor, and outputs for the metrics."""
        raise NotImplementedError

    def attach(self, model):
        """Look at the compiled model once, before training; raise if it cannot do."""

    def detach(self, model):
        """Undo what `attach` did to the model."""

    def prepare(self, batch):
        """Compute once a step what does not depend on the pass."""

    def constants(self):
        """Variables that are not the model's and that a step reads."""
        return []


class PlainObjective(Objective):
    """The compiled loss of the model's outputs."""

    def __init__(self):
        super().__init__(None)

    def __call__(self, batch):
        """Batch -> (loss, y_pred)."""
        y_pred = batch.predict()
        return batch.loss(y_pred), y_pred


def minimise(model, trick, **options):
    """Wrap a trick around what `model.fit` minimises.

    Args:
        model: a compiled `keras.Model`.
        trick: a subclass of `Objective`.
        options: its arguments but `inner`.

    Returns the model, which trains so from now on, after `model.compile` too; see
    `train_plainly`.  A trick that is on the model already, such as by a notebook's cell
    that ran twice, is replaced with a warning; another goes around it.

    Raises ValueError if the model is not compiled, or the trick cannot be applied.
    """
    if not getattr(model, 'compiled', False):
        raise ValueError(
            f'{trick.__name__} changes what model.fit minimises, and the model is not '
            'compiled yet; call model.compile(...) first.'
        )
    others = [one for one in tricks_of(model) if type(one) is not trick]
    inner = others[0] if others else PlainObjective()
    objective = trick(inner, **options)
    _replace(model, objective)
    chain = _chain(objective)

    def begin(*data):
        batch = Batch(*data)
        for one in chain:
            one.prepare(batch)
        return batch

    constants = [variable for one in chain for variable in one.constants()]
    backends.set_objective(model, objective, begin, constants)
    return model


def _replace(model, new):
    """Attach a trick, and take the same off, wherever it is, if that went well."""
    chain = tricks_of(model)
    old = [one for one in chain if type(one) is type(new)]
    for one in old:
        one.detach(model)
    try:
        new.attach(model)
    except ValueError:
        for one in old:
            one.attach(model)
        raise
    for outer in chain:
        while type(outer.inner) is type(new):
            outer.inner = outer.inner.inner
    if old:
        warnings.warn(
            f'{model.name!r} had a {type(new).__name__} already, from before; the new '
            'one takes its place.  train_plainly(model) takes all off.',
            stacklevel=4,
        )


def objective_of(model):
    """The objective that `model.fit` minimises."""
    return getattr(model, 'objective', None) or PlainObjective()


def train_plainly(model):
    """Take all tricks off the model again; returns it.

    `model.compile` leaves them on.  Files do not have them: a saved model opens plain,
    and `callbacks.Checkpoint` keeps numbers alone, so that after loading, or in the
    program that goes on, the tricks are to be put on as before.
    """
    for trick in tricks_of(model):
        trick.detach(model)
    backends.set_objective(model, None, Batch)
    return model


def tricks_of(model):
    """The tricks around the compiled loss, the outermost first."""
    return _chain(objective_of(model))


def _chain(objective):
    found = []
    while objective.inner is not None:
        found.append(objective)
        objective = objective.inner
    return found


class _Updates(keras.StatelessScope):
    """A scope that begins where the present one stands and records what it changes."""

    def __init__(self, replaced=()):
        super().__init__(list(replaced), collect_losses=True)
        self.replaced = {id(variable) for variable, _ in replaced}
        self.updates = {}

    def __enter__(self):
        super().__enter__()
        if self.original_scope is not None:
            self.state_mapping = {
                **self.original_scope.state_mapping,
                **self.state_mapping,
            }
        return self

    def get_current_value(self, variable):
        # The losses of regularizers ask, and cannot do with None.
        value = super().get_current_value(variable)
        return variable._value if value is None else value

    def add_update(self, update):
        super().add_update(update)
        variable, value = update
        if id(variable) not in self.replaced:
            self.updates[id(variable)] = variable, value


def replaced(function, values, assign=True):
    """function() while some variables hold other numbers.

    Args:
        function: takes nothing, gives a nest of tensors.
        values: [(variable, tensor)]; gradients flow into the tensors.
        assign: whether what the function assigns to other variables (dropout's next
            seeds, statistics) is assigned afterwards, so that the next call draws
            other dropout.
    """
    with _state(assign), _Updates(values) as scope:
        result = function()
    for variable, value in scope.updates.values() if assign else ():
        variable.assign(value)
    return result


def _state(moves):
    return nullcontext() if moves else backends.repeatable()


def mask_of(x):
    """The Keras mask that came with a tensor, or None."""
    return getattr(x, '_keras_mask', None)


def differentiate(function, values, optimizer=None, again=False, assign=True):
    """A function's value and its gradients, inside an objective.

    Args:
        function: *values -> (scalar tensor, a nest of tensors).
        values: tensors to differentiate with respect to.
        optimizer: whose loss scaling, if any, keeps small gradients from vanishing in
            float16; the gradients are divided by it again.
        again: whether the gradients will be differentiated themselves.
        assign: whether what the function assigns (dropout's next seeds, statistics) is
            assigned afterwards.  If not, the next call draws the same dropout again.

    Returns (scalar, nest, gradients): as the function gave them, and a list like
    `values`, dense.
    """
    scale = ops.ones(())
    if optimizer is not None:
        scale = optimizer.scale_loss(scale)
    touched = []

    def pure(*values):
        with _Updates() as scope:
            value, nest = function(*values)
        touched[:] = [variable for variable, _ in scope.updates.values()]
        masks = [mask_of(x) for x in keras.tree.flatten(nest)]
        updates = [value for _, value in scope.updates.values()] if assign else []
        return value * ops.cast(scale, value.dtype), (value, nest, masks, updates)

    with _state(assign):
        (value, nest, masks, updates), gradients = backends.differentiate(
            pure, values, again
        )
    for x, mask in zip(keras.tree.flatten(nest), masks, strict=True):
        if mask is not None:
            x._keras_mask = mask  # JAX hands out other tensors than came in
    if assign:
        for variable, update in zip(touched, updates, strict=True):
            variable.assign(update)
    gradients = [g / ops.cast(scale, g.dtype) for g in gradients]
    return value, nest, gradients
