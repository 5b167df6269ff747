"""Taggers that look at pairs of neighbouring labels: CRF and MEMM."""

import weakref

import keras
from keras import ops

from keraseff.backends import compiles_scan
from keraseff.layers.base import Layer
from keraseff.ops import batch_gather
from keraseff.ops import masked_value

_LOADED = weakref.WeakValueDictionary()  # the taggers made from a config, by name


@keras.saving.register_keras_serializable(package='keraseff')
class TaggerMethod:
    """A tagger's loss or metric; unlike a bound method, Keras can save it.

    `load_model` makes the layers before it compiles, so that the method finds the layer
    of the loaded model by its name, and training goes on.
    """

    def __init__(self, layer, name):
        self.layer = layer
        self.__name__ = name

    def __call__(self, y_true, y_pred):
        """What the method of the layer returns."""
        return getattr(type(self.layer), self.__name__)(self.layer, y_true, y_pred)

    def get_config(self):
        """The names of the layer and of its method."""
        return {'layer': self.layer.name, 'method': self.__name__}

    @classmethod
    def from_config(cls, config):
        """The method of the layer of that name that was loaded last."""
        layer = _LOADED.get(config['layer'])
        if layer is None:
            raise ValueError(
                f'No layer {config["layer"]!r} was loaded for the loss or metric '
                f'{config["method"]!r}: use load_model(…, compile=False), then compile.'
            )
        return cls(layer, config['method'])


class _Savable:
    """Decorator of a method that shall come as a `TaggerMethod`."""

    def __init__(self, function):
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, layer, owner):
        if layer is None:
            return self.function
        return TaggerMethod(layer, self.function.__name__)


