"""The contract of a mixer: a layer that stands in the place of attention."""

from keraseff.layers.base import Layer


class Mixer(Layer):
    """Mixes the steps of a sequence in its own way, without queries, keys and values.

    A subclass writes `call(x, mask=None)`, (b, n, e) -> (b, n, e); where it may be
    causal it has the argument `causal`, and `start` and `step`, the same one step at a
    time.

        can_be_causal: it can hide later steps.
    """

    can_be_causal = True

    def start(self, batch, length):
        """The state before the first step, a dict of tensors.

        Args:
            batch: number of sequences.
            length: the most steps that will come.
        """
        if not self.can_be_causal:
            raise ValueError(
                f'{type(self).__name__} sees the whole text at once, so it cannot go '
                'step by step; use a causal one, such as lru.'
            )
        raise NotImplementedError(f'{type(self).__name__} must define start.')

    def step(self, x, t, state):
        """Row t of the causal `call`, from x (b, 1, e) of that step alone.

        Returns:
            (b, 1, e), and the state for the next step.
        """
        raise NotImplementedError(f'{type(self).__name__} must define step.')
