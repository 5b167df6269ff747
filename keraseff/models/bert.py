"""BERT."""

from keras.layers import Dense
from keras.layers import Input

from keraseff.layers import Add
from keraseff.layers import Embedding
from keraseff.models.heads import apply_heads
from keraseff.models.transformer import Transformer


class BERT(Transformer):
    """The bidirectional encoder; also RoBERTa-wwm, MacBERT and others of its shape.

    https://arxiv.org/abs/1810.04805
    """

    model_prefixes = ('bert.',)
    # An untied file has a bias at the decoder, and leaves the other one unused.
    alternatives = {'cls.predictions.bias': ('cls.predictions.decoder.bias',)}

    def refuse(self, options):
        """Relative positions would be another model."""
        kind = options.get('position_embedding_type', 'absolute')
        if kind != 'absolute':
            raise ValueError(
                f"position_embedding_type={kind!r}: BERT has 'absolute' positions only."
            )

    @property
    def has_segments(self):
        """Whether there is an input of segments, for their vectors or for a mask."""
        return bool(self.segment_vocab_size or self.application == 'unilm')

    @property
    def embedding_channels(self):
        """Channels in which tokens, segments and positions are summed."""
        return self.embedding_size

    @property
    def maps_embeddings(self):
        """Whether a Dense stands between the embeddings and the first block."""
        return self.embedding_channels != self.hidden_size

    def get_inputs(self):
        """Input-Token, Input-Segment, Input-Position: those the model has."""
        names = ['Input-Token']
        if self.has_segments:
            names.append('Input-Segment')
        if self.custom_position_ids:
            names.append('Input-Position')
        shape = (self.sequence_length,)
        return [
            self.apply(shape=shape, dtype='int32', layer=Input, name=name)
            for name in names
        ]

    def apply_embeddings(self, inputs):
        """Sum of the embeddings, normalised, and mapped to the hidden size."""
        inputs = list(inputs)
        token = inputs.pop(0)
        segment = inputs.pop(0) if self.has_segments else None
        position_ids = inputs.pop(0) if self.custom_position_ids else None
        if segment is not None:
            self.unilm_mask(segment)
        x = self.embed_tokens(token)
        if self.segment_vocab_size and 'segment' in self.embeddings:
            shared = self.shared_segment_embeddings
            name = 'Embedding-Token' if shared else 'Embedding-Segment'
            s = self._embed(segment, name, self.segment_vocab_size)
            x = self.apply([x, s], Add, name='Embedding-Token-Segment')
        x = self.normalise_embeddings(self.apply_position(x, position_ids))
        if self.maps_embeddings:
            x = self.apply(
                x,
                Dense,
                units=self.hidden_size,
                use_bias=self.use_bias,
                kernel_initializer=self.initializer,
                name='Embedding-Mapping',
            )
        return x

    def normalise_embeddings(self, x):
        """Normalisation and dropout of the summed embeddings."""
        return self.dropout(self.norm(x, 'Embedding-Norm'), 'Embedding-Dropout')

    def embed_tokens(self, ids):
        """The vectors of the tokens, padding masked."""
        return self._embed(
            ids, 'Embedding-Token', self.vocab_size, mask_id=self.pad_token_id
        )

    def _embed(self, ids, name, size, **kwargs):
        return self.apply(
            ids,
            Embedding,
            input_dim=size,
            output_dim=self.embedding_channels,
            embeddings_initializer=self.initializer,
            name=name,
            **kwargs,
        )

    def apply_position(self, x, position_ids):
        """Absolute positions are added, others made ready for the attention layers."""
        if self.stepping is not None:
            position_ids = self.stepping.ids()
        ids = {} if position_ids is None else {'position_ids': position_ids}
        x = self.attention_parts.apply_added(x, ids)
        name = self.position_name or 'Embedding-Attention-Position'
        self._p = self.attention_parts.apply_position(x, name, ids)
        return x

    def apply_final_layers(self, x):
        """The heads asked for."""
        return apply_heads(self, x)


