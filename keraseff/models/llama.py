"""LLaMA, and Mistral, which is LLaMA with a sliding window."""

import dataclasses

from keraseff.layers import FeedForward
from keraseff.layers import Rotary
from keraseff.models.bert import BERT
from keraseff.models.config import LanguageModelConfig
from keraseff.models.heads import HEADS

# What makes another model of a file that names this one.
_OTHER_MODELS = {
    'num_experts': 'a mixture of experts',
    'num_local_experts': 'a mixture of experts',
    'n_routed_experts': 'a mixture of experts',
    'quantization_config': 'a file of quantised weights',
}


@dataclasses.dataclass(frozen=True)
class DecoderConfig(LanguageModelConfig):
    """The options of a decoder with rotary positions: `LanguageModelConfig`, and

    Args:
        num_key_value_heads: heads of keys and values, each of which serves several
            heads of queries; num_attention_heads by default.
        rope_theta: the rotations' wavelengths run from 2π to rope_theta × 2π.
        rope_scaling: a rule for long texts, see `Rotary`; also `rope_parameters`.
        sliding_window: how many steps a query sees, its own among them; None sees all
            of the past.
        layer_types: 'sliding_attention' or 'full_attention' for each layer; where there
            is none, the window counts in all of them.
    """

    pad_token_id: int | None = None
    num_key_value_heads: int | None = None
    rope_theta: float = 10000.0
    rope_scaling: dict | None = None
    sliding_window: int | None = None
    layer_types: list | None = None

    def __post_init__(self):
        """Refuse layer types that do not say enough."""
        super().__post_init__()
        types = self.layer_types
        if types is None:
            return
        unknown = set(types) - {'full_attention', 'sliding_attention'}
        if unknown or len(types) < self.num_hidden_layers:
            raise ValueError(
                f'layer_types={types!r} must say full_attention or sliding_attention '
                f'for each of {self.num_hidden_layers} layers.'
            )
        if 'sliding_attention' in types and self.sliding_window is None:
            raise ValueError(
                'layer_types asks for sliding_attention, but sliding_window is not '
                'given; give it, or layer_types=None.'
            )


@dataclasses.dataclass(frozen=True)
class LLaMAConfig(DecoderConfig):
    """The options of LLaMA: `DecoderConfig`, and

    Args:
        attention_bias: biases in the four projections of attention.
        mlp_bias: biases in the feed-forward network.
    """

    attention_bias: bool = False
    mlp_bias: bool = False


