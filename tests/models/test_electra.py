"""ELECTRA: its two models, in Google's and in Hugging Face's files."""

import numpy as np
import pytest
from harness import SMALL
from harness import assert_close
from harness import check_family
from harness import check_tables
from harness import randomise
from peers import check_against_bert4keras
from peers import check_against_peer
from peers import make_peer
from peers import padded_batch
from peers import run_peer

from keraseff.checkpoints import open_checkpoint
from keraseff.models import build_transformer_model


@pytest.mark.every_backend
def test_contract():
    generator = {'with_mlm': 'linear'}
    found = check_family('electra', SMALL | {'embedding_size': 8}, **generator)
    found |= check_family(
        'electra', SMALL | {'tie_word_embeddings': False}, **generator
    )
    discriminator = {'with_mlm': False, 'with_discriminator': 'linear'}
    found |= check_family('electra', SMALL, **discriminator)
    check_tables('electra', found)


PEERS = {
    'small': {'embedding_size': 14},
    'equal': {'embedding_size': 24, 'hidden_act': 'relu'},
    'wide': {
        'embedding_size': 12,
        'hidden_size': 40,
        'num_attention_heads': 5,
        'tie_word_embeddings': False,
        'layer_norm_eps': 1e-5,
    },
}


def peer(row, kind, folder, **save):
    config = {
        'vocab_size': 50,
        'hidden_size': 24,
        'num_hidden_layers': 2,
        'num_attention_heads': 3,
        'intermediate_size': 44,
        'max_position_embeddings': 32,
    }
    # transformers fixes the generator head's activation; the authors take hidden_act.
    fixed = {'hidden_act': 'gelu'} if kind == 'ElectraForMaskedLM' else {}
    return make_peer(kind, folder, config | PEERS[row] | fixed, **save)


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_outputs_equal_transformers(row, tmp_path):
    ids, types = padded_batch(50)
    model = peer(row, 'ElectraForMaskedLM', tmp_path / 'generator')
    check_against_peer(
        model, tmp_path / 'generator', 'logits', ids, types, with_mlm='linear'
    )
    model = peer(row, 'ElectraModel', tmp_path / 'encoder')
    check_against_peer(model, tmp_path / 'encoder', 'last_hidden_state', ids, types)


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_discriminator_equals_transformers(row, tmp_path):
    ids, types = padded_batch(50)
    model = peer(row, 'ElectraForPreTraining', tmp_path)
    ours = build_transformer_model(tmp_path, tmp_path, with_discriminator='linear')
    found = ours.predict([ids, types], verbose=0)[..., 0]
    theirs = run_peer(model, ids, types)['logits']
    assert_close(found[ids > 0], theirs[ids > 0], atol=1e-4)


@pytest.mark.every_backend
def test_outputs_equal_bert4keras(data_dir):
    check_against_bert4keras(
        'electra', data_dir, model='electra', with_discriminator=True
    )


def test_transformers_opens_what_we_save(tmp_path):
    transformers = pytest.importorskip('transformers')
    peer('small', 'ElectraForPreTraining', tmp_path)
    ours = build_transformer_model(
        tmp_path, tmp_path, with_discriminator='linear', return_keras_model=False
    )
    randomise(ours.model)
    ours.save_weights_as_checkpoint(tmp_path / 'model.safetensors')
    again = transformers.ElectraForPreTraining.from_pretrained(tmp_path).eval()
    ids, types = padded_batch(50)
    found = ours.model.predict([ids, types], verbose=0)[..., 0]
    theirs = run_peer(again, ids, types)['logits']
    assert_close(found[ids > 0], theirs[ids > 0], atol=1e-4)


def test_both_models_come_out_of_googles_file(tmp_path):
    """One file, two encoders: the generator's is under `generator/`."""
    options = SMALL | {'embedding_size': 8}
    small = options | {'hidden_size': 9, 'intermediate_size': 7}
    built = {}
    for name, config, heads in (
        ('discriminator', options, {'with_discriminator': True}),
        ('generator', small, {'with_mlm': 'linear'}),
    ):
        built[name] = build_transformer_model(
            config, model='electra', return_keras_model=False, **heads
        )
        randomise(built[name].model, seed=len(name))
    for layer in ('Token', 'Segment', 'Position', 'Norm'):
        source, target = (built[k].layers[f'Embedding-{layer}'] for k in built)
        target.set_weights(source.get_weights())
    files = {}
    for name, model in built.items():
        model.save_weights_as_checkpoint(tmp_path / f'{name}.ckpt')
        files[name] = dict(open_checkpoint(tmp_path / f'{name}.ckpt'))
    parts = ('electra/encoder/', 'electra/embeddings_project/')
    joint = {
        name.replace('electra/', 'generator/') if name.startswith(parts) else name: a
        for name, a in files['generator'].items()
    } | files['discriminator']
    ids = np.array([[2, 5, 6, 3, 7]])
    for name, config, heads in (
        ('discriminator', options, {'with_discriminator': True}),
        ('generator', small, {'with_mlm': 'linear'}),
    ):
        again = build_transformer_model(config, joint, 'electra', **heads)
        expected = built[name].model.predict([ids, ids * 0], verbose=0)
        assert_close(again.predict([ids, ids * 0], verbose=0), expected)


def test_heads_of_two_models_are_refused():
    with pytest.raises(ValueError, match='choose one'):
        build_transformer_model(
            SMALL, model='electra', with_discriminator=True, with_mlm=True
        )
    with pytest.raises(ValueError, match='no head with_pool'):
        build_transformer_model(SMALL, model='electra', with_pool=True)
