"""From a sequence to one vector."""

from keraseff.layers.base import Layer


class FirstToken(Layer):
    """The vector of the first step, [CLS] in BERT.  (b, n, e) -> (b, e)."""

    def call(self, x):
        """The first step."""
        return x[:, 0]

    def compute_mask(self, x, previous_mask=None):
        """None: a vector has no padding."""
        return None
