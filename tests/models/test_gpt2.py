"""GPT-2: the contract, and transformers; test_gpt.py has it beside bert4keras."""

import json

import numpy as np
import pytest
from harness import assert_close
from harness import check_contract
from harness import randomise
from peers import check_against_peer
from peers import check_saving
from peers import make_peer
from peers import padded_batch
from peers import run_peer

from keraseff.models import GPT2
from keraseff.models import build_transformer_model
from keraseff.models import read_config

SMALL = {
    'vocab_size': 40,
    'hidden_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 3,
    'intermediate_size': 36,
    'max_position': 16,
}
ROWS = {
    'plain': {},
    'narrow': {'embedding_size': 10},
    'untied': {'tie_word_embeddings': False, 'shared_segment_embeddings': True},
}
PEERS = {
    'plain': {},
    'untied': {
        'n_embd': 40,
        'n_head': 5,
        'vocab_size': 61,
        'n_inner': 17,
        'activation_function': 'relu',
        'tie_word_embeddings': False,
    },
    'unscaled': {
        'n_layer': 3,
        'activation_function': 'gelu',
        'layer_norm_epsilon': 1e-2,
        'scale_attn_weights': False,
        'reorder_and_upcast_attn': True,
    },
}


@pytest.mark.every_backend
def test_contract():
    check_contract('gpt2', [SMALL | row for row in ROWS.values()])


def peer(row, kind, folder, **changes):
    """A random GPT-2 of transformers, saved in `folder`."""
    config = {'vocab_size': 50, 'n_embd': 24, 'n_layer': 2, 'n_head': 3}
    config |= {'n_positions': 32, 'bos_token_id': 2, 'eos_token_id': 2}
    return make_peer(f'GPT2{kind}', folder, config | PEERS[row] | changes)


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_logits_equal_transformers(row, tmp_path):
    # As many do: the end of a text pads as well, and is within texts all the same.
    model = peer(row, 'LMHeadModel', tmp_path, pad_token_id=2)
    ids, _ = padded_batch(model.config.vocab_size)
    real = ids > 0
    ids[~real] = ids[:, 0] = ids[0, 5] = 2
    check_against_peer(
        model, tmp_path, 'logits', ids, real=real, rows=slice(None), with_lm='linear'
    )


@pytest.mark.parametrize('row', PEERS)
def test_hidden_states_equal_transformers(row, tmp_path):
    model = peer(row, 'Model', tmp_path)
    ids, types = padded_batch(model.config.vocab_size)
    options = {'with_lm': False, 'rows': slice(None)}
    check_against_peer(model, tmp_path, 'last_hidden_state', ids, **options)
    options['shared_segment_embeddings'] = True
    check_against_peer(model, tmp_path, 'last_hidden_state', ids, types, **options)


@pytest.mark.every_backend
def test_the_chinese_one_for_chitchat_opens(data_dir, tmp_path):
    folder = data_dir / 'chinese_bert_vocab_config'
    published = json.loads((folder / 'gpt2_chitchat_config.json').read_text())
    small = published | {'n_layer': 2, 'n_embd': 36, 'vocab_size': 133}
    model = make_peer('GPT2LMHeadModel', tmp_path, small)
    (tmp_path / 'config.json').write_text(json.dumps(small))
    ids, _ = padded_batch(133)
    for pad in (None, 0):
        ours = build_transformer_model(
            tmp_path, tmp_path, with_lm='linear', pad_token_id=pad
        )
        found = ours.predict(ids, verbose=0)[ids > 0]
        theirs = run_peer(model, ids)['logits'][ids > 0]
        assert_close(found, theirs, atol=1e-4, rtol=1e-4)


def test_spellings():
    openai = {'vocab_size': 9, 'n_embd': 8, 'n_layer': 1, 'n_head': 2, 'n_ctx': 6}
    built = GPT2(read_config(openai | {'n_positions': 7, 'n_inner': None}))
    assert (built.max_position, built.intermediate_size) == (7, 32)
    assert (built.segment_vocab_size, built.pad_token_id) == (0, None)
    assert (built.hidden_act, built.epsilon) == ('gelu_tanh', 1e-5)
    built = GPT2(read_config(openai | {'n_inner': 5, 'type_vocab_size': 2}))
    assert (built.max_position, built.intermediate_size) == (6, 5)
    assert built.segment_vocab_size == 0
    assert GPT2(read_config(openai | {'pad_token_id': 3})).pad_token_id == 3
    assert GPT2(SMALL).pad_token_id is None
    with pytest.raises(ValueError, match='segment_vocab_size=2: this family has no'):
        GPT2(SMALL, segment_vocab_size=2)
    for option in ('add_cross_attention', 'scale_attn_by_inverse_layer_idx'):
        with pytest.raises(ValueError, match=f'{option}=true: '):
            GPT2(openai | {option: True})


def test_where_dropout_stands():
    def rates(**options):
        built = build_transformer_model(
            SMALL, model='gpt2', return_keras_model=False, **options
        )
        dropouts = {k: v for k, v in built.layers.items() if k.endswith('-Dropout')}
        return {name: layer.rate for name, layer in dropouts.items()}

    blocks = {
        f'Transformer-{i}-{kind}-Dropout': 0.1
        for i in range(2)
        for kind in ('MultiHeadSelfAttention', 'FeedForward')
    }
    assert rates(dropout_rate=0.1) == blocks | {'Output-Dropout': 0.1}
    both = rates(dropout_rate=0.1, embd_pdrop=0.3)
    assert both == blocks | {'Embedding-Dropout': 0.3}
    assert rates(embd_pdrop=0.0, dropout_rate=0.1) == blocks
    assert rates() == {}


def test_transformers_opens_what_we_save(tmp_path):
    ids, _ = padded_batch(50)
    for row in PEERS:
        peer(row, 'LMHeadModel', tmp_path / row)
        check_saving('GPT2LMHeadModel', tmp_path / row, ids, with_lm='linear')


def test_tensorflow_reads_what_we_save(tmp_path):
    tf = pytest.importorskip('tensorflow')
    built = build_transformer_model(SMALL, model='gpt2', return_keras_model=False)
    randomise(built.model)
    built.save_weights_as_checkpoint(tmp_path / 'model.ckpt')
    reader = tf.train.load_checkpoint(str(tmp_path / 'model.ckpt'))
    shapes = reader.get_variable_to_shape_map()
    assert len(shapes) == 2 + 2 * 16 + 2
    places = {
        'Output-Norm': 'gpt/output/LayerNorm/beta',
        'Transformer-0-FeedForward-Norm': (
            'gpt/transformer/layer_0/input/LayerNorm/beta'
        ),
        'Transformer-1-MultiHeadSelfAttention-Norm': (
            'gpt/transformer/layer_1/attention/input/LayerNorm/beta'
        ),
    }
    for layer, name in places.items():
        ours = built.layers[layer].get_weights()
        assert any(np.array_equal(reader.get_tensor(name), array) for array in ours)
