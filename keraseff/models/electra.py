"""ELECTRA: a generator that replaces tokens, a discriminator that finds them out."""

import dataclasses

from keras.layers import Activation
from keras.layers import Dense

from keraseff.models.bert import BERT
from keraseff.models.config import Config
from keraseff.ops import get_activation
from keraseff.ops.activations import activation_name


@dataclasses.dataclass(frozen=True)
class ELECTRAConfig(Config):
    """The options of ELECTRA: `Config`, and

    Args:
        with_discriminator: how likely each token was replaced, (b, n, 1); True for
            the probability, 'linear' for its logit.
    """

    with_discriminator: object = False


class ELECTRA(BERT):
    """BERT's encoder, trained as a discriminator; with `with_mlm`, as the generator.

    Google's pretraining checkpoints hold both, the embeddings shared: `with_mlm` takes
    the generator out of it, whose config is not the discriminator's.

    https://arxiv.org/abs/2003.10555
    """

    config_class = ELECTRAConfig
    heads = ('mlm',)
    model_prefixes = ('electra.',)
    alternatives = {'generator_lm_head.bias': ('generator_predictions.bias',)}
    ignored = r'^generator|^discriminator|^electra/(encoder|embeddings_project)'

    def apply_final_layers(self, x):
        """The discriminator's head, the generator's, or the sequence."""
        if not self.with_discriminator:
            return super().apply_final_layers(x)
        if self.with_mlm:
            raise ValueError(
                'with_discriminator and with_mlm belong to two models, the '
                'discriminator and the generator; choose one of them.'
            )
        chosen = self.with_discriminator
        x = self.apply(
            x,
            Dense,
            units=self.hidden_size,
            activation=get_activation(activation_name(self.hidden_act)),
            kernel_initializer=self.initializer,
            name='Discriminator-Dense',
        )
        x = self.apply(
            x,
            Dense,
            units=1,
            kernel_initializer=self.initializer,
            name='Discriminator-Prediction',
        )
        return self.apply(
            x,
            Activation,
            activation='sigmoid' if chosen is True else chosen,
            dtype='float32',
            name='Discriminator-Activation',
        )

    def tensor_names(self, tensor):
        """The generator's tensors come first where it is the generator."""
        names = super().tensor_names(tensor)
        encoder = tensor.startswith(('electra/encoder/', 'electra/embeddings_project'))
        if self.with_mlm and encoder:
            names.insert(0, tensor.replace('electra/', 'generator/', 1))
        return names


_TF_MLM = 'generator_predictions/'
_HF_MLM = 'generator_predictions.'
_TF_HEADS = {
    'Embedding-Mapping/{kernel,bias}': 'electra/embeddings_project/{kernel,bias}',
    'Discriminator-{Dense,Prediction}/{kernel,bias}': (
        'discriminator_predictions/{dense,dense_1}/{kernel,bias}'
    ),
    'MLM-Dense/{kernel,bias}': _TF_MLM + 'dense/{kernel,bias}',
    'MLM-Norm/{gamma,beta}': _TF_MLM + 'LayerNorm/{gamma,beta}',
    'MLM-Bias/beta': _TF_MLM + 'output_bias',
    'MLM-Decoder/kernel': _TF_MLM + 'output_weights',
}
_HF_HEADS = {
    'Embedding-Mapping/{kernel,bias}': 'electra.embeddings_project.{weight,bias}',
    'Discriminator-{Dense,Prediction}/{kernel,bias}': (
        'discriminator_predictions.{dense,dense_prediction}.{weight,bias}'
    ),
    'MLM-Dense/{kernel,bias}': _HF_MLM + 'dense.{weight,bias}',
    'MLM-Norm/{gamma,beta}': _HF_MLM + 'LayerNorm.{weight,bias}',
    'MLM-Bias/beta': 'generator_lm_head.bias',
    'MLM-Decoder/kernel': 'generator_lm_head.weight',
}


def _renamed(table, old, new):
    return {
        left: right.replace(old, new)
        for left, right in table.items()
        if right.startswith(old)
        and not left.startswith(('Pooler', 'Embedding-Mapping'))
    }


ELECTRA.names = {
    'tensorflow': _renamed(BERT.names['tensorflow'], 'bert/', 'electra/') | _TF_HEADS,
    'huggingface': _renamed(BERT.names['huggingface'], 'bert.', 'electra.') | _HF_HEADS,
}
