"""Sizes and misfits told without weights, against what building and loading say."""

import re
import resource

import keras
import numpy as np
import pytest
from harness import SMALL

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import DictCheckpoint
from keraseff.checkpoints import open_checkpoint
from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.fitting import find_misfit
from keraseff.models.fitting import guess_options
from keraseff.models.fitting import heads_in
from keraseff.models.fitting import infer_options
from keraseff.models.fitting import shapes_only
from keraseff.models.recognition import families
from keraseff.models.recognition import recognise

CONFIG = SMALL | {'attention_head_size': 4}
# Not those whose layers share a file's tensors, nor the halves and kin of others.
LEFT_OUT = re.compile('unshared|coder|mt5|mistral')
KINDS = [f for f, names in families().items() if not LEFT_OUT.search(names[0])]


def opened(path, family):
    checkpoint = open_checkpoint(path)
    (found,) = [each for each in recognise(checkpoint) if each.family is family]
    return checkpoint, found


@pytest.mark.parametrize('family', KINDS, ids=lambda f: f.__name__)
def test_sizes_are_told_from_the_shapes_of_any_family(family, tmp_path):
    built = family(CONFIG)
    built.build()
    for dialect, name in (('tensorflow', 'm.ckpt'), ('huggingface', 'm.safetensors')):
        if dialect not in family.names:
            continue
        built.save_weights_as_checkpoint(tmp_path / name)
        checkpoint, found = opened(tmp_path / name, family)
        options = infer_options(checkpoint, found)
        assert {
            key: getattr(built, key) or value for key, value in options.items()
        } == (options)
        assert {'vocab_size', 'hidden_size'} <= set(options)
        assert not find_misfit(checkpoint, found, CONFIG)
        # The shapes alone lead to a model of the same shapes.
        assert not find_misfit(checkpoint, found, guess_options(checkpoint, found))


@pytest.fixture
def bert(tmp_path):
    built = build_transformer_model(
        SMALL, return_keras_model=False, with_pool=True, with_mlm=True
    )
    built.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    return {name: array for name, array in open_checkpoint(tmp_path / 'm.ckpt').items()}


def misfit(tensors, options):
    checkpoint = DictCheckpoint(tensors)
    found = [each for each in recognise(checkpoint) if each.family is MODELS['bert']]
    return find_misfit(checkpoint, found[0], options)


def test_what_fits_is_what_loads(bert):
    assert not misfit(bert, SMALL)
    build_transformer_model(SMALL, bert, with_pool=True, with_mlm=True)


def test_missing_and_misshaped_are_those_that_loading_names(bert):
    del bert['bert/encoder/layer_1/output/dense/bias']
    bert['bert/embeddings/LayerNorm/beta'] = np.zeros(13)
    bert['extra'] = np.zeros(1)
    bert['bert/embeddings/LayerNorm/beta/adam_m'] = np.zeros(12)
    found = misfit(bert, SMALL)
    assert len(found.missing) == len(found.misshaped) == 1
    assert found.missing[0].startswith('bert/encoder/layer_1/output/dense/bias')
    assert '(13,)' in found.misshaped[0]
    assert '(12,)' in found.misshaped[0]
    assert found.unused == ('extra',)
    with pytest.raises(CheckpointError) as error:
        build_transformer_model(SMALL, bert, with_pool=True, with_mlm=True)
    for text in (*found.missing, *found.misshaped):
        assert text.split(' of shape')[0] in str(error.value)


def test_a_config_that_says_otherwise_is_contradicted(bert):
    found = misfit(bert, SMALL | {'num_hidden_layers': 12, 'vocab_size': 21})
    assert 'num_hidden_layers=12 in the config, 2 by the tensors' in found.differs
    assert 'vocab_size=21 in the config, 20 by the tensors' in found.differs
    assert not found.missing
    assert any('word_embeddings' in text for text in found.misshaped)


def test_heads_are_put_on_as_the_tensors_ask(bert):
    checkpoint = DictCheckpoint(bert)
    assert heads_in(recognise(checkpoint)[0]) == {'with_pool': True, 'with_mlm': True}
    body = {n: a for n, a in bert.items() if 'cls' not in n and 'pooler' not in n}
    assert heads_in(recognise(DictCheckpoint(body))[0]) == {}
    assert not misfit(body, SMALL)


def test_hostile_sizes_are_refused_and_not_laid_out(bert):
    tensors = {n: a for n, a in bert.items() if 'layer_' not in n}
    for option in ({'num_hidden_layers': 10**9}, {'intermediate_size': 2**40}):
        with pytest.raises(ValueError, match='beyond any model'):
            misfit(tensors, SMALL | option)


@pytest.mark.every_backend
def test_a_large_model_costs_nothing():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large = dict(SMALL, vocab_size=200_000, hidden_size=6144, intermediate_size=24576)
    model = MODELS['bert'](large, with_mlm=True)
    with shapes_only():
        model.build()
    assert sum(np.prod(w.shape) for w in model.model.weights) > 2e9
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000, f'{grown} KiB were allocated'
    # What is built after it has values again.
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    assert keras.ops.convert_to_numpy(layer.kernel).shape == (3, 2)
