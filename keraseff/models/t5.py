"""T5: an encoder and a decoder in one model, in three versions."""

from keraseff.models.t5_parts import T5_Decoder
from keraseff.models.t5_parts import T5_Encoder
from keraseff.models.t5_parts import T5Part

# Google's T5.1.1 and mT5 were trained with the tanh form, which they call 'gelu'.
_NEWER = {'hidden_act': ['gelu_tanh', 'linear'], 'tie_word_embeddings': False}


class T5(T5Part):
    """T5 whole: [Encoder-Input-Token (b, n), Decoder-Input-Token (b, m)] -> (b, m, v).

    Attributes after `build`, besides `model`:

        encoder, decoder: Keras models of the same layers, to decode step by step:
            `decoder([encoder(ids), begun])`.

    The checkpoint of the whole fits each part alone as well, as `t5_encoder` and
    `t5_decoder`.  See `T5_Decoder` for where this differs from bert4keras.

    Raffel et al., 2020, https://arxiv.org/abs/1910.10683
    """

    parts = ('encoder', 'decoder')
    encoder_class = T5_Encoder
    decoder_class = T5_Decoder

    def __init__(self, options=None, application='encoder', **keywords):
        super().__init__(options, application, **keywords)
        prefix = f'{self.name}_' if self.name else ''
        shared = keywords | {'layers': self.layers}
        self._encoder, self._decoder = (
            kind(options, application, **shared | {'name': f'{prefix}{name}'})
            for kind, name in (
                (self.encoder_class, 'Encoder'),
                (self.decoder_class, 'Decoder'),
            )
        )

    def expect_checkpoint(self):
        """Leave what a checkpoint will overwrite at zero instead of drawing numbers."""
        self._encoder.expect_checkpoint()
        self._decoder.expect_checkpoint()

    def get_inputs(self):
        """Encoder-Input-Token and Decoder-Input-Token, of the two parts."""
        self._encoder.build()
        self._decoder.build()
        self.encoder = self._encoder.model
        self.decoder = self._decoder.model
        return [self._encoder.inputs[0], self._decoder.inputs[1]]

    def call(self, inputs):
        """The decoder on what the encoder made, with its mask."""
        return self._decoder.call([self._encoder.output, inputs[1]])


class T5_1_1_Encoder(T5_Encoder):
    """The encoder of T5.1.1."""

    gated = True
    defaults = _NEWER


class T5_1_1_Decoder(T5_Decoder):
    """The decoder of T5.1.1."""

    gated = True
    defaults = _NEWER


class T5_1_1(T5):
    """T5 with gated networks and an output matrix of its own.

    It was trained with the tanh form of GELU, which bert4keras' configs call 'gelu':
    pass `hidden_act=['gelu_tanh', 'linear']` with them, or call `set_gelu('tanh')`.

    https://arxiv.org/abs/2002.05202
    """

    gated = True
    defaults = _NEWER
    encoder_class = T5_1_1_Encoder
    decoder_class = T5_1_1_Decoder


class MT5_Encoder(T5_1_1_Encoder):
    """The encoder of mT5."""

    norm_name = 'rms_norm'


class MT5_Decoder(T5_1_1_Decoder):
    """The decoder of mT5."""

    norm_name = 'rms_norm'


class MT5(T5_1_1):
    """The multilingual T5.1.1; also T5-PEGASUS, which has BERT's vocabulary.

    Since its version 5, transformers writes `"tie_word_embeddings": true` into every
    mT5's config and decides by the weights; such a model is taken as untied here.  If
    it is not, its file has no `lm_head.weight`: pass `tie_word_embeddings=True`.

    https://arxiv.org/abs/2010.11934
    """

    norm_name = 'rms_norm'
    encoder_class = MT5_Encoder
    decoder_class = MT5_Decoder
