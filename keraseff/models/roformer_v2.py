"""RoFormerV2: RoFormer without biases, with norms that have no weights."""

import keras
from keras.layers import Activation
from keras.layers import Dense

from keraseff.initializers import TruncatedNormal
from keraseff.layers import Embedding
from keraseff.models.roformer import RoFormer


@keras.saving.register_keras_serializable(package='keraseff')
class DepthNormal(keras.initializers.Initializer):
    """A truncated normal of deviation depth^(-1/order) / √h, h the matrix's fan-in.

    Args:
        depth: number of blocks.
        order: 2 in RoFormerV2, 3 in GAU-α.

    As in bert4keras, h is the number of rows, and that of columns where there are less
    than 10 rows or more than 10,000, for then they are ids.  The deviation is that of
    the numbers once they are cut at two of them.
    Su et al., 2022, https://kexue.fm/archives/8998
    """

    def __init__(self, depth, order=2):
        self.depth = depth
        self.order = order

    def __call__(self, shape, dtype=None):
        """The numbers as a tensor of that shape and dtype."""
        fan = shape[0] if 10 <= shape[0] <= 10000 else shape[-1]
        spread = 1.13684723 / fan**0.5 * max(self.depth, 1) ** (-1 / self.order)
        return TruncatedNormal(stddev=spread)(shape, dtype=dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {'depth': self.depth, 'order': self.order}


class RoFormerV2(RoFormer):
    """RoFormer with RMS norms that have neither γ nor β, and without any bias.

    Its one head is with_mlm: the tokens are scored by their embeddings, with nothing in
    between.  Of a config it understands `norm_type` and `use_bias` as well, by which
    Hugging Face files tell this family from RoFormer.
    Su et al., 2022, https://github.com/ZhuiyiTechnology/roformer-v2,
    https://kexue.fm/archives/8998
    """

    use_bias = False
    norm_arguments = {'zero_mean': False, 'scale': False, 'offset': False}
    heads = ('mlm',)
    initializer_order = 2

    def refuse(self, options):
        """Biases and layer norms would be another model."""
        super().refuse(options)
        if options.get('norm_type', 'rms_norm') != 'rms_norm' or options.get(
            'use_bias'
        ):
            raise ValueError(
                f'{type(self).__name__} has RMS norms and no biases, but the config '
                f'says norm_type={options.get("norm_type")!r}, '
                f"use_bias={options.get('use_bias')!r}; use model='roformer'."
            )

    @property
    def initializer(self):
        """Smaller numbers for deeper models."""
        return DepthNormal(self.num_hidden_layers, self.initializer_order)

    def norm(self, x, name, epsilon=None):
        """The norm, which nothing can be learned of, nor depend on a condition."""
        if self.layer_norm_cond is not None:
            raise ValueError(
                f'{type(self).__name__} has norms without weights, so nothing in them '
                'can depend on layer_norm_cond; use RoFormer.'
            )
        return super().norm(x, name, epsilon)

    def normalise_embeddings(self, x):
        """Here the dropout comes first."""
        return self.norm(self.dropout(x, 'Embedding-Dropout'), 'Embedding-Norm')

    def apply_final_layers(self, x):
        """The sequence, or the scores of the tokens."""
        if not self.with_mlm:
            return x
        if self.embedding_size != self.hidden_size:
            x = self._linear(x, self.embedding_size, 'Output-Mapping')
        x = self.dropout(x, 'Output-MLM-Dropout')
        if self.tie_word_embeddings:
            mode = {'mode': 'dense'}
            x = self.apply(x, Embedding, arguments=mode, name='Embedding-Token')
        else:
            x = self._linear(x, self.vocab_size, 'MLM-Decoder')
        return self.apply(
            x,
            Activation,
            activation='softmax' if self.with_mlm is True else self.with_mlm,
            dtype='float32',
            name='Output-MLM-Activation',
        )

    def _linear(self, x, units, name):
        return self.apply(
            x,
            Dense,
            units=units,
            use_bias=False,
            kernel_initializer=self.initializer,
            name=name,
        )


_TF = 'bert/encoder/layer_{i}/'
_HF = 'roformer.encoder.layer.{i}.'

RoFormerV2.names = {
    'tensorflow': {
        'Embedding-{Token,Segment}/embeddings': (
            'bert/embeddings/{word,token_type}_embeddings'
        ),
        'Embedding-Mapping/kernel': 'bert/encoder/embedding_hidden_mapping_in/kernel',
        'Transformer-{i}-MultiHeadSelfAttention/{query,key,value}/kernel': (
            _TF + 'attention/self/{query,key,value}/kernel'
        ),
        'Transformer-{i}-MultiHeadSelfAttention/output/kernel': (
            _TF + 'attention/output/dense/kernel'
        ),
        'Transformer-{i}-FeedForward/{intermediate,output}/kernel': (
            _TF + '{intermediate,output}/dense/kernel'
        ),
        'Output-Mapping/kernel': 'cls/predictions/transform/dense/kernel',
        'MLM-Decoder/kernel': 'cls/predictions/output_weights',
    },
    'huggingface': {
        'Embedding-{Token,Segment}/embeddings': (
            'roformer.embeddings.{word,token_type}_embeddings.weight'
        ),
        'Embedding-Mapping/kernel': 'roformer.embeddings_project.weight',
        'Transformer-{i}-MultiHeadSelfAttention/{query,key,value}/kernel': (
            _HF + 'attention.self.{query,key,value}.weight'
        ),
        'Transformer-{i}-MultiHeadSelfAttention/output/kernel': (
            _HF + 'attention.output.dense.weight'
        ),
        'Transformer-{i}-FeedForward/{intermediate,output}/kernel': (
            _HF + '{intermediate,output}.dense.weight'
        ),
        'Output-Mapping/kernel': 'cls.predictions.transform.dense.weight',
        'MLM-Decoder/kernel': 'cls.predictions.decoder.weight',
    },
}
