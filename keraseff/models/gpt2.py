"""GPT-2, also CPM."""

import dataclasses

from keraseff.models.gpt import GPT
from keraseff.models.gpt import GPTConfig


@dataclasses.dataclass(frozen=True)
class GPT2Config(GPTConfig):
    """The options of a GPT-2: those of `GPTConfig`, and

    Args:
        scale_attn_weights: divide the scores by √key_size.
        segment_vocab_size: 0; GPT-2 has no vectors for segments, but may use those of
            the tokens (`shared_segment_embeddings`), as CDial-GPT2 does.
    """

    segment_vocab_size: int = 0
    scale_attn_weights: bool = True

    own_segments = False


class GPT2(GPT):
    """GPT with the normalisations before the layers, and one more at the end.

    No id is padding unless the file or `pad_token_id` names one that is not the end of
    a text as well: 0 is a token in OpenAI's vocabulary and in CPM's.  bert4keras masks
    0, which changes nothing but the outputs at padding, where it is at the end.

    Dropout of the summed embeddings is as `embedding_dropout_rate` (Hugging Face's
    `embd_pdrop`) says; without it, it follows 'Output-Norm', as in bert4keras.

    CPM (2.6 billion parameters) was trained with the tanh form of GELU; where a config
    of bert4keras' spelling says 'gelu', that is the exact one: pass
    hidden_act='gelu_tanh'.  `reorder_and_upcast_attn` is a matter of half precision
    only, and not looked at.

    Radford et al., 2019, https://github.com/openai/gpt-2;
    CPM https://arxiv.org/abs/2012.00413, https://github.com/TsinghuaAI/CPM-1-Generate
    """

    pre_norm = True
    config_class = GPT2Config

    padding = None

    def translate(self, options):
        """As in GPT; segments in a file do not count, as in bert4keras."""
        return {**super().translate(options), 'segment_vocab_size': 0}

    def refuse(self, options):
        """Cross-attention and scores scaled by depth would be another model."""
        super().refuse(options)
        if options.get('add_cross_attention'):
            raise ValueError(
                'add_cross_attention=true: this GPT-2 has a decoder alone, without '
                'attention to an encoder.'
            )
        if options.get('scale_attn_by_inverse_layer_idx'):
            raise ValueError(
                'scale_attn_by_inverse_layer_idx=true: scores that are divided by the '
                "layer's number are not supported."
            )

    @property
    def attention_arguments(self):
        """The scaling of the scores."""
        return {'attention_scale': self.scale_attn_weights}

    def normalise_embeddings(self, x):
        """Dropout, where it has a rate of its own."""
        if self.embedding_dropout_rate is None:
            return x
        return super().normalise_embeddings(x)

    def apply_final_layers(self, x):
        """The last normalisation and the head of the language model."""
        x = self.norm(x, 'Output-Norm')
        if self.embedding_dropout_rate is None:
            x = self.dropout(x, 'Output-Dropout')
        return super().apply_final_layers(x)


def _renamed(table, *pairs):
    rows = {}
    for left, right in table.items():
        for old, new in pairs:
            right = right.replace(old, new)
        rows[left] = right
    del rows['Embedding-Segment/embeddings']
    return rows


GPT2.names = {
    'tensorflow': {
        **_renamed(GPT.names['tensorflow'], ('output/LayerNorm', 'input/LayerNorm')),
        'Output-Norm/{gamma,beta}': 'gpt/output/LayerNorm/{gamma,beta}',
    },
    'huggingface': {
        **_renamed(
            GPT.names['huggingface'],
            ('tokens_embed', 'wte'),
            ('positions_embed', 'wpe'),
        ),
        'Output-Norm/{gamma,beta}': 'transformer.ln_f.{weight,bias}',
    },
}
