"""NEZHA: BERT with relative positions in keys and values."""

import dataclasses

from keraseff.layers import Relative
from keraseff.models.bert import BERT
from keraseff.models.config import Config


@dataclasses.dataclass(frozen=True)
class NEZHAConfig(Config):
    """The options of NEZHA: `Config`, and

    Args:
        max_relative_position: the greatest distance with a vector of its own.
    """

    max_relative_position: int = 64


class NEZHA(BERT):
    """BERT with a fixed sinusoidal vector for each distance, to 64 either way.

    NEZHA-GEN is this with `application='lm'`.

    https://arxiv.org/abs/1909.00204
    """

    config_class = NEZHAConfig
    embeddings = ('token', 'segment')
    position = Relative
    position_name = 'Embedding-Relative-Position'
    model_prefixes = ('nezha.',)
    ignored = r'relative_positions_encoding|/relative_positions_'

    def refuse(self, options):
        """Absolute positions would be BERT."""
        if options.get('use_relative_position') is False:
            raise ValueError(
                "use_relative_position=false: that is a BERT; pass model='bert'."
            )

    def position_arguments(self):
        """The sizes of the vectors, and of their table."""
        return super().position_arguments() | {'reach': self.max_relative_position}

    def tensor_names(self, tensor):
        """Early PyTorch files say `bert.` for the model, Hugging Face's `nezha.`."""
        names = super().tensor_names(tensor)
        return names + [n.replace('nezha.', 'bert.', 1) for n in names if 'nezha.' in n]


NEZHA.names = {
    dialect: {
        left.replace('{Token,Segment,Position}', '{Token,Segment}'): right.replace(
            '{word,token_type,position}', '{word,token_type}'
        ).replace('bert.', 'nezha.')
        for left, right in table.items()
        if not left.startswith('Embedding-Position')
    }
    for dialect, table in BERT.names.items()
}
