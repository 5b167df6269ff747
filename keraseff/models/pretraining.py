"""Models for pretraining: the head scores only the places that are asked for."""

from keras import ops
from keras.layers import Input

from keraseff.layers import Layer


class Gather(Layer):
    """The steps of a sequence at some places.  [(b, n, e), (b, k)] -> (b, k, e)."""

    def call(self, inputs):
        """The steps."""
        x, places = inputs
        return ops.take_along_axis(x, ops.cast(places[:, :, None], 'int32'), axis=1)

    def compute_output_shape(self, input_shape):
        """(b, k, e)."""
        (_, _, channels), (batch, places) = input_shape
        return batch, places, channels

    def compute_mask(self, inputs, previous_mask=None):
        """None: the places are all meant."""
        return None


def at_places(family):
    """A family of models whose heads look at some places only.

    Args:
        family: a subclass of `Transformer` that has the MLM head.

    Returns a subclass, for `build_transformer_model(model=…)`.  It has one more input,
    'Input-Places' (b, k), and gives the scores (b, k, v) of these places.  The weights
    and their names are the family's.  As about one token in seven is to be found, this
    saves most of what the output matrix costs.
    """

    class AtPlaces(family):
        """The family with `Input-Places`."""

        def get_inputs(self):
            places = self.apply(
                shape=(None,), dtype='int32', layer=Input, name='Input-Places'
            )
            return [*super().get_inputs(), places]

        def call(self, inputs):
            *inputs, self._places = inputs
            return super().call(inputs)

        def apply_final_layers(self, x):
            x = self.apply([x, self._places], Gather, name='Output-Places')
            return super().apply_final_layers(x)

    AtPlaces.__name__ = f'{family.__name__}AtPlaces'
    AtPlaces.__doc__ = f'{family.__name__} that scores the tokens at some places.'
    return AtPlaces
