"""RoFormer: BERT with rotary positions."""

from keraseff.layers import Rotary
from keraseff.models.bert import BERT


class RoFormer(BERT):
    """BERT whose queries and keys are rotated by their positions.

    https://arxiv.org/abs/2104.09864
    """

    embeddings = ('token', 'segment')
    position = Rotary
    position_name = 'Embedding-Rotary-Position'
    epsilon = 1e-7
    model_prefixes = ('roformer.',)

    @classmethod
    def variant(cls, options):
        """`RoFormerV2` where a config has its `norm_type`."""
        from keraseff.models.roformer_v2 import RoFormerV2  # which imports this

        rms = options.get('norm_type') == 'rms_norm'
        return RoFormerV2 if rms and cls is RoFormer else cls

    def refuse(self, options):
        """Values that are rotated too would be another model."""
        if options.get('rotary_value'):
            raise ValueError('rotary_value=true: rotating the values is not supported.')


_HF_RENAMED = {
    'Embedding-Mapping/{kernel,bias}': 'roformer.embeddings_project.{weight,bias}',
}
RoFormer.names = {
    'tensorflow': {
        left: right
        for left, right in BERT.names['tensorflow'].items()
        if not left.startswith('Embedding-Position')
    },
    'huggingface': {
        left.replace('{Token,Segment,Position}', '{Token,Segment}'): right.replace(
            '{word,token_type,position}', '{word,token_type}'
        ).replace('bert.', 'roformer.')
        for left, right in BERT.names['huggingface'].items()
    }
    | _HF_RENAMED,
}
