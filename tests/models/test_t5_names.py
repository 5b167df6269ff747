"""T5's names, against some that its published files have."""

import re

import pytest

from keraseff.checkpoints import expand
from keraseff.models.t5_names import IGNORED
from keraseff.models.t5_names import t5_names

CROSS = 'Decoder-Transformer-1-MultiHeadCrossAttention'
PUBLISHED = [
    (
        f'{CROSS}/output/kernel',
        'decoder/block_001/layer_001/EncDecAttention/o',
        'decoder.block.1.layer.1.EncDecAttention.o.weight',
    ),
    (
        f'{CROSS}-Norm/gamma',
        'decoder/block_001/layer_001/rms_norm/scale',
        'decoder.block.1.layer.1.layer_norm.weight',
    ),
    (
        'Decoder-Transformer-0-FeedForward/intermediate_1/kernel',
        'decoder/block_000/layer_002/DenseReluDense/wi_1/kernel',
        'decoder.block.0.layer.2.DenseReluDense.wi_1.weight',
    ),
    (
        'Encoder-Transformer-0-FeedForward/output/kernel',
        'encoder/block_000/layer_001/DenseReluDense/wo/kernel',
        'encoder.block.0.layer.1.DenseReluDense.wo.weight',
    ),
    (
        'Encoder-Output-Norm/gamma',
        'encoder/rms_norm/scale',
        'encoder.final_layer_norm.weight',
    ),
    ('Decoder-Output-LM/kernel', 'decoder/logits/kernel', 'lm_head.weight'),
]


def test_names_are_those_of_published_files():
    tables = t5_names(gated=True, norm='rms_norm')
    google = expand(tables['tensorflow'], 2)
    face = expand(tables['huggingface'], 2)
    for left, first, second in PUBLISHED:
        assert (google[left], face[left]) == (first, second)
    assert google.keys() == face.keys()
    plain = expand(t5_names()['tensorflow'], 1)
    assert plain['Decoder-Output-Norm/gamma'] == 'decoder/final_layer_norm/scale'


@pytest.mark.parametrize('gated', [False, True])
def test_the_parts_share_the_embeddings_and_nothing_else(gated):
    for dialect, whole in t5_names(gated=gated).items():
        encoder = t5_names(('encoder',), gated)[dialect]
        decoder = t5_names(('decoder',), gated)[dialect]
        assert encoder | decoder == whole
        assert encoder.keys() & decoder.keys() == {'Embedding-Token/embeddings'}


def test_no_weight_is_ignored():
    for norm in ('layer_norm', 'rms_norm'):
        for table in t5_names(gated=True, norm=norm).values():
            for name in expand(table, 1).values():
                assert not re.search(IGNORED, name), name
    for leftover in (
        'shared/embedding_slot_vr',
        'encoder/block_000/layer_000/layer_norm/scale_slot_v',
        'encoder.embed_tokens.weight',
        'decoder/block_000/layer_001/EncDecAttention/relative_attention_bias',
        'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight',
    ):
        assert re.search(IGNORED, leftover), leftover
