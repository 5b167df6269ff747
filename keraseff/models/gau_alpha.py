"""GAU-α: RoFormerV2 whose blocks are gated attention units."""

from keraseff.layers import GatedAttentionUnit
from keraseff.models.roformer_v2 import RoFormerV2


class GAUAlpha(RoFormerV2):
    """RoFormerV2 with one gated attention unit for each half of a block.

    `intermediate_size` is the width of gate and values, `attention_key_size` that of
    queries and keys, 128 unless the config says otherwise or how many heads would share
    the hidden size; `attention` (in Hugging Face's files `normalization`) how scores
    become weights, 'softmax_plus' by default.
    Su et al., 2022, https://github.com/ZhuiyiTechnology/GAU-alpha,
    https://kexue.fm/archives/9052
    """

    aliases = {'normalization': 'attention'}
    defaults = {
        'num_attention_heads': 1,
        'hidden_act': 'swish',
        'attention': 'softmax_plus',
    }
    initializer_order = 3
    model_prefixes = ('gau_alpha.',)

    def translate(self, options):
        """The width of queries and keys, where nothing is said of it."""
        options = super().translate(options)
        if 'num_attention_heads' not in options:
            options.setdefault('attention_key_size', 128)
        return options

    def refuse(self, options):
        """Scores that are not scaled would be another model."""
        super().refuse(options)
        if not options.get('attention_scale', True):
            raise ValueError(
                'attention_scale=false: GAU-α divides its scores by '
                '√attention_key_size.'
            )

    def apply_main_layers(self, x, index):
        """One gated attention unit with its residual."""
        name = f'Transformer-{index}-GatedAttentionUnit'
        return self.residual(x, name, self.attend)

    def attend(self, x, name):
        """The unit, with residual scores where asked for."""
        if self.attention_parts.mixes or self.stepping is not None:
            return super().attend(x, name)
        self.attended.append(name)
        arguments = {'p': self._p, 'dense': self._dense, 'residual': self._scores}
        out = self.apply(
            x,
            GatedAttentionUnit,
            arguments={k: v for k, v in arguments.items() if v is not None},
            units=self.intermediate_size,
            key_size=self.attention_key_size,
            activation=self.hidden_act,
            use_bias=self.use_bias,
            attention_dropout=self.attention_dropout_rate,
            kernel_initializer=self.initializer,
            position=self.attention_parts.make_position(),
            causal=self.causal,
            return_attention_scores=self.residual_attention_scores,
            name=name,
            **self.attention_parts.mechanism('normalization'),
            **self.attention_parts.reach(),
        )
        if self.residual_attention_scores:
            out, self._scores = out
        return out

    def position_arguments(self):
        """One head, whatever the config says."""
        return super().position_arguments() | {'heads': 1}


def _names(table, unit):
    """RoFormerV2's table with one row for the unit in place of a block's rows."""
    kept = {k: v for k, v in table.items() if not k.startswith('Transformer')}
    left = 'Transformer-{i}-GatedAttentionUnit/'
    dense, scale = unit
    return kept | {
        left + '{i_dense,o_dense}/kernel': dense,
        left + '{q,k}_scaleoffset/gamma': scale,
    }


_TF = 'GAU_alpha/encoder/layer_{i}/gau/'
_HF = 'gau_alpha.encoder.layer.{i}.gau.'

GAUAlpha.names = {
    'tensorflow': _names(
        RoFormerV2.names['tensorflow'],
        (_TF + '{i_dense,o_dense}/kernel', _TF + '{q,k}_scaleoffset/gamma'),
    ),
    'huggingface': _names(
        {
            left: right.replace('roformer.', 'gau_alpha.')
            for left, right in RoFormerV2.names['huggingface'].items()
        },
        (_HF + '{i_dense,o_dense}.weight', _HF + '{q,k}_scaleoffset.weight'),
    ),
}
