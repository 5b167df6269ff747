"""The switch of BERT-of-Theseus: while training, one of two branches at random."""

import keras
from keras import ops
from keras.src.backend import set_keras_mask

from keraseff.layers.base import Layer


class BinaryRandomChoice(Layer):
    """The second of two tensors with probability `rate` while training, else the first.

    At inference always the second.  The mask is that of the tensor that was chosen.

    Args:
        rate: the probability of the second; it lies in the variable `replacement`, so
            that a callback changes it with no new compilation.
        per_example: one draw for each row; by default one for the whole batch.
        seed: of the draws.

    [(b, …), (b, …)] -> (b, …).
    Xu et al., 2020, https://arxiv.org/abs/2002.02925; https://kexue.fm/archives/7575
    """

    def __init__(self, rate=0.5, per_example=False, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate <= 1:
            raise ValueError(f'rate={rate} is a probability, from 0 to 1.')
        self.rate = rate
        self.per_example = per_example
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Make the variable that holds the rate."""
        if len(input_shape) != 2 or tuple(input_shape[0]) != tuple(input_shape[1]):
            raise ValueError(
                f'{self.name} chooses between two tensors of one shape; it was given '
                f'{" and ".join(str(tuple(shape)) for shape in input_shape)}.'
            )
        self.replacement = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.rate),
            trainable=False,
            autocast=False,
            dtype='float32',
            name='replacement',
        )

    def call(self, inputs, mask=None, training=None):
        """Choose."""
        first, second = inputs
        if not training:
            return second
        rows = ops.shape(second)[0] if self.per_example else 1
        draw = keras.random.uniform((rows,), seed=self.draws, dtype='float32')
        chosen = draw < ops.convert_to_tensor(self.replacement)
        out = ops.where(_spread(chosen, second), second, first)
        masks = [None, None] if mask is None else mask
        if masks[0] is not None and masks[1] is not None:
            chosen = _spread(chosen, masks[1])
            # Not `out._keras_mask =`: JAX's tracers have no room for it.
            set_keras_mask(out, ops.where(chosen, masks[1], masks[0]))
        return out

    def compute_mask(self, inputs, previous_mask=None):
        """The second's, where no choice was made."""
        return None if previous_mask is None else previous_mask[1]

    def compute_output_shape(self, input_shape):
        """That of each."""
        return tuple(input_shape[1])


def _spread(chosen, x):
    return ops.reshape(chosen, (-1,) + (1,) * (len(x.shape) - 1))
