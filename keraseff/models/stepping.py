"""A causal model one step at a time, each layer with a state of its own."""

from keras import ops

from keraseff.layers import Attention
from keraseff.layers.attention.attention import step_arguments


class Stepping:
    """One step through a Transformer's strokes, in place of a whole text.

    Args:
        transformer: a built one, whose layers are used.
        t: the number of the step.
        state: the state of each attention layer, in the order of the blocks.

    Attributes:
        after: the states after the step, complete once all blocks have run.
    """

    def __init__(self, transformer, t, state):
        self.transformer = transformer
        self.t = t
        self.before = list(state)
        self.after = []

    @classmethod
    def begin(cls, transformer, batch, length):
        """The state before the first step."""
        if not transformer.attended:
            raise ValueError(
                f'{type(transformer).__name__} cannot go step by step; built language '
                'models of one sequence can.'
            )
        if not transformer.causal:
            raise ValueError(
                f'{type(transformer).__name__} is not causal with '
                f'application={transformer.application!r}: steps see later ones, so '
                "it cannot go step by step; build it with application='lm'."
            )
        layers = [transformer.apply(name=name) for name in transformer.attended]
        state = [layer.start(batch, length) for layer in layers]
        if transformer.attention_parts.added == 'learned':
            transformer.apply(name='Embedding-Position').check_length(length)
        return state

    def inputs(self, inputs):
        """The model's inputs of this step, its position among them where it has one."""
        inputs = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        inputs = [ops.convert_to_tensor(x, dtype='int32') for x in inputs]
        self._check(inputs)
        if self.transformer.custom_position_ids:
            inputs.append(ops.broadcast_to(self.ids(), ops.shape(inputs[0])))
        return inputs

    def _check(self, inputs):
        transformer = self.transformer
        wanted = len(transformer.inputs) - bool(transformer.custom_position_ids)
        if len(inputs) != wanted:
            raise ValueError(
                f'{len(inputs)} inputs came, but the model has {wanted}: '
                f'{[x.name for x in transformer.inputs]}.'
            )
        layers = len(transformer.attended)
        if len(self.before) != layers or not isinstance(self.before[0], dict):
            raise ValueError(
                f'the state has {len(self.before)} parts, which is that of another '
                f'model: {layers} attention layers want a dict each.  Give what '
                'start(batch, length), or the step before, returned.'
            )
        batch = next(iter(self.before[0].values())).shape[0]
        for x in inputs:
            if tuple(x.shape) != (batch, 1):
                raise ValueError(
                    f'inputs of shape {tuple(x.shape)} came; a step takes one token of '
                    f'each text, and start made room for {batch}: ({batch}, 1).'
                )
        if isinstance(self.t, float) or (isinstance(self.t, int) and self.t < 0):
            raise ValueError(f't={self.t!r} must count the steps, 0, 1, 2, ….')

    def ids(self):
        """The position of the step, (1, 1)."""
        return ops.reshape(ops.cast(self.t, 'int32'), (1, 1))

    def position_arguments(self, position):
        """Arguments of the call of what makes positions for all layers."""
        return step_arguments(position, self.t, self.before[0])

    def attend(self, x, layer):
        """The next attention layer's step."""
        state = self.before[len(self.after)]
        if not isinstance(layer, Attention):
            x, state = layer.step(x, self.t, state)
            self.after.append(state)
            return x
        transformer = self.transformer
        out = layer.step(x, self.t, state, transformer._p, transformer._scores)
        self.after.append(out[-1])
        if layer.return_attention_scores:
            transformer._scores = out[1]
        return out[0]
