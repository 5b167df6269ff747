"""GPT, and what GPT-2 and GPT2-ML share with it."""

import dataclasses

from keras.layers import Dense

from keraseff.layers.dropout import Dropout
from keraseff.models.bert import BERT
from keraseff.models.config import LanguageModelConfig
from keraseff.models.heads import lm


@dataclasses.dataclass(frozen=True)
class GPTConfig(LanguageModelConfig):
    """The options of a GPT: those of `LanguageModelConfig`, and

    Args:
        intermediate_size: 4 × hidden_size by default.
        hidden_act: the tanh form of GELU by default, as OpenAI's.
        embedding_dropout_rate: of the summed embeddings; see the family for None.
        shared_segment_embeddings: segment ids are token ids, say those of speakers,
            and use their vectors; puts the input of segments on by itself.
        pad_token_id: None by default.  No token sees those to its right, so that
            padding there does no harm; name it for 'unilm' and for Keras' masked loss.
    """

    intermediate_size: int | None = None
    hidden_act: object = 'gelu_tanh'
    pad_token_id: int | None = None
    embedding_dropout_rate: float | None = None

    # Not a field: whether segments may have vectors of their own.
    own_segments = True

    def __post_init__(self):
        """Fill what follows from other fields, and refuse what cannot be."""
        if self.intermediate_size is None:
            object.__setattr__(self, 'intermediate_size', 4 * self.hidden_size)
        if self.shared_segment_embeddings:
            object.__setattr__(self, 'segment_vocab_size', self.vocab_size)
        elif self.segment_vocab_size and not self.own_segments:
            raise ValueError(
                f'segment_vocab_size={self.segment_vocab_size!r}: this family has no '
                'vectors for segments; shared_segment_embeddings=True gives them those '
                'of the tokens.'
            )
        super().__post_init__()


class GPT(BERT):
    """OpenAI's GPT and CDial-GPT: blocks that see the past only, normalised after sums.

    The output is the next token's distribution, see `with_lm`.  A config of OpenAI's
    spelling (`n_embd`; Hugging Face's `openai-gpt`) stands for its authors' model: no
    segments, 'gelu' is the tanh form, no id is padding unless the file names one.  A
    config of bert4keras' spelling has two segments and pads with 0.  ε is 1e-5 in
    either, as in OpenAI's code; bert4keras takes 1e-12.

    CDial-GPT adds the token vectors of who speaks: shared_segment_embeddings=True.  Its
    own vocabulary has [CLS] at 0 and [PAD] at 1: pad_token_id=1, if any.

    Where embedding_size is not hidden_size, a tied head maps back by 'Output-Mapping';
    no published model has it.

    Radford et al., 2018, https://github.com/openai/finetune-transformer-lm;
    CDial-GPT https://arxiv.org/abs/2008.03946
    """

    causal = True
    epsilon = 1e-5
    heads = ('lm',)
    reads_padding = True
    config_class = GPTConfig
    aliases = {
        'n_embd': 'hidden_size',
        'n_head': 'num_attention_heads',
        'n_inner': 'intermediate_size',
        'n_positions': 'max_position',
        'activation_function': 'hidden_act',
        'resid_pdrop': 'dropout_rate',
        'attn_pdrop': 'attention_dropout_rate',
        'embd_pdrop': 'embedding_dropout_rate',
        'final_activation': 'with_lm',
    }
    # The id that configs of bert4keras' spelling pad with.
    padding = 0
    model_prefixes = ('transformer.',)
    # Triangles that older files keep as buffers.
    ignored = r'(^|\.)h\.\d+\.attn\.(masked_)?bias$'

    def translate(self, options):
        """OpenAI's spellings; `n_ctx` counts where there is no `n_positions`."""
        openai = 'n_embd' in options or options.get('model_type') == 'openai-gpt'
        options = super().translate(options)
        if 'n_ctx' in options:
            options.setdefault('max_position', options['n_ctx'])
        if 'afn' in options:
            tanh = options['afn'] == 'gelu'
            options.setdefault('hidden_act', 'gelu_tanh' if tanh else options['afn'])
        if openai:
            options.setdefault('segment_vocab_size', 0)
        else:
            options.setdefault('pad_token_id', self.padding)
        return _without_false_padding(options)

    def normalise_embeddings(self, x):
        """Dropout alone, at `embedding_dropout_rate`, else at `dropout_rate`."""
        rate = self.embedding_dropout_rate
        rate = self.dropout_rate if rate is None else rate
        if not rate:
            return x
        return self.apply(x, Dropout, rate=rate, name='Embedding-Dropout')

    def apply_final_layers(self, x):
        """The head of the language model."""
        tied = self.with_lm and self.tie_word_embeddings
        if tied and self.embedding_size != self.hidden_size:
            x = self.apply(
                x,
                Dense,
                units=self.embedding_size,
                kernel_initializer=self.initializer,
                name='Output-Mapping',
            )
        return lm(self, x)


