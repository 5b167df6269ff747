"""Attention whose scores are made without multiplications."""

from keras import ops

from keraseff.layers.attention.softmax import Softmax
from keraseff.ops.mitchell import BACKWARDS
from keraseff.ops.mitchell import mitchell_matmul


class MitchellSoftmax(Softmax):
    """softmax(q ∘ kᵀ) ∘ v, each product of ∘ approximated by Mitchell's rule.

    Args:
        dropout: share of the weights dropped while training.
        backward: 'exact' for the gradient of the true products, 'mitchell' for one made
            of Mitchell's products too.
        correct: take the products' bias, 3.8 % too low in the mean, away.

    Raises:
        ValueError: `backward` is another word.

    The attention layer's own division of q by √d is a true one.
    Mogami, 2020, https://arxiv.org/abs/2012.03458
    """

    def __init__(self, dropout=0.0, backward='exact', correct=False, **kwargs):
        super().__init__(dropout, **kwargs)
        if backward not in BACKWARDS:
            raise ValueError(f"backward={backward!r}: use 'exact' or 'mitchell'.")
        self.backward = backward
        self.correct = correct

    def score(self, q, k):
        """(b, m, h, d), (b, n, h, d) -> (b, h, m, n)."""
        q, k = ops.transpose(q, (0, 2, 1, 3)), ops.transpose(k, (0, 2, 3, 1))
        return mitchell_matmul(q, k, self.correct, self.backward)

    def mix(self, weights, v):
        """(b, h, m, n), (b, n, h, d) -> (b, m, h, d)."""
        v = ops.transpose(v, (0, 2, 1, 3))
        mixed = mitchell_matmul(weights, v, self.correct, self.backward)
        return ops.transpose(mixed, (0, 2, 1, 3))
