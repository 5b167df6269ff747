"""Which axis of which weight is split, for every family."""

import keras
import pytest
from devices import SIZES

from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.layouts import data_parallel
from keraseff.models.layouts import split_axis

HEADS = {'pool': True, 'nsp': 'linear', 'mlm': 'linear', 'lm': 'linear'}
# Few numbers, or a table of which each device needs all.
WHOLE = ('Position/embeddings', 'Segment/embeddings', 'NSP-Proba/kernel')


@pytest.mark.parametrize('name', sorted(MODELS))
@pytest.mark.parametrize('tied', [True, False])
def test_every_matrix_of_every_family_is_split(name, tied):
    options = {f'with_{head}': HEADS[head] for head in MODELS[name].heads}
    options |= {'embedding_size': 12} if name == 'bert' else {}
    model = build_transformer_model(
        SIZES, model=name, tie_word_embeddings=tied, **options
    )
    for variable in model.variables:
        matrix = len(variable.shape) == 2 and not variable.path.endswith(WHOLE)
        axis = split_axis(variable.path, variable.shape, 2)
        assert (axis is not None) or not matrix, variable.path
        if len(variable.shape) == 1 and axis is not None:
            assert not variable.path.endswith(('gamma', 'output/bias')), variable.path


@pytest.mark.parametrize(
    ('path', 'shape', 'shards', 'axis'),
    [
        ('Transformer-3-MultiHeadSelfAttention/query/kernel', (24, 24), 4, 1),
        ('Transformer-3-MultiHeadSelfAttention/query/kernel', (24, 6), 4, 0),
        ('Transformer-3-MultiHeadSelfAttention/query/bias', (6,), 4, None),
        ('Transformer-3-MultiHeadSelfAttention/output/kernel', (24, 24), 4, 0),
        ('Transformer-3-FeedForward/intermediate_1/kernel', (24, 36), 4, 1),
        ('Decoder-Transformer-3-FeedForward/output/kernel', (36, 24), 4, 0),
        ('functional/Embedding-Token/embeddings', (30522, 768), 4, 1),
        ('Second-Embedding-Token/embeddings', (21128, 768), 4, 0),
        ('Decoder-Output-LM/kernel', (24, 40), 4, 1),
        ('Transformer-3-FeedForward-Norm/gamma', (24,), 4, None),
        ('adam/Embedding-Token_embeddings_momentum', (40, 24), 4, None),
        ('dense/kernel', (24, 24), 4, None),
    ],
)
def test_which_axis(path, shape, shards, axis):
    assert split_axis(path, shape, shards) == axis


def test_data_parallel_of_unequal_parts():
    if keras.config.backend() == 'torch':
        with pytest.raises(ValueError, match='KERAS_BACKEND=jax'):
            data_parallel(None)
        return
    with pytest.raises(ValueError, match='equal part'):
        data_parallel(None, parts=[0.2, 0.8])
    with pytest.raises(ValueError, match=r'devices=99: \w+ sees 1'):
        data_parallel(None, devices=99)