def _without_false_padding(options):
    """Without a padding id that is also the end of a text, and so stands within it."""
    ends = [options.get('bos_token_id'), options.get('eos_token_id')]
    if options.get('pad_token_id') not in ends:
        return options
    return {key: value for key, value in options.items() if key != 'pad_token_id'}


_ATTENTION = 'Transformer-{i}-MultiHeadSelfAttention'
_FEED_FORWARD = 'Transformer-{i}-FeedForward'
_TF = 'gpt/transformer/layer_{i}/'
_HF = 'transformer.h.{i}.'

GPT.names = {
    'tensorflow': {
        'Embedding-Token/embeddings': 'gpt/embeddings/word_embeddings',
        'Embedding-Segment/embeddings': 'gpt/embeddings/token_type_embeddings',
        'Embedding-Position/embeddings': 'gpt/embeddings/position_embeddings',
        'Embedding-Mapping/{kernel,bias}': (
            'gpt/transformer/embedding_hidden_mapping_in/{kernel,bias}'
        ),
        f'{_ATTENTION}/{{query,key,value}}/{{kernel,bias}}': (
            _TF + 'attention/self/{query,key,value}/{kernel,bias}'
        ),
        f'{_ATTENTION}/output/{{kernel,bias}}': (
            _TF + 'attention/output/dense/{kernel,bias}'
        ),
        f'{_ATTENTION}-Norm/{{gamma,beta}}': (
            _TF + 'attention/output/LayerNorm/{gamma,beta}'
        ),
        f'{_FEED_FORWARD}/{{intermediate,output}}/{{kernel,bias}}': (
            _TF + '{intermediate,output}/dense/{kernel,bias}'
        ),
        f'{_FEED_FORWARD}-Norm/{{gamma,beta}}': _TF + 'output/LayerNorm/{gamma,beta}',
        'Output-Mapping/{kernel,bias}': (
            'gpt/transformer/embedding_hidden_mapping_out/{kernel,bias}'
        ),
        'Output-LM/kernel': 'gpt/output_weights',
    },
    'huggingface': {
        'Embedding-Token/embeddings': 'transformer.tokens_embed.weight',
        'Embedding-Segment/embeddings': 'transformer.segments_embed.weight',
        'Embedding-Position/embeddings': 'transformer.positions_embed.weight',
        'Embedding-Mapping/{kernel,bias}': (
            'transformer.embedding_hidden_mapping_in.{weight,bias}'
        ),
        f'{_ATTENTION}/{{query,key,value}}/kernel': (
            _HF + 'attn.c_attn.weight|=[{0,1,2}/3]'
        ),
        f'{_ATTENTION}/{{query,key,value}}/bias': _HF + 'attn.c_attn.bias[{0,1,2}/3]',
        f'{_ATTENTION}/output/{{kernel,bias}}': _HF + 'attn.c_proj.{weight|=,bias}',
        f'{_ATTENTION}-Norm/{{gamma,beta}}': _HF + 'ln_1.{weight,bias}',
        f'{_FEED_FORWARD}/{{intermediate,output}}/{{kernel,bias}}': (
            _HF + 'mlp.{c_fc,c_proj}.{weight|=,bias}'
        ),
        f'{_FEED_FORWARD}-Norm/{{gamma,beta}}': _HF + 'ln_2.{weight,bias}',
        'Output-Mapping/{kernel,bias}': (
            'transformer.embedding_hidden_mapping_out.{weight,bias}'
        ),
        'Output-LM/kernel': 'lm_head.weight',
    },
}
