"""Sums of several sequences."""

from keras import ops

from keraseff.layers.base import Layer


class Add(Layer):
    """The sum of several tensors; a step is masked where any of them masks it.

    Keras' own layer drops the mask where one of the tensors has none, as segments have.

    [(b, n, e), …] -> (b, n, e).
    """

    def call(self, inputs):
        """The sum."""
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total

    def compute_mask(self, inputs, previous_mask=None):
        """The conjunction of the masks there are."""
        masks = [m for m in previous_mask or () if m is not None]
        seen = masks[0] if masks else None
        for mask in masks[1:]:
            seen = ops.logical_and(seen, mask)
        return seen
