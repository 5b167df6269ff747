"""GPT2-ML, of Grover's shape."""

import dataclasses

from keraseff.layers import Add
from keraseff.models.gpt import GPT
from keraseff.models.gpt import GPTConfig


@dataclasses.dataclass(frozen=True)
class GPT2MLConfig(GPTConfig):
    """The options of a GPT2-ML: those of `GPTConfig`, and

    Args:
        hidden_act: the exact GELU by default.
        segment_vocab_size: 0; it has no vectors for segments.
        pad_token_id: 0 by default, [PAD] in its vocabulary.
    """

    segment_vocab_size: int = 0
    hidden_act: object = 'gelu'
    pad_token_id: int | None = 0

    own_segments = False


class GPT2_ML(GPT):
    """Grover's shape in Chinese: h = x + A(x), then N(h + F(N(h))), A and F the layers.

    The network gets the normalised sum, but is added to the bare one.  The embeddings
    are normalised, and have no dropout.  Its authors' code drops no weights of the
    attention, whatever their config says; here the config is obeyed.

    Zhang, 2019, https://github.com/imcaspar/gpt2-ml; Grover
    https://arxiv.org/abs/1905.12616
    """

    config_class = GPT2MLConfig
    model_prefixes = ()
    ignored = r'/adafactor_v[rc]?$'

    def translate(self, options):
        """As in GPT; segments in a file do not count, as in bert4keras."""
        return {**super().translate(options), 'segment_vocab_size': 0}

    def normalise_embeddings(self, x):
        """Normalisation alone."""
        return self.norm(x, 'Embedding-Norm')

    def apply_main_layers(self, x, index):
        """Attention with its residual; a normalised network within the next one."""
        name = f'Transformer-{index}-MultiHeadSelfAttention'
        inner = self.dropout(self.attend(x, name), f'{name}-Dropout')
        x = self.apply([x, inner], Add, name=f'{name}-Add')
        name = f'Transformer-{index}-FeedForward'
        inner = self.feed_forward(self.norm(x, f'{name}-Norm-0'), name)
        inner = self.dropout(inner, f'{name}-Dropout')
        x = self.apply([x, inner], Add, name=f'{name}-Add')
        return self.norm(x, f'{name}-Norm-1')


_ATTENTION = 'Transformer-{i}-MultiHeadSelfAttention'
_FEED_FORWARD = 'Transformer-{i}-FeedForward'
_TF = 'newslm/layer{i:02d}/'

GPT2_ML.names = {
    'tensorflow': {
        'Embedding-{Token,Position}/embeddings': 'newslm/embeddings/{word,pos}_embed',
        'Embedding-Norm/{gamma,beta}': (
            'newslm/embeddings/LayerNorm_embed_norm/{gamma,beta}'
        ),
        'Embedding-Mapping/{kernel,bias}': (
            'newslm/embeddings/embedding_hidden_mapping_in/{kernel,bias}'
        ),
        f'{_ATTENTION}/{{query,key,value,output}}/{{kernel,bias}}': (
            _TF + '{query,key,value,context_projection}_layer/{kernel,bias}'
        ),
        f'{_FEED_FORWARD}/{{intermediate,output}}/{{kernel,bias}}': (
            _TF + '{intermediate,output}/{kernel,bias}'
        ),
        f'{_FEED_FORWARD}-Norm-{{0,1}}/{{gamma,beta}}': (
            _TF + 'LayerNorm_mlp_ln{0,1}/{gamma,beta}'
        ),
        'Output-Mapping/{kernel,bias}': (
            'newslm/embedding_hidden_mapping_out/{kernel,bias}'
        ),
        'Output-LM/kernel': 'newslm/output_weights',
    },
}
