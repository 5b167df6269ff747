"""Qwen3, the dense ones."""

from keraseff.models.llama import LLaMA
from keraseff.models.qwen2 import qwen_windows


class Qwen3(LLaMA):
    """LLaMA whose queries and keys are normalised, head by head.

    A head has 128 channels where nothing else is said.
    https://arxiv.org/abs/2505.09388
    """

    defaults = LLaMA.defaults | {'max_position': 32768, 'attention_head_size': 128}
    qk_norm = True

    def windows(self, options):
        """As in Qwen2."""
        return qwen_windows(options)


Qwen3.names = {
    'huggingface': LLaMA.names['huggingface']
    | {
        'Transformer-{i}-MultiHeadSelfAttention/{query,key}_norm/gamma': (
            'model.layers.{i}.self_attn.{q,k}_norm.weight'
        ),
    }
}
