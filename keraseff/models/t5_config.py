"""T5's options, and Hugging Face's words for them."""

import dataclasses

from keraseff.models.config import LanguageModelConfig

# Hugging Face's spellings of what a family without them spells otherwise.
T5_ALIASES = {
    'd_model': 'hidden_size',
    'd_kv': 'attention_head_size',
    'd_ff': 'intermediate_size',
    'num_heads': 'num_attention_heads',
}


@dataclasses.dataclass(frozen=True)
class T5Config(LanguageModelConfig):
    """The options of T5: `LanguageModelConfig`, and

    Args:
        num_decoder_layers: blocks of the decoder; as `num_hidden_layers` by default.
        relative_attention_num_buckets, relative_attention_max_distance: see
            `T5Relative`.
        cross_position_bias: add the decoder's relative positions to the scores of its
            attention to the encoder as well, as bert4keras does by default.
        scale_decoder_outputs: divide the decoder's output by √hidden_size before the
            tokens are scored; by default where they are scored by the embeddings.
        decoder_start_token_id: what the decoder's input begins with.  For the reader's
            information; nothing here depends on it.
    """

    num_decoder_layers: int | None = None
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    cross_position_bias: bool = False
    scale_decoder_outputs: bool | None = None
    decoder_start_token_id: int = 0

    def __post_init__(self):
        """Fill what follows from other fields, and refuse what cannot be."""
        super().__post_init__()
        follows = {
            'num_decoder_layers': self.num_hidden_layers,
            'scale_decoder_outputs': self.tie_word_embeddings,
        }
        for field, value in follows.items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)
        layers = self.num_decoder_layers
        if isinstance(layers, bool) or not isinstance(layers, int) or layers < 0:
            raise ValueError(
                f'num_decoder_layers={layers!r} must be a whole number of 0 or more.'
            )


def translate_t5(options):
    """The options that follow from others in a config of Hugging Face's.

    Args:
        options: a dict, the aliases replaced.

    Returns:
        The options, those that follow among them.

    Raises:
        ValueError: an unknown kind of feed-forward network.
    """
    options = dict(options)
    if 'feed_forward_proj' in options:
        options.setdefault('hidden_act', _activation(options['feed_forward_proj']))
        if 'dropout_rate' in options:
            options.setdefault('attention_dropout_rate', options['dropout_rate'])
    # Since its version 5, transformers calls every T5 tied and decides by the weights;
    # what T5.1.1 was then shows in its scale only, and what mT5 was nowhere.
    if _version(options) >= 5:
        if options.get('model_type') == 'mt5':
            options['scale_decoder_outputs'] = False
        if options.get('scale_decoder_outputs') is False:
            options['tie_word_embeddings'] = False
    return options


def _activation(word):
    """bert4keras' spelling of Hugging Face's `feed_forward_proj`."""
    gate, _, name = str(word).rpartition('-')
    if gate not in ('', 'gated') or not name:
        raise ValueError(
            f"feed_forward_proj={word!r}: expected an activation such as 'relu', or "
            "'gated-' and an activation, such as 'gated-gelu'."
        )
    if not gate:
        return name
    return ['gelu_new' if name == 'gelu' else name, 'linear']


def _version(options):
    """The first number of the release of transformers that wrote a config, or 0."""
    first = str(options.get('transformers_version', '')).split('.')[0]
    return int(first) if first.isdigit() else 0
