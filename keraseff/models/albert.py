"""ALBERT: BERT with one block for all layers, and what others made of it."""

import dataclasses

from keraseff.layers import FactorizedEmbedding
from keraseff.models.bert import BERT
from keraseff.models.config import Config


@dataclasses.dataclass(frozen=True)
class ALBERTConfig(Config):
    """The options of ALBERT: `Config`, and

    Args:
        num_hidden_groups: runs of layers that share their weights.
        inner_group_num: blocks in each layer, with weights of their own.
        embedding_mapping: a Dense after the embeddings even where their size is
            hidden_size, as Hugging Face's files have it; by default where
            `model_type` says that the config is theirs.
    """

    num_hidden_groups: int = 1
    inner_group_num: int = 1
    embedding_mapping: bool = False


class ALBERT(BERT):
    """BERT whose layers share one block, its embeddings smaller than the blocks.

    Google's checkpoints were trained with the tanh form of GELU, which their configs
    call 'gelu': pass `hidden_act='gelu_tanh'`, or call `set_gelu('tanh')`.

    https://arxiv.org/abs/1909.11942
    """

    config_class = ALBERTConfig
    model_prefixes = ('albert.',)
    alternatives = {'predictions.bias': ('predictions.decoder.bias',)}
    ignored = r'^predictions\.decoder\.'
    shared = True

    @classmethod
    def variant(cls, options):
        """`ALBERTZh` where a config has its `ln_type`."""
        return ALBERTZh if 'ln_type' in options and cls is ALBERT else cls

    def translate(self, options):
        """Note whose config it is."""
        options = super().translate(options)
        theirs = options.get('model_type') == 'albert'
        return {'embedding_mapping': theirs} | options

    @property
    def maps_embeddings(self):
        """Whether a Dense stands between the embeddings and the first block."""
        return super().maps_embeddings or self.embedding_mapping

    @property
    def blocks(self):
        """How many blocks have weights of their own."""
        if not self.shared:
            return self.num_hidden_layers * self.inner_group_num
        return self.num_hidden_groups * self.inner_group_num

    def apply_main_layers(self, x, index):
        """The blocks of this layer's group."""
        group = index
        if self.shared:
            group = index * self.num_hidden_groups // self.num_hidden_layers
        for inner in range(self.inner_group_num):
            name = self.block_name(group * self.inner_group_num + inner)
            x = self.residual(x, f'{name}-MultiHeadSelfAttention', self.attend)
            x = self.residual(x, f'{name}-FeedForward', self.feed_forward)
        return x

    def block_name(self, block):
        """Without a number where there is only one, as in bert4keras."""
        return f'Transformer-{block}' if self.blocks > 1 else 'Transformer'

    def table(self, dialect):
        """One set of rows for each block."""
        table = super().table(dialect)
        rows = {k: v for k, v in table.items() if k.startswith('Transformer-')}
        table = {k: v for k, v in table.items() if k not in rows}
        for block in range(self.blocks):
            group, inner = divmod(block, self.inner_group_num)
            if not self.shared:
                layers = self.num_hidden_layers
                group = group * self.num_hidden_groups // layers
            for left, right in rows.items():
                left = left.replace('Transformer', self.block_name(block), 1)
                right = right.replace(
                    'group_0/inner_group_0', f'group_{group}/inner_group_{inner}'
                ).replace(
                    'groups.0.albert_layers.0', f'groups.{group}.albert_layers.{inner}'
                )
                table[left] = right
        return table


class ALBERTUnshared(ALBERT):
    """ALBERT's weights in layers that go their own ways from there.

    Opens the checkpoints of `ALBERT`.  Layers that differ cannot be written as such a
    checkpoint again: save the Keras model, or pass a `mapping`.
    """

    shared = False


@dataclasses.dataclass(frozen=True)
class ALBERTZhConfig(Config):
    """The options of `ALBERTZh`: `Config`, and

    Args:
        ln_type: 'postln' normalises after the sums, 'preln' before the layers.
    """

    ln_type: str = 'postln'


