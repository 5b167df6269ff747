"""Qwen2 and Qwen2.5, the dense ones."""

from keraseff.models.llama import WEIGHTS
from keraseff.models.llama import DecoderConfig
from keraseff.models.llama import LLaMA


class Qwen2(LLaMA):
    """LLaMA with biases of queries, keys and values.

    https://arxiv.org/abs/2407.10671, Qwen2.5 https://arxiv.org/abs/2412.15115
    """

    config_class = DecoderConfig
    defaults = LLaMA.defaults | {'max_position': 32768}
    attention_bias = True
    out_bias = False

    def windows(self, options):
        """A window counts only with use_sliding_window, from max_window_layers on."""
        return qwen_windows(options)


def qwen_windows(options):
    """What a file of Qwen2 or Qwen3 says, as sliding_window and layer_types.

    Without layer_types the first `max_window_layers`, 28 by default, see everything.
    """
    if not options.get('use_sliding_window'):
        return {'sliding_window': None, 'layer_types': None}
    types = options.get('layer_types')
    if types is None:
        layers, full = options.get('num_hidden_layers', 0), 28
        full = min(options.get('max_window_layers', full), layers)
        types = ['full_attention'] * full + ['sliding_attention'] * (layers - full)
    window = options.get('sliding_window', 4096)
    return {'sliding_window': window, 'layer_types': types}


_HF = 'model.layers.{i}.self_attn.'
Qwen2.names = {
    'huggingface': WEIGHTS
    | {
        'Transformer-{i}-MultiHeadSelfAttention/{query,key,value}/bias': (
            _HF + '{q,k,v}_proj.bias'
        ),
    }
}
