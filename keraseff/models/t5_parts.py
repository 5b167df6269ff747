"""The parts of T5: an encoder, and a decoder that attends to what it made."""

from keras.layers import Activation
from keras.layers import Dense
from keras.layers import Input

from keraseff.checkpoints import expand
from keraseff.layers import Embedding
from keraseff.layers import Layer
from keraseff.layers import T5Relative
from keraseff.models.t5_config import T5_ALIASES
from keraseff.models.t5_config import T5Config
from keraseff.models.t5_config import translate_t5
from keraseff.models.t5_names import ALTERNATIVES
from keraseff.models.t5_names import IGNORED
from keraseff.models.t5_names import t5_names
from keraseff.models.transformer import Transformer


class OutputScale(Layer):
    """x × factor, for a fixed factor.

    (b, m, e) -> (b, m, e).
    """

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        """The product."""
        return x * self.factor


class T5Part(Transformer):
    """What the encoder and the decoder have in common.

    Attributes:
        parts: which of 'encoder' and 'decoder' the model has.
        norm_name: what Google's files of this version call a normalisation.
        gated: whether they have gated networks, unless `hidden_act` says otherwise.
    """

    parts = ()
    norm_name = 'layer_norm'
    gated = False
    applications = ('encoder',)
    position = T5Relative
    pre_norm = True
    norm_arguments = {'zero_mean': False, 'offset': False}
    attention_arguments = {'attention_scale': False}
    use_bias = False
    epsilon = 1e-6
    heads = ('lm',)
    reads_padding = True
    adds_positions = False
    config_class = T5Config
    aliases = T5_ALIASES
    defaults = {'hidden_act': 'relu'}
    alternatives = ALTERNATIVES
    ignored = IGNORED
    others = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.names = t5_names(cls.parts, cls.gated, cls.norm_name)

    def __init__(self, options=None, application='encoder', **keywords):
        if application not in self.applications:
            known = ' or '.join(map(repr, self.applications))
            raise ValueError(
                f'application={application!r}: {type(self).__name__} has {known} only; '
                'its decoder is a language model anyway.'
            )
        super().__init__(options, application, **keywords)
        # On the object, not the class: the decoder's tensors do tell whose file it is.
        if self.others:
            self.ignored = f'{self.ignored}|{self.others}'

    def translate(self, options):
        """Hugging Face's word for the activation, and who scores the tokens."""
        return translate_t5(super().translate(options))

    def position_arguments(self):
        """Buckets that tell earlier keys from later ones, unless there are none."""
        return {
            'heads': self.num_attention_heads,
            'buckets': self.relative_attention_num_buckets,
            'max_distance': self.relative_attention_max_distance,
            'bidirectional': not self.causal,
        }

    def token_input(self, side):
        """The input of ids, int32 (b, n)."""
        return self.apply(
            shape=(self.sequence_length,),
            dtype='int32',
            layer=Input,
            name=f'{side}-Input-Token',
        )

    def embed(self, ids, side):
        """The vectors of the tokens, mapped to the hidden size."""
        x = self.apply(
            ids,
            Embedding,
            input_dim=self.vocab_size,
            output_dim=self.embedding_size,
            embeddings_initializer=self.initializer,
            mask_id=self.pad_token_id,
            name='Embedding-Token',
        )
        x = self.dropout(x, f'{side}-Embedding-Dropout')
        return self.map_size(x, self.hidden_size, f'{side}-Embedding-Mapping')

    def map_size(self, x, units, name):
        """A Dense, or nothing where the size is right already."""
        if x.shape[-1] == units:
            return x
        return self.dense(x, units, name)

    def dense(self, x, units, name):
        """A matrix without bias."""
        return self.apply(
            x,
            Dense,
            units=units,
            use_bias=False,
            kernel_initializer=self.initializer,
            name=name,
        )

    def start(self, batch, length):
        """Raise ValueError: the decoder needs what the encoder made as well."""
        raise ValueError(
            f'{type(self).__name__} cannot go step by step; call its decoder on the '
            "encoder's output and all that is written so far."
        )

    def relative_position(self, x, side, **arguments):
        """The biases of all blocks' scores, from one table."""
        return self.attention_parts.apply_position(
            x,
            f'{side}-Embedding-Relative-Position',
            arguments,
            embeddings_initializer=self.initializer,
        )

    def table(self, dialect):
        """{'Layer/variable': tensor}, for two numbers of layers."""
        super().table(dialect)  # refuses a dialect that it does not know
        gated = isinstance(self.hidden_act, list | tuple) and len(self.hidden_act) > 1
        rows = t5_names(self.parts, gated, self.norm_name)[dialect]
        decoder = {k: v for k, v in rows.items() if k.startswith('Decoder-')}
        others = {k: v for k, v in rows.items() if k not in decoder}
        return expand(others, self.num_hidden_layers) | expand(
            decoder, self.num_decoder_layers
        )