_TF = 'bert/encoder/layer_{i}/'
_HF = 'bert.encoder.layer.{i}.'
_TF_MLM = 'cls/predictions/transform/'
_HF_MLM = 'cls.predictions.transform.'

BERT.names = {
    'tensorflow': {
        'Embedding-Token/embeddings': 'bert/embeddings/word_embeddings',
        'Embedding-Segment/embeddings': 'bert/embeddings/token_type_embeddings',
        'Embedding-Position/embeddings': 'bert/embeddings/position_embeddings',
        'Embedding-Norm/{gamma,beta}': 'bert/embeddings/LayerNorm/{gamma,beta}',
        'Embedding-Mapping/{kernel,bias}': (
            'bert/encoder/embedding_hidden_mapping_in/{kernel,bias}'
        ),
        'Transformer-{i}-MultiHeadSelfAttention/{query,key,value}/{kernel,bias}': (
            _TF + 'attention/self/{query,key,value}/{kernel,bias}'
        ),
        'Transformer-{i}-MultiHeadSelfAttention/output/{kernel,bias}': (
            _TF + 'attention/output/dense/{kernel,bias}'
        ),
        'Transformer-{i}-MultiHeadSelfAttention-Norm/{gamma,beta}': (
            _TF + 'attention/output/LayerNorm/{gamma,beta}'
        ),
        'Transformer-{i}-FeedForward/{intermediate,output}/{kernel,bias}': (
            _TF + '{intermediate,output}/dense/{kernel,bias}'
        ),
        'Transformer-{i}-FeedForward-Norm/{gamma,beta}': (
            _TF + 'output/LayerNorm/{gamma,beta}'
        ),
        'Pooler-Dense/{kernel,bias}': 'bert/pooler/dense/{kernel,bias}',
        'NSP-Proba/{kernel,bias}': 'cls/seq_relationship/output_{weights,bias}',
        'MLM-Dense/{kernel,bias}': _TF_MLM + 'dense/{kernel,bias}',
        'MLM-Norm/{gamma,beta}': _TF_MLM + 'LayerNorm/{gamma,beta}',
        'MLM-Bias/beta': 'cls/predictions/output_bias',
        'MLM-Decoder/kernel': 'cls/predictions/output_weights',
    },
    'huggingface': {
        'Embedding-{Token,Segment,Position}/embeddings': (
            'bert.embeddings.{word,token_type,position}_embeddings.weight'
        ),
        'Embedding-Norm/{gamma,beta}': 'bert.embeddings.LayerNorm.{weight,bias}',
        'Embedding-Mapping/{kernel,bias}': (
            'bert.encoder.embedding_hidden_mapping_in.{weight,bias}'
        ),
        'Transformer-{i}-MultiHeadSelfAttention/{query,key,value}/{kernel,bias}': (
            _HF + 'attention.self.{query,key,value}.{weight,bias}'
        ),
        'Transformer-{i}-MultiHeadSelfAttention/output/{kernel,bias}': (
            _HF + 'attention.output.dense.{weight,bias}'
        ),
        'Transformer-{i}-MultiHeadSelfAttention-Norm/{gamma,beta}': (
            _HF + 'attention.output.LayerNorm.{weight,bias}'
        ),
        'Transformer-{i}-FeedForward/{intermediate,output}/{kernel,bias}': (
            _HF + '{intermediate,output}.dense.{weight,bias}'
        ),
        'Transformer-{i}-FeedForward-Norm/{gamma,beta}': (
            _HF + 'output.LayerNorm.{weight,bias}'
        ),
        'Pooler-Dense/{kernel,bias}': 'bert.pooler.dense.{weight,bias}',
        'NSP-Proba/{kernel,bias}': 'cls.seq_relationship.{weight,bias}',
        'MLM-Dense/{kernel,bias}': _HF_MLM + 'dense.{weight,bias}',
        'MLM-Norm/{gamma,beta}': _HF_MLM + 'LayerNorm.{weight,bias}',
        'MLM-Bias/beta': 'cls.predictions.bias',
        'MLM-Decoder/kernel': 'cls.predictions.decoder.weight',
    },
}