class ALBERTZh(ALBERT):
    """The ALBERT of brightmart/albert_zh, which came before Google's and is unlike it.

    Tokens alone have small vectors; they are projected before segments and positions
    are added.  The names are those of BERT with a layer called `layer_shared`.

    https://github.com/brightmart/albert_zh
    """

    config_class = ALBERTZhConfig
    model_prefixes = ()
    alternatives = {}
    blocks = 1
    maps_embeddings = False

    def translate(self, options):
        """A file's options as they are."""
        return BERT.translate(self, options)

    def refuse(self, options):
        """Other kinds of normalisation were never published."""
        super().refuse(options)
        kind = options.get('ln_type', 'postln')
        if kind not in ('postln', 'preln'):
            raise ValueError(f"ln_type={kind!r}: expected 'postln' or 'preln'.")

    @property
    def pre_norm(self):
        """Whether the normalisation stands before a layer."""
        return self.ln_type == 'preln'

    @property
    def embedding_channels(self):
        """Tokens, segments and positions are summed in the blocks' channels."""
        return self.hidden_size

    def embed_tokens(self, ids):
        """The projected vectors of the tokens, padding masked."""
        return self.apply(
            ids,
            FactorizedEmbedding,
            input_dim=self.vocab_size,
            output_dim=self.embedding_size,
            hidden_dim=self.hidden_size,
            mask_id=self.pad_token_id,
            embeddings_initializer=self.initializer,
            name='Embedding-Token',
        )

    def apply_main_layers(self, x, index):
        """The one block."""
        x = self.residual(x, 'Transformer-MultiHeadSelfAttention', self.attend)
        return self.residual(x, 'Transformer-FeedForward', self.feed_forward)

    def table(self, dialect):
        """The table as it stands."""
        return BERT.table(self, dialect)


_TF = 'bert/encoder/transformer/group_0/inner_group_0/'
_HF = 'albert.encoder.albert_layer_groups.0.albert_layers.0.'
_ATTENTION = 'Transformer-MultiHeadSelfAttention'
_FEED_FORWARD = 'Transformer-FeedForward'

ALBERT.names = {
    'tensorflow': {
        left: right
        for left, right in BERT.names['tensorflow'].items()
        if not left.startswith('Transformer')
    }
    | {
        f'{_ATTENTION}/{{query,key,value}}/{{kernel,bias}}': (
            _TF + 'attention_1/self/{query,key,value}/{kernel,bias}'
        ),
        f'{_ATTENTION}/output/{{kernel,bias}}': (
            _TF + 'attention_1/output/dense/{kernel,bias}'
        ),
        f'{_ATTENTION}-Norm/{{gamma,beta}}': _TF + 'LayerNorm/{gamma,beta}',
        f'{_FEED_FORWARD}/intermediate/{{kernel,bias}}': (
            _TF + 'ffn_1/intermediate/dense/{kernel,bias}'
        ),
        f'{_FEED_FORWARD}/output/{{kernel,bias}}': (
            _TF + 'ffn_1/intermediate/output/dense/{kernel,bias}'
        ),
        f'{_FEED_FORWARD}-Norm/{{gamma,beta}}': _TF + 'LayerNorm_1/{gamma,beta}',
    },
    'huggingface': {
        'Embedding-{Token,Segment,Position}/embeddings': (
            'albert.embeddings.{word,token_type,position}_embeddings.weight'
        ),
        'Embedding-Norm/{gamma,beta}': 'albert.embeddings.LayerNorm.{weight,bias}',
        'Embedding-Mapping/{kernel,bias}': (
            'albert.encoder.embedding_hidden_mapping_in.{weight,bias}'
        ),
        f'{_ATTENTION}/{{query,key,value,output}}/{{kernel,bias}}': (
            _HF + 'attention.{query,key,value,dense}.{weight,bias}'
        ),
        f'{_ATTENTION}-Norm/{{gamma,beta}}': _HF + 'attention.LayerNorm.{weight,bias}',
        f'{_FEED_FORWARD}/{{intermediate,output}}/{{kernel,bias}}': (
            _HF + '{ffn,ffn_output}.{weight,bias}'
        ),
        f'{_FEED_FORWARD}-Norm/{{gamma,beta}}': (
            _HF + 'full_layer_layer_norm.{weight,bias}'
        ),
        'Pooler-Dense/{kernel,bias}': 'albert.pooler.{weight,bias}',
        'NSP-Proba/{kernel,bias}': 'sop_classifier.classifier.{weight,bias}',
        'MLM-Dense/{kernel,bias}': 'predictions.dense.{weight,bias}',
        'MLM-Norm/{gamma,beta}': 'predictions.LayerNorm.{weight,bias}',
        'MLM-Bias/beta': 'predictions.bias',
        'MLM-Decoder/kernel': 'predictions.decoder.weight',
    },
}
ALBERTUnshared.names = ALBERT.names
ALBERTZh.names = {
    'tensorflow': {
        left.replace('Transformer-{i}', 'Transformer'): right.replace(
            'layer_{i}', 'layer_shared'
        )
        for left, right in BERT.names['tensorflow'].items()
        if not left.startswith('Embedding-Mapping')
    }
    | {'Embedding-Token/projection': 'bert/embeddings/word_embeddings_2'},
}