class _Tagger(Layer):
    """What both share: emissions pass through, the losses and metrics are methods.

    Masked steps leave as rows of `masked_value`, so that losses and metrics know them
    again without being told.  Wherever they stand, they count as if cut out.
    """

    def __init__(self, lr_multiplier=1, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.lr_multiplier = lr_multiplier
        # Keras' 'auto' would choose XLA on a GPU, where the loop may not compile.
        self.supports_jit = compiles_scan()

    @classmethod
    def from_config(cls, config):
        """The layer that `get_config` described."""
        layer = super().from_config(config)
        _LOADED[layer.name] = layer
        return layer

    def _add_scaled_weight(self, shape, name):
        draw = keras.initializers.GlorotUniform()

        def initializer(shape, dtype=None):
            return draw(shape, dtype) / self.lr_multiplier

        return self.add_weight(
            shape=shape, initializer=initializer, autocast=False, name=name
        )

    def _scaled(self, weight):
        return ops.cast(ops.convert_to_tensor(weight), 'float32') * self.lr_multiplier

    def call(self, inputs, mask=None):
        """The emissions (b, n, c) in float32, masked steps hidden."""
        inputs = ops.cast(inputs, 'float32')
        if mask is None:
            return inputs
        mask = ops.cast(mask, 'bool')[..., None]
        return ops.where(mask, inputs, masked_value('float32'))

    def compute_mask(self, inputs, previous_mask=None):
        """None: the padding is already hidden in the emissions."""
        return None

    def compute_output_spec(self, inputs, mask=None):
        """The shape of the inputs, in float32."""
        return keras.KerasTensor(inputs.shape, dtype='float32')

    @_Savable
    def sparse_loss(self, y_true, y_pred):
        """-log p of labels (b, n) given as integers; (b, n, c) -> (b,)."""
        return self.dense_loss(_one_hot(y_true, y_pred), y_pred)

    @_Savable
    def sparse_accuracy(self, y_true, y_pred):
        """The share of real steps whose highest emission is the label's, a scalar."""
        mask = ops.cast(_real(y_pred), 'float32')
        predicted = ops.cast(ops.argmax(y_pred, axis=-1), 'int32')
        labels = ops.reshape(ops.cast(y_true, 'int32'), ops.shape(predicted))
        correct = ops.cast(predicted == labels, 'float32')
        return ops.sum(correct * mask) / ops.maximum(ops.sum(mask), 1)

    @_Savable
    def dense_accuracy(self, y_true, y_pred):
        """`sparse_accuracy` from one-hot labels (b, n, c)."""
        return self.sparse_accuracy(ops.argmax(y_true, axis=-1), y_pred)


class ConditionalRandomField(_Tagger):
    """p(y) = exp(Σ_t e_t(y_t) + Σ_t A(y_t-1, y_t)) / Z, over all paths of labels.

    Args:
        lr_multiplier: A is stored divided by this and multiplied back in use, so that
            under Adam it learns that many times faster than the rest; 1000 with a
            learning rate of 2e-5 is usual for a BERT.

    (b, n, c) -> (b, n, c), the emissions themselves in float32.  Train with
    `model.compile(loss=crf.sparse_loss, metrics=[crf.sparse_accuracy])`, or the dense
    twins where the labels are one-hot; decode with a `ViterbiDecoder` and
    `keras.ops.convert_to_numpy(crf.trans)`.
    Lafferty et al., 2001; https://kexue.fm/archives/5542, /archives/7196
    """

    def build(self, input_shape):
        """Make the transitions A."""
        self._trans = self._add_scaled_weight((input_shape[-1],) * 2, 'trans')

    @property
    def trans(self):
        """A (c, c), from the row's label to the column's."""
        return self._scaled(self._trans)

    @_Savable
    def dense_loss(self, y_true, y_pred):
        """-log p of one-hot labels; (b, n, c), (b, n, c) -> (b,), in float32."""
        y_pred, mask = _centred(y_pred)
        labels = ops.where(mask[..., None], ops.cast(y_true, 'float32'), 0)
        return self._log_z(y_pred, mask) - self._score(labels, y_pred, mask)

    def _score(self, labels, emissions, mask):
        emitted = ops.sum(labels * emissions, axis=(1, 2))
        labels = batch_gather(labels, _real_first(mask))
        moved = ops.matmul(labels[:, :-1], self.trans) * labels[:, 1:]
        return emitted + ops.sum(moved, axis=(1, 2))

    def _log_z(self, emissions, mask):
        """Log Σ over all paths; (b, n, c), (b, n) -> (b,).

        The left half runs forward and the right half backward, side by side in one
        loop of n/2 steps, and they meet in the middle.
        """
        emissions = ops.transpose(emissions, (1, 0, 2))  # (n, b, c)
        mask = ops.transpose(mask)[..., None]  # (n, b, 1)
        n, trans = ops.shape(emissions)[0], self.trans
        odd, half = n % 2, (n + 1) // 2
        emissions = ops.pad(emissions, [(0, odd), (0, 0), (0, 0)])
        mask = ops.pad(ops.cast(mask, 'float32'), [(0, odd), (0, 0), (0, 0)])
        real = _two_ends(mask, half)  # (n/2, 2, b, 1)
        later = real * ops.cast(ops.cumsum(real, axis=0) > 1, 'float32')
        steps = _two_ends(emissions, half)  # (n/2, 2, b, c)
        start = ops.sum(steps * (real - later), axis=0)  # (2, b, c)
        both_ways = ops.stack([trans, ops.transpose(trans)])[:, None]  # (2, 1, c, c)

        def step(state, packed):
            emitted, real = packed[..., :-1], packed[..., -1:] > 0
            moved = ops.logsumexp(state[..., None] + both_ways, axis=2) + emitted
            return ops.where(real, moved, state), None

        # Packed in one tensor, as Keras' scan on TensorFlow asks for a static length
        # where there are several.
        packed = ops.concatenate([steps, later], axis=-1)
        last, _ = ops.scan(step, start, packed)
        left, right = last[0], last[1]
        met = ops.logsumexp(left[..., None] + trans, axis=1) + right
        started = ops.any(real > 0, axis=0)  # (2, b, 1)
        one_side = ops.where(started[0], left, right)
        both = ops.logical_and(started[0], started[1])
        log_z = ops.logsumexp(ops.where(both, met, one_side), axis=-1)
        return ops.where(ops.logical_or(started[0], started[1])[:, 0], log_z, 0)


class MaximumEntropyMarkovModel(_Tagger):
    """p(y) = Π_t softmax_j(e_t(j) + A(y_t-1, j))[y_t], and the same from right to left.

    Args:
        lr_multiplier: as in `ConditionalRandomField`.
        hidden_dim: None, or the rank of A, for very many labels.

    The loss is the mean of the two directions' -log p: no sum over paths, no loop, and
    the second direction makes up for the label bias of the first.  Shapes, losses and
    metrics as in `ConditionalRandomField`.
    McCallum et al., 2000; both directions: https://kexue.fm/archives/7213
    """

    def __init__(self, lr_multiplier=1, hidden_dim=None, **kwargs):
        super().__init__(lr_multiplier, **kwargs)
        self.hidden_dim = hidden_dim

    def build(self, input_shape):
        """Make A, or its two factors."""
        c = input_shape[-1]
        if self.hidden_dim is None:
            self._trans = self._add_scaled_weight((c, c), 'trans')
        else:
            self._left = self._add_scaled_weight((c, self.hidden_dim), 'l_trans')
            self._right = self._add_scaled_weight((c, self.hidden_dim), 'r_trans')

    @property
    def trans(self):
        """A (c, c), from the row's label to the column's."""
        if self.hidden_dim is None:
            return self._scaled(self._trans)
        left, right = self._scaled(self._left), self._scaled(self._right)
        return ops.matmul(left, ops.transpose(right))

    @_Savable
    def dense_loss(self, y_true, y_pred):
        """The mean of both directions' -log p; (b, n, c), (b, n, c) -> (b,)."""
        y_pred, mask = _centred(y_pred)
        order = _real_first(mask)
        labels = ops.where(mask[..., None], ops.cast(y_true, 'float32'), 0)
        labels, y_pred = batch_gather(labels, order), batch_gather(y_pred, order)
        from_left = ops.matmul(labels[:, :-1], self.trans)
        from_right = ops.matmul(labels[:, 1:], ops.transpose(self.trans))
        forward = y_pred + ops.pad(from_left, [(0, 0), (1, 0), (0, 0)])
        backward = y_pred + ops.pad(from_right, [(0, 0), (0, 1), (0, 0)])
        losses = _log_p(labels, forward) + _log_p(labels, backward)
        return ops.sum(losses, axis=(1, 2)) / -2


def _log_p(labels, logits):
    return labels * ops.log_softmax(logits, axis=-1)


def _real(y_pred):
    """Which steps are no padding.  (b, n, c) -> (b, n)."""
    return ops.max(y_pred, axis=-1) > masked_value('float32') / 2


def _centred(y_pred):
    """The emissions with each step's highest at 0, padding all 0, and the mask.

    The probabilities are the same, and float32 keeps more of their digits.
    """
    y_pred = ops.cast(y_pred, 'float32')
    top = ops.stop_gradient(ops.max(y_pred, axis=-1, keepdims=True))
    return y_pred - top, _real(y_pred)


def _one_hot(y_true, y_pred):
    labels = ops.reshape(ops.cast(y_true, 'int32'), ops.shape(y_pred)[:2])
    return ops.one_hot(labels, y_pred.shape[-1], dtype='float32')


def _real_first(mask):
    """The order that moves padding to the end.  (b, n) -> (b, n)."""
    n = ops.shape(mask)[1]
    return ops.argsort(ops.arange(n) + ops.where(mask, 0, n), axis=1)


def _two_ends(x, half):
    """The first half, and the second reversed.  (n, b, c) -> (n/2, 2, b, c)."""
    return ops.stack([x[:half], ops.flip(x[half:], axis=0)], axis=1)
