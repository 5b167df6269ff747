"""Sums of several sequences."""

from keraseff.layers.base import Layer


class Add(Layer):
    """The sum of several tensors, with the mask of the first that has one.

    Keras' own layer drops the mask where one of the tensors has none, as segments have,
    and joins it with that of segments which are looked up in the table of the tokens.

    [(b, n, e), …] -> (b, n, e).
    """

    def call(self, inputs):
        """The sum."""
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total

    def compute_mask(self, inputs, previous_mask=None):
        """The first mask there is."""
        return next((m for m in previous_mask or () if m is not None), None)
