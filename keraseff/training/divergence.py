"""How much a model's outputs differ between two passes, as one number."""

import keras
from keras import ops

from keraseff.losses.consistency import DIVERGENCES
from keraseff.training.objective import mask_of


class Divergence:
    """KL(p ‖ q) of a model's outputs in two passes, a mean over rows and steps.

    Args:
        kind: 'softmax' for classes of which one is right, 'sigmoid' for independent
            ones, a function (target, y_pred) -> (…), a list of these for several
            outputs, or None to see what the compiled loss is.
        from_logits: whether the outputs are scores, not probabilities; None to ask the
            compiled loss.
        weighted: whether sample_weight weighs it too.  If not, rows of weight 0 take
            part, as unlabelled ones should.
        temperature: the scores are divided by it.
        target_from_logits: the same of the targets; None if they are like the outputs,
            a list for several.

    Masked steps do not count.  Several outputs add up.
    """

    def __init__(
        self, kind=None, from_logits=None, weighted=False, temperature=1.0,
        target_from_logits=None,
    ):  # fmt: skip
        if isinstance(kind, str) and kind not in DIVERGENCES:
            raise ValueError(
                f'kind={kind!r}: choose one of {", ".join(map(repr, DIVERGENCES))}, '
                'or a function (target, y_pred) -> (…).'
            )
        self.kind, self.from_logits = kind, from_logits
        self.weighted, self.temperature = weighted, temperature
        self.target_from_logits = target_from_logits

    def attach(self, model):
        """Find out from the compiled loss what was not said."""
        self.functions = self.functions_of(model)

    def functions_of(self, model):
        """For each output, (target, y_pred) -> (…)."""
        outputs = len(model.outputs) if getattr(model, 'outputs', None) else None
        losses = _losses(model, outputs)
        kinds = self.kind if isinstance(self.kind, list) else [self.kind] * len(losses)
        taught = self.target_from_logits
        taught = taught if isinstance(taught, list) else [taught] * len(losses)
        every = zip(kinds, losses, taught, strict=True)
        return [self._function(*one) for one in every]

    def _function(self, kind, loss, target_from_logits):
        if callable(kind):
            return kind
        kind = kind or _kind_of(loss)
        from_logits = self.from_logits
        if from_logits is None:
            from_logits = _from_logits(loss)
        options = {'from_logits': from_logits, 'temperature': self.temperature}
        options['target_from_logits'] = target_from_logits
        return lambda target, y: DIVERGENCES[kind](target, y, **options)

    def __call__(self, batch, target, y_pred):
        """The scalar, float32; gradients flow into both."""
        targets, outputs = keras.tree.flatten(target), keras.tree.flatten(y_pred)
        weights = self._weights(batch, len(outputs))
        total = 0.0
        for function, p, q, weight in zip(
            _spread(self.functions, len(outputs)), targets, outputs, weights,
            strict=True,
        ):  # fmt: skip
            total = total + masked_mean(function(p, q), mask_of(q), weight)
        return total

    def _weights(self, batch, number):
        if not self.weighted or batch.sample_weight is None:
            return [None] * number
        return _spread(keras.tree.flatten(batch.sample_weight), number)


def _spread(values, number):
    return values * number if len(values) == 1 else values


def masked_mean(values, mask=None, weight=None):
    """The mean of values (…), weighed, over all that the mask does not hide; float32.

    Args:
        mask, weight: of the shape of values, or of its first axes; or None.
    """
    values = ops.cast(values, 'float32')
    counted = ops.ones_like(values)
    if mask is not None:
        counted = counted * _aligned(mask, values)
    weighed = counted if weight is None else counted * _aligned(weight, values)
    # No product: what is masked may be no number.
    values = ops.where(weighed == 0, 0.0, values) * weighed
    return ops.sum(values) / ops.maximum(ops.sum(counted), 1.0)


def _aligned(x, values):
    """Float32 with axes of 1 behind, or without the last one where that is 1."""
    x = ops.cast(x, 'float32')
    rank = len(values.shape)
    if len(x.shape) > rank and x.shape[-1] == 1:
        x = ops.squeeze(x, -1)
    if len(x.shape) > rank:
        raise ValueError(
            f'the weights or the mask have shape {tuple(x.shape)}, and the outputs '
            f'differ by {tuple(values.shape)} numbers; give one weight for each of '
            'these, or for each of their rows.'
        )
    return ops.reshape(x, tuple(ops.shape(x)) + (1,) * (rank - len(x.shape)))


def _losses(model, outputs):
    losses = model.loss
    if isinstance(losses, dict):
        names = getattr(model, 'output_names', None) or list(losses)
        return [losses.get(name) for name in names]
    flat = keras.tree.flatten(losses)
    return flat * outputs if len(flat) == 1 and outputs else flat


def gives_logits(output):
    """Whether an output of a functional model is scores, by its last activation.

    -> True, False for probabilities, or None if that cannot be seen.
    """
    history = getattr(output, '_keras_history', None)
    if history is None:
        return None
    layer = history.operation
    inner = getattr(layer, 'outputs', None)
    if isinstance(layer, keras.Model) and inner:
        return gives_logits(inner[history.tensor_index])
    told = isinstance(layer, (keras.layers.Activation, *_PROJECTIONS))
    last = layer.activation if told else type(layer)
    name = getattr(last, '__name__', '').lower()
    if name == 'linear' and isinstance(layer, _PROJECTIONS):
        return True
    return False if name in ('softmax', 'sigmoid') else None


_PROJECTIONS = keras.layers.Dense, keras.layers.EinsumDense


def _name_of(loss):
    if isinstance(loss, str):
        return loss.lower()
    own = getattr(loss, '__name__', None) or type(loss).__name__
    return own.lower()


def _kind_of(loss):
    name = _name_of(loss)
    independent = ('binary', 'multilabel', 'pointer')
    return 'sigmoid' if any(word in name for word in independent) else 'softmax'


_PROBABILITIES = ('crossentropy', 'kld', 'kullback', 'kl_divergence')


def _from_logits(loss):
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    if 'from_logits' in config:
        return config['from_logits']
    kind = loss if callable(loss) and hasattr(loss, '__name__') else type(loss)
    module = getattr(kind, '__module__', '')
    if module.startswith('keraseff.losses'):
        return True
    theirs = isinstance(loss, str) or module.startswith('keras.')
    if theirs and any(word in _name_of(loss) for word in _PROBABILITIES):
        return False
    raise ValueError(
        f'the compiled loss, {loss!r}, does not tell whether the outputs are scores or '
        'probabilities; say from_logits=True or from_logits=False.'
    )