class T5_Encoder(T5Part):
    """T5's encoder: blocks before whose layers stands an RMSNorm, without biases.

    Input-Token (b, n) -> (b, n, e).  https://arxiv.org/abs/1910.10683
    """

    parts = ('encoder',)
    heads = ()
    others = r'^decoder[./]|^lm_head\.'

    def get_inputs(self):
        """Encoder-Input-Token."""
        return [self.token_input('Encoder')]

    def apply_embeddings(self, inputs):
        """The tokens' vectors; positions are made ready for the attention layers."""
        x = self.embed(inputs[0], 'Encoder')
        self._p = self.relative_position(x, 'Encoder')
        return x

    def apply_main_layers(self, x, index):
        """Attention, then feed-forward."""
        name = f'Encoder-Transformer-{index}'
        x = self.residual(x, f'{name}-MultiHeadSelfAttention', self.attend)
        return self.residual(x, f'{name}-FeedForward', self.feed_forward)

    def apply_final_layers(self, x):
        """The last normalisation."""
        x = self.norm(x, 'Encoder-Output-Norm')
        return self.dropout(x, 'Encoder-Output-Dropout')


class T5_Decoder(T5Part):
    """T5's decoder: a language model that attends to a context besides.

    Where references disagree it does what its authors' code and their configs say:
    only embeddings that score the tokens see the output divided by √e, and attention
    to the context knows no positions.  bert4keras always divides, and adds the
    decoder's positions to that attention: `scale_decoder_outputs=True,
    cross_position_bias=True` gives its outputs.

    Padding of the context is masked if the tensor has a Keras mask, as what an encoder
    returns does when it is called; arrays have none, and then all steps are seen.

    [Input-Context (b, n, e), Decoder-Input-Token (b, m)] -> (b, m, v), or (b, m, e) if
    `with_lm` is False.  https://arxiv.org/abs/1910.10683
    """

    parts = ('decoder',)
    others = r'^encoder[./]'
    applications = ('encoder', 'lm')
    causal = True

    def build(self):
        """Lay the graph and make `model`."""
        super().build()
        # Keras would warn that the context's mask ends in the model, as it should; so
        # long as the tokens have a mask, it is theirs that the output has.
        self.model.supports_masking = self.pad_token_id is not None

    def get_inputs(self):
        """Input-Context and Decoder-Input-Token."""
        context = self.apply(
            shape=(self.sequence_length, self.hidden_size),
            dtype='float32',
            layer=Input,
            name='Input-Context',
        )
        return [context, self.token_input('Decoder')]

    def call(self, inputs):
        """The graph, on a context and on ids; it may be laid more than once."""
        self._scores = self._cross_scores = None
        x = self.apply_embeddings(inputs)
        for index in range(self.num_decoder_layers):
            x = self.apply_main_layers(x, index)
        return self.apply_final_layers(x)

    def apply_embeddings(self, inputs):
        """The tokens' vectors; positions are made ready for the attention layers."""
        self._context, ids = inputs
        x = self.embed(ids, 'Decoder')
        self._p = self.relative_position(x, 'Decoder')
        self._cross_p = None
        if self.cross_position_bias:
            self._cross_p = self.relative_position(x, 'Decoder', keys=self._context)
        return x

    def apply_main_layers(self, x, index):
        """Attention, attention to the context, then feed-forward."""
        name = f'Decoder-Transformer-{index}'
        x = self.residual(x, f'{name}-MultiHeadSelfAttention', self.attend)
        x = self.residual(x, f'{name}-MultiHeadCrossAttention', self.attend_to_context)
        return self.residual(x, f'{name}-FeedForward', self.feed_forward)

    def attend_to_context(self, x, name):
        """Attention of the decoder's steps to the encoder's."""
        arguments = {'k': self._context, 'v': self._context}
        arguments |= {'p': self._cross_p, 'residual': self._cross_scores}
        positioned = self._cross_p is not None
        out, self._cross_scores = self.attention_layer(x, name, arguments, positioned)
        return out

    def apply_final_layers(self, x):
        """The last normalisation, and the scores of the next token."""
        x = self.norm(x, 'Decoder-Output-Norm')
        x = self.dropout(x, 'Decoder-Output-Dropout')
        if not self.with_lm:
            return x
        if self.scale_decoder_outputs:
            factor = self.hidden_size**-0.5
            x = self.apply(x, OutputScale, factor=factor, name='Decoder-Output-Scale')
        x = self.map_size(x, self.embedding_size, 'Decoder-Output-Mapping')
        if self.tie_word_embeddings:
            x = self.apply(
                x, Embedding, arguments={'mode': 'dense'}, name='Embedding-Token'
            )
        else:
            x = self.dense(x, self.vocab_size, 'Decoder-Output-LM')
        return self.apply(
            x,
            Activation,
            activation='softmax' if self.with_lm is True else self.with_lm,
            dtype='float32',
            name='Decoder-Output-LM-Activation',
        )