class LLaMA(BERT):
    """A decoder of rotations, gated feed-forward networks and root mean squares.

    Serves LLaMA 1 to 3, and all that calls itself `llama`.  Padding is not masked where
    the padding is also the token that begins or ends a text.
    https://arxiv.org/abs/2302.13971, LLaMA 2 https://arxiv.org/abs/2307.09288
    """

    embeddings = ('token',)
    position = Rotary
    position_name = 'Embedding-Rotary-Position'
    causal = True
    pre_norm = True
    norm_arguments = {'zero_mean': False, 'offset': False}
    epsilon = 1e-6
    heads = ('lm',)
    reads_padding = True
    config_class = LLaMAConfig
    aliases = {
        'head_dim': 'attention_head_size',
        'attention_dropout': 'attention_dropout_rate',
        'rope_parameters': 'rope_scaling',
    }
    defaults = {
        'hidden_act': 'silu',
        'max_position': 2048,
        'segment_vocab_size': 0,
        'tie_word_embeddings': False,
    }
    model_prefixes = ('model.',)
    attention_bias = mlp_bias = False
    out_bias = None
    qk_norm = False

    def translate(self, options):
        """The rotations' options in one place, and no padding that is a real token."""
        given = {key: value for key, value in options.items() if value is not None}
        given = super().translate(given) | self.windows(options)
        scaling = dict(given.pop('rope_scaling', {}))
        given['rope_theta'] = scaling.pop('rope_theta', given.get('rope_theta'))
        original = given.get('original_max_position_embeddings')
        if scaling and original is not None:
            scaling['original_max_position_embeddings'] = original
        given['rope_scaling'] = scaling or None
        if 'pad_token_id' in given and not _pads_only(given):
            given['pad_token_id'] = None
        return {key: value for key, value in given.items() if value is not None}

    def windows(self, options):
        """What a file says of sliding windows, as sliding_window and layer_types."""
        return {'sliding_window': None, 'layer_types': None}

    def refuse(self, options):
        """What would be another model, though it is called the same."""
        kind = options.get('model_type', type(self).__name__)
        for key, what in _OTHER_MODELS.items():
            if options.get(key):
                raise ValueError(
                    f'{key}={options[key]!r}: {what}, which {kind} is not here.'
                )
        scaling = options.get('rope_scaling', {})
        share = {**options, **scaling}.get('partial_rotary_factor', 1)
        nested = [key for key, value in scaling.items() if isinstance(value, dict)]
        if share != 1 or nested:
            what = f'partial_rotary_factor={share!r}' if share != 1 else f'{nested}'
            raise ValueError(
                f'{what}: {kind} rotates all channels, and in all layers alike.'
            )

    @property
    def use_bias(self):
        """Biases in attention; the feed-forward network has `mlp_bias`."""
        return self.attention_bias

    @property
    def attention_arguments(self):
        """Grouped queries, and what a family normalises or leaves without bias."""
        return {
            'kv_heads': self.num_key_value_heads,
            'out_bias': self.out_bias,
            'qk_norm': self.qk_norm,
            'qk_norm_epsilon': self.epsilon,
        }

    def position_arguments(self):
        """Half of the channels is turned with the other half."""
        return {
            'head_size': self.attention_key_size,
            'base': self.rope_theta,
            'interleaved': False,
            'scaling': self.rope_scaling,
            'max_position': self.max_position,
        }

    def normalise_embeddings(self, x):
        """No normalisation here."""
        return self.dropout(x, 'Embedding-Dropout')

    def apply_main_layers(self, x, index):
        """One block, whose queries see all of the past or a window of it."""
        types = self.layer_types
        slides = types is None or types[index] == 'sliding_attention'
        windowed = slides and self.sliding_window is not None
        self.window = self.sliding_window if windowed else self.config.window
        return super().apply_main_layers(x, index)

    def feed_forward(self, x, name):
        """The gated network: activation(x W_1) x W_2, and a third matrix."""
        return self.apply(
            x,
            FeedForward,
            units=self.intermediate_size,
            activation=[self.hidden_act, 'linear'],
            use_bias=self.mlp_bias,
            kernel_initializer=self.initializer,
            name=name,
        )

    def apply_final_layers(self, x):
        """The last normalisation and the scores of the next token."""
        return HEADS['lm'](self, self.norm(x, 'Output-Norm'))


def _pads_only(options):
    """Whether the padding is a token, and none that begins or ends a text."""
    pad = options['pad_token_id']
    real = [options.get('bos_token_id')]
    end = options.get('eos_token_id')
    real += end if isinstance(end, list) else [end]
    return pad >= 0 and pad not in real


class Mistral(LLaMA):
    """LLaMA, where each query sees a window of the past.

    https://arxiv.org/abs/2310.06825
    """

    config_class = DecoderConfig

    def windows(self, options):
        """4,096 steps where the file does not say; null stands for all of the past."""
        return {
            'sliding_window': options.get('sliding_window', 4096),
            'layer_types': None,
        }


_HF = 'model.layers.{i}.'
_BLOCK = 'Transformer-{i}-'

# What every decoder of this kind has.
WEIGHTS = {
    'Embedding-Token/embeddings': 'model.embed_tokens.weight',
    _BLOCK + 'MultiHeadSelfAttention-Norm/gamma': _HF + 'input_layernorm.weight',
    _BLOCK + 'MultiHeadSelfAttention/{query,key,value,output}/kernel': (
        _HF + 'self_attn.{q,k,v,o}_proj.weight'
    ),
    _BLOCK + 'FeedForward-Norm/gamma': _HF + 'post_attention_layernorm.weight',
    _BLOCK + 'FeedForward/{intermediate,intermediate_1,output}/kernel': (
        _HF + 'mlp.{gate,up,down}_proj.weight'
    ),
    'Output-Norm/gamma': 'model.norm.weight',
    'Output-LM/kernel': 'lm_head.weight',
}
BIASES = {
    _BLOCK + 'MultiHeadSelfAttention/{query,key,value,output}/bias': (
        _HF + 'self_attn.{q,k,v,o}_proj.bias'
    ),
    _BLOCK + 'FeedForward/{intermediate,intermediate_1,output}/bias': (
        _HF + 'mlp.{gate,up,down}_proj.bias'
    ),
}
LLaMA.names = {'huggingface': WEIGHTS | BIASES}
Mistral.names = {'huggingface': WEIGHTS}
