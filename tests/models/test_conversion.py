"""Tensors under other names: there and back, fused, turned, tied and shared."""

import json
import re

import numpy as np
import pytest
from harness import SMALL

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import DictCheckpoint
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow
from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.conversion import convert_names
from keraseff.models.conversion import left_out
from keraseff.models.recognition import families

CONFIG = SMALL | {'attention_head_size': 4}
# Not those whose layers share a file's tensors, nor the halves and kin of others.
LEFT_OUT = re.compile('unshared|coder|mt5')
BOTH = [
    family
    for family, names in families().items()
    if len(family.names) > 1 and not LEFT_OUT.search(names[0])
]


class Fused:
    """A family of one layer whose other dialect fuses and turns."""

    tie_word_embeddings = True
    alternatives = {}
    ignored = None
    names = {
        'tensorflow': {
            'A/{q,k,v}/kernel': '{q,k,v}/kernel',
            'A/{q,k,v}/bias': '{q,k,v}/bias',
            'B/kernel': 'b|T',
        },
        'huggingface': {
            'A/{q,k,v}/kernel': 'fused.weight[{0,1,2}/3]',
            'A/{q,k,v}/bias': 'fused.bias[{0,1,2}/3]',
            'B/kernel': 'b.weight|=',
        },
    }

    def tensor_names(self, tensor):
        return [tensor]

    def table(self, dialect):
        from keraseff.checkpoints import expand

        return expand(self.names[dialect], 1)


def separate():
    draw = np.random.default_rng(0)
    tensors = {f'{x}/kernel': draw.normal(size=(4, 6)) for x in 'qkv'}
    tensors |= {f'{x}/bias': draw.normal(size=6) for x in 'qkv'}
    return tensors | {'b': draw.normal(size=(2, 5))}


def test_parts_are_joined_along_our_last_axis_and_split_again():
    tensors = separate()
    fused, lost = convert_names(DictCheckpoint(tensors), Fused(), 'huggingface')
    assert lost == []
    ours = np.concatenate([tensors[f'{x}/kernel'] for x in 'qkv'], axis=1)
    np.testing.assert_array_equal(fused['fused.weight'], ours.T)
    assert fused.shape('fused.weight') == (18, 4)
    ours = np.concatenate([tensors[f'{x}/bias'] for x in 'qkv'])
    np.testing.assert_array_equal(fused['fused.bias'], ours)
    np.testing.assert_array_equal(fused['b.weight'], tensors['b'].T)
    again, lost = convert_names(fused, Fused(), 'tensorflow')
    assert lost == []
    assert set(again) == set(tensors)
    for name, array in tensors.items():
        assert again.shape(name) == array.shape
        np.testing.assert_array_equal(again[name], array)


def test_parts_that_do_not_make_a_whole_are_refused():
    tensors = separate()
    del tensors['k/bias']
    with pytest.raises(CheckpointError, match=r"'fused.bias' has 3 parts; \[1\]"):
        convert_names(DictCheckpoint(tensors), Fused(), 'huggingface')
    tensors = separate() | {'k/kernel': np.zeros((5, 6))}
    with pytest.raises(CheckpointError, match='differ in shape'):
        convert_names(DictCheckpoint(tensors), Fused(), 'huggingface')
    fused = DictCheckpoint({'fused.bias': np.zeros(7)}, 'huggingface')
    with pytest.raises(CheckpointError, match='3 equal parts'):
        convert_names(fused, Fused(), 'tensorflow')


def test_names_that_the_other_dialect_lacks_are_told():
    tensors = separate() | {'classifier': np.zeros(2), 'b/adam_m': np.zeros(2)}
    fused, lost = convert_names(DictCheckpoint(tensors), Fused(), 'huggingface')
    assert lost == ['classifier']
    assert len(fused) == 3


@pytest.mark.parametrize('family', BOTH, ids=lambda f: f.__name__)
def test_every_family_goes_there_and_back(family, tmp_path):
    built = family(CONFIG)
    built.build()
    built.save_weights_as_checkpoint(tmp_path / 'm.safetensors')
    source = open_checkpoint(tmp_path / 'm.safetensors')
    other, lost = convert_names(source, built, 'tensorflow')
    assert lost == []
    write_tensorflow(tmp_path / 'm.ckpt', other)
    again, lost = convert_names(
        open_checkpoint(tmp_path / 'm.ckpt'), built, 'huggingface'
    )
    assert lost == []
    assert set(again) == set(source)
    for name in source:
        np.testing.assert_array_equal(again[name], source[name])
    # What our own writer makes of the model is the same file.
    built.save_weights_as_checkpoint(tmp_path / 'ours.ckpt')
    ours = open_checkpoint(tmp_path / 'ours.ckpt')
    assert set(ours) == set(other)
    for name in ours:
        np.testing.assert_array_equal(ours[name], other[name])


def bert_tensors():
    built = build_transformer_model(SMALL, return_keras_model=False, with_mlm=True)
    return built


def test_a_tied_output_is_left_out_and_another_one_kept(tmp_path):
    built = bert_tensors()
    built.save_weights_as_checkpoint(tmp_path / 'm.safetensors')
    tensors = dict(open_checkpoint(tmp_path / 'm.safetensors').items())
    words = tensors['bert.embeddings.word_embeddings.weight']
    for output, kept in ((words.copy(), False), (words + 1, True)):
        tensors['cls.predictions.decoder.weight'] = output
        source = DictCheckpoint(tensors, 'huggingface')
        other, lost = convert_names(source, built, 'tensorflow')
        assert lost == []
        assert ('cls/predictions/output_weights' in other) is kept


@pytest.mark.every_backend
def test_transformers_opens_the_result_and_agrees(tmp_path):
    torch = pytest.importorskip('torch')
    transformers = pytest.importorskip('transformers')
    built = build_transformer_model(
        SMALL,
        return_keras_model=False,
        with_mlm='linear',
        with_nsp='linear',
    )
    built.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    source = open_checkpoint(tmp_path / 'm.ckpt')
    other, _ = convert_names(source, built, 'huggingface')
    config = SMALL | {'max_position_embeddings': SMALL['max_position']}
    config |= {'model_type': 'bert', 'type_vocab_size': 2}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    write_safetensors(tmp_path / 'model.safetensors', other, {'format': 'pt'})
    model = transformers.BertForPreTraining.from_pretrained(tmp_path).eval()
    ids = np.array([[2, 5, 6, 3, 4, 8]])
    with torch.no_grad():
        theirs = model(torch.tensor(ids))
    nsp, mlm = built.model.predict([ids, ids * 0], verbose=0)
    np.testing.assert_allclose(mlm, theirs.prediction_logits, atol=1e-5)
    np.testing.assert_allclose(nsp, theirs.seq_relationship_logits, atol=1e-5)


def test_the_other_model_in_a_file_is_told():
    """A file of ELECTRA's two: the discriminator goes, the generator is named."""
    model = MODELS['electra'](SMALL)
    tensors = {right: np.zeros(1) for right in model.table('tensorflow').values()}
    other = 'generator/encoder/layer_0/output/dense/kernel'
    source = DictCheckpoint(tensors | {other: np.zeros(1), 'global_step': np.zeros(())})
    assert left_out(source, model) == [other]
    assert left_out(DictCheckpoint(tensors), model) == []
