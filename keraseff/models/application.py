"""What a Transformer is used for: encoder, language model, or both in one (UniLM)."""

from keras import ops

from keraseff.layers import Layer

APPLICATIONS = ('encoder', 'lm', 'unilm')


class UniLMMask(Layer):
    """Segment 0 sees itself, segment 1 sees segment 0 and its own past.

    Segment ids (b, n) -> bool (b, n, n), true where a row may see a column.
    https://arxiv.org/abs/1905.03197, https://kexue.fm/archives/6933
    """

    def call(self, segment_ids):
        """The mask."""
        order = ops.cumsum(ops.cast(segment_ids, 'int32'), axis=1)
        return order[:, None, :] <= order[:, :, None]

    def compute_mask(self, x, previous_mask=None):
        """None: a mask has none."""
        return None
