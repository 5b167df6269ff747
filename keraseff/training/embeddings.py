"""Where tricks change numbers: matrices of embeddings, or the vectors looked up."""

from keras import ops

from keraseff.training.layers import find_layer
from keraseff.training.layers import watched
from keraseff.training.objective import Objective
from keraseff.training.objective import differentiate
from keraseff.training.objective import replaced


def find_embeddings(model, names, per='matrix'):
    """What may be changed in a model.

    Args:
        model: a `keras.Model`.
        names: of one embedding layer, or a list.
        per: 'matrix' for the layers' matrices, 'example' for the vectors that they look
            up, which differ from example to example.

    Raises ValueError if a layer is not there, or has no matrix of floats.
    """
    if per not in _KINDS:
        raise ValueError(f'per={per!r}: choose one of {", ".join(map(repr, _KINDS))}.')
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError('name at least one embedding layer.')
    layers = [find_layer(model, n, is_embedding, 'embedding layer') for n in names]
    for layer in layers:
        if not matrix_of(layer).dtype.startswith(('float', 'bfloat')):
            raise ValueError(
                f'the matrix of {layer.name!r} is quantised to '
                f'{matrix_of(layer).dtype}, and whole numbers cannot change a little; '
                'train first and quantise then.'
            )
    return _KINDS[per](layers)


def is_embedding(layer):
    """Whether a layer looks vectors up in a matrix."""
    return getattr(layer, 'embeddings', None) is not None


def matrix_of(layer):
    """An embedding layer's variable; that without the adapters if it has some."""
    own = getattr(layer, '_embeddings', None)
    return layer.embeddings if own is None else own


class Perturbation(Objective):
    """Base of the tricks that change embeddings while a loss is computed.

    Args:
        inner: the objective that it wraps.
        embedding_name: of the embedding layer, or a list of names.
        per: 'matrix' to change the layers' matrices, each as a whole; 'example' to
            change the vectors that they look up, those of each example as a whole.
    """

    def __init__(self, inner, embedding_name='Embedding-Token', per='matrix'):
        super().__init__(inner)
        self.embedding_name, self.per = embedding_name, per

    def attach(self, model):
        """Find the layers."""
        self.places = find_embeddings(model, self.embedding_name, self.per)

    def gradients(self, batch, changes, function=None, scaled=True, **options):
        """`differentiate` of the inner loss, or another, with respect to changes.

        Args:
            scaled: whether by the optimizer's loss scale, if any, as what is a mean
                over many rows needs it in float16.
        """
        function = function or (lambda: self.inner(batch))
        return differentiate(
            lambda *changes: self.places.changed(function, changes),
            changes,
            batch.model.optimizer if scaled else None,
            **options,
        )


class Matrices:
    """The matrices of embedding layers, but the rows that stand for padding."""

    def __init__(self, layers):
        self.layers = layers
        self.variables = [matrix_of(layer) for layer in layers]

    def zeros(self, batch):
        """No change: a tensor for each."""
        return [ops.zeros(v.shape, 'float32') for v in self.variables]

    def changed(self, function, changes, assign=True):
        """function() with the changes added; `assign` as in `replaced`."""
        values = [
            (v, ops.convert_to_tensor(v) + ops.cast(c, v.dtype))
            for v, c in zip(self.variables, changes, strict=True)
        ]
        return replaced(function, values, assign)

    def directions(self, gradients):
        """Each in float32, of norm 1, or 0 where its norm is none.

        That is what an overflow of float16 leaves, for a step that is skipped anyway.
        """
        pairs = zip(self.layers, gradients, strict=True)
        return [_unit(_without_padding(layer, g), None) for layer, g in pairs]

    def limited(self, changes, radius):
        """Each as it is, or as long as the radius where it is longer."""
        return [c * _at_most(_norm(c, None), radius) for c in changes]


class Vectors:
    """The vectors that embedding layers look up, (b, n, e), but those of padding."""

    def __init__(self, layers):
        self.layers = layers
        self.looked = False  # at a whole pass, once

    def zeros(self, batch):
        """No change: a tensor for each."""
        found = [[] for _ in self.layers]

        def note(i, inputs, outputs):
            if _is_lookup(inputs, outputs):
                found[i].append(ops.zeros(ops.shape(outputs), 'float32'))
            if self.looked and all(found):
                raise _Enough
            return outputs

        try:
            with watched(self.layers, note):
                replaced(batch.predict, [], assign=False)
        except _Enough:
            pass
        self._check(found)
        return [zeros[0] for zeros in found]

    def _check(self, found):
        for layer, zeros in zip(self.layers, found, strict=True):
            if len(zeros) != 1:
                raise ValueError(
                    f'{layer.name!r} looks up {len(zeros)} sequences of vectors in a '
                    "pass, and per='example' changes one; use per='matrix'."
                )
        self.looked = True

    def changed(self, function, changes, assign=True):
        """function() with the changes added; `assign` as in `replaced`."""

        def add(i, inputs, outputs):
            if not _is_lookup(inputs, outputs):
                return outputs
            change = ops.cast(changes[i], outputs.dtype)
            mask = self.layers[i].compute_mask(inputs)
            if mask is not None:
                change = change * ops.cast(mask, change.dtype)[..., None]
            return outputs + change

        with watched(self.layers, add):
            return replaced(function, [], assign)

    def directions(self, gradients):
        """Each in float32, of norm 1 for each example, or 0 where its norm is none."""
        return [_unit(g, _inner_axes(g)) for g in gradients]

    def limited(self, changes, radius):
        """Each example's as it is, or as long as the radius where it is longer."""
        return [c * _at_most(_norm(c, _inner_axes(c)), radius) for c in changes]


_KINDS = {'matrix': Matrices, 'example': Vectors}


class _Enough(BaseException):
    """All shapes are known; no `Exception`, which Keras would write more words to."""


def _is_lookup(inputs, outputs):
    # The same layer may also score, with the matrix transposed.
    return len(outputs.shape) == len(inputs.shape) + 1


def _inner_axes(x):
    return tuple(range(1, len(x.shape)))


def _norm(x, axes):
    return ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))


def _unit(x, axes):
    x = ops.cast(x, 'float32')
    norm = _norm(x, axes)
    finite = ops.isfinite(norm)
    return ops.where(finite, x / (ops.where(finite, norm, 1.0) + 1e-8), 0.0)


def _at_most(norm, radius):
    return ops.minimum(1.0, radius / ops.maximum(norm, 1e-8))


def _without_padding(layer, gradient):
    padding = getattr(layer, 'mask_id', None)
    if padding is None and getattr(layer, 'mask_zero', False):
        padding = 0
    if padding is None:
        return gradient
    kept = ops.arange(gradient.shape[0])[:, None] != padding
    return ops.where(kept, gradient, ops.zeros_like(gradient))
