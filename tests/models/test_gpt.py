"""GPT: the contract, transformers, CDial-GPT, and bert4keras for all its three GPTs."""

import json

import numpy as np
import pytest
from harness import assert_close
from harness import check_contract
from harness import randomise
from harness import save_and_reopen
from peers import check_against_bert4keras
from peers import check_against_peer
from peers import check_saving
from peers import make_peer
from peers import padded_batch
from peers import run_peer

from keraseff.models import GPT
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
    'segments': {},
    'narrow': {'embedding_size': 10, 'segment_vocab_size': 0},
    'untied': {
        'embedding_size': 10,
        'tie_word_embeddings': False,
        'shared_segment_embeddings': True,
    },
}
PEERS = {
    'plain': {},
    'relu': {'n_embd': 40, 'n_head': 5, 'vocab_size': 61, 'afn': 'relu'},
    'silu': {'afn': 'silu', 'layer_norm_epsilon': 1e-3, 'tie_word_embeddings': False},
}


@pytest.mark.every_backend
def test_contract():
    check_contract('gpt', [SMALL | row for row in ROWS.values()])


def peer(row, kind, folder, **changes):
    """A random GPT of transformers, saved in `folder`."""
    config = {'vocab_size': 50, 'n_embd': 24, 'n_layer': 2, 'n_head': 3}
    config |= {'n_positions': 32} | PEERS[row] | changes
    return make_peer(f'OpenAIGPT{kind}', folder, config)


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_logits_equal_transformers(row, tmp_path):
    model = peer(row, 'LMHeadModel', tmp_path)
    ids, _ = padded_batch(model.config.vocab_size)
    check_against_peer(
        model, tmp_path, 'logits', ids, rows=slice(None), with_lm='linear'
    )


@pytest.mark.parametrize('row', PEERS)
def test_hidden_states_equal_transformers(row, tmp_path):
    model = peer(row, 'Model', tmp_path)
    ids, _ = padded_batch(model.config.vocab_size)
    options = {'with_lm': False, 'rows': slice(None)}
    check_against_peer(model, tmp_path, 'last_hidden_state', ids, **options)


@pytest.mark.every_backend
def test_cdial_gpt_adds_the_vectors_of_who_speaks(data_dir, tmp_path):
    path = data_dir / 'cdial_gpt' / 'config' / 'cgpt' / 'config.json'
    published = json.loads(path.read_text())
    small = published | {'n_layer': 6, 'n_embd': 48, 'vocab_size': 88}
    model = make_peer('OpenAIGPTLMHeadModel', tmp_path, small)
    (tmp_path / 'config.json').write_text(json.dumps(small))
    ids, types = padded_batch(87, pad=1)
    types[:] = np.where(types, 86, 87)
    ids[:, 0] = types[:, 0] = 0  # [CLS] speaks for itself
    ids[1, 3] = 0
    options = {'model': 'gpt', 'shared_segment_embeddings': True, 'with_lm': 'linear'}
    told = {'real': ids != 1, 'rows': slice(None)}
    check_against_peer(model, tmp_path, 'logits', ids, types, **told, **options)
    spoken = build_transformer_model(tmp_path, tmp_path, **options)
    masked = build_transformer_model(tmp_path, tmp_path, pad_token_id=1, **options)
    found = spoken.predict([ids, types], verbose=0)
    same = masked.predict([ids, types], verbose=0)
    assert_close(same[ids != 1], found[ids != 1])
    mute = build_transformer_model(tmp_path, tmp_path, model='gpt', with_lm='linear')
    assert [x.name for x in mute.inputs] == ['Input-Token']
    assert np.abs(found - mute.predict(ids, verbose=0)).max() > 0.1


def test_openai_s_spellings():
    openai = {'vocab_size': 9, 'n_embd': 8, 'n_layer': 1, 'n_head': 2, 'n_ctx': 6}
    openai |= {'resid_pdrop': 0.1, 'attn_pdrop': 0.2, 'embd_pdrop': 0.3}
    built = build_transformer_model(
        openai, model='openai-gpt', return_keras_model=False
    )
    assert (built.max_position, built.intermediate_size) == (6, 32)
    assert (built.segment_vocab_size, built.pad_token_id) == (0, None)
    assert (built.hidden_act, built.epsilon) == ('gelu_tanh', 1e-5)
    rates = {k: v.rate for k, v in built.layers.items() if k.endswith('-Dropout')}
    assert rates['Embedding-Dropout'] == 0.3
    assert rates['Transformer-0-MultiHeadSelfAttention-Dropout'] == 0.1
    attention = built.layers['Transformer-0-MultiHeadSelfAttention']
    assert attention.attention_dropout == 0.2

    def option(name, **changes):
        return getattr(GPT(read_config(openai | changes)), name)

    assert option('hidden_act', afn='gelu') == 'gelu_tanh'
    assert option('hidden_act', afn='relu') == 'relu'
    assert option('max_position', n_positions=7) == 7
    assert option('pad_token_id', pad_token_id=3, eos_token_id=4) == 3
    assert option('pad_token_id', pad_token_id=4, eos_token_id=4) is None


def test_bert4keras_spellings():
    built = build_transformer_model(
        SMALL | {'hidden_dropout_prob': 0.1, 'hidden_act': 'gelu'},
        model='gpt',
        return_keras_model=False,
        final_activation='linear',
    )
    assert [x.name for x in built.inputs] == ['Input-Token', 'Input-Segment']
    assert (built.pad_token_id, built.hidden_act) == (0, 'gelu')
    assert built.layers['Embedding-Dropout'].rate == 0.1
    assert built.with_lm == 'linear'
    with pytest.raises(ValueError, match='GPT has no head with_mlm; it has: with_lm'):
        build_transformer_model(SMALL, model='gpt', with_mlm=True)


@pytest.mark.every_backend
@pytest.mark.parametrize('model', ['gpt', 'gpt2', 'gpt2_ml'])
def test_who_sees_whom(model):
    ids = np.array([[5, 6, 7, 8, 9, 10, 0]])
    segments = np.array([[0, 0, 0, 1, 1, 1, 0]])
    options = {'model': model, 'with_lm': 'linear', 'pad_token_id': 0}
    reached = {}
    for application in ('lm', 'unilm'):
        network = build_transformer_model(SMALL, application=application, **options)
        randomise(network)
        names = [x.name for x in network.inputs]
        assert ('Input-Segment' in names) == (application == 'unilm' or model == 'gpt')
        others = np.repeat(ids, 7, axis=0)
        others[range(6), range(6)] = 20  # and the last row as it was
        inputs = [others, np.repeat(segments, 7, axis=0)]
        found = network.predict(inputs if len(names) > 1 else others, verbose=0)
        changed = np.abs(found[:6] - found[6])[:, :6].max(-1) > 1e-5
        reached[application] = changed.T  # [place that sees, place seen]
    causal = np.tril(np.ones((6, 6), bool))
    np.testing.assert_array_equal(reached['lm'], causal)
    causal[:3, :3] = True
    np.testing.assert_array_equal(reached['unilm'], causal)


def test_transformers_opens_what_we_save(tmp_path):
    ids, _ = padded_batch(50)
    for row in PEERS:
        peer(row, 'LMHeadModel', tmp_path / row)
        check_saving('OpenAIGPTLMHeadModel', tmp_path / row, ids, with_lm='linear')


def test_tensorflow_reads_what_we_save(tmp_path):
    tf = pytest.importorskip('tensorflow')
    built = build_transformer_model(SMALL, model='gpt', return_keras_model=False)
    built.save_weights_as_checkpoint(tmp_path / 'gpt_model.ckpt')
    reader = tf.train.load_checkpoint(str(tmp_path / 'gpt_model.ckpt'))
    shapes = reader.get_variable_to_shape_map()
    assert len(shapes) == 3 + 2 * 16
    assert shapes['gpt/embeddings/token_type_embeddings'] == [2, 24]
    layer = built.layers['Transformer-1-FeedForward-Norm']
    layer.gamma.assign(layer.gamma * 0 + 3)
    built.save_weights_as_checkpoint(tmp_path / 'gpt_model.ckpt')
    reader = tf.train.load_checkpoint(str(tmp_path / 'gpt_model.ckpt'))
    gamma = reader.get_tensor('gpt/transformer/layer_1/output/LayerNorm/gamma')
    np.testing.assert_array_equal(gamma, np.full(24, 3))


def test_keys_of_another_size_do_not_fit_a_fused_matrix(tmp_path):
    options = {'attention_key_size': 5, 'with_lm': 'linear'}
    built = build_transformer_model(
        SMALL, model='gpt2', return_keras_model=False, **options
    )
    with pytest.raises(ValueError, match='3 equal parts in such files'):
        built.save_weights_as_checkpoint(tmp_path / 'm.safetensors')
    assert not list(tmp_path.iterdir())
    randomise(built.model)
    built.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    again = build_transformer_model(SMALL, tmp_path / 'm.ckpt', model='gpt2', **options)
    ids = np.array([[5, 6, 7]])
    expected = built.model.predict(ids, verbose=0)
    assert_close(again.predict(ids, verbose=0), expected)


def test_old_files_and_fewer_tokens(tmp_path, rng):
    torch = pytest.importorskip('torch')
    model = peer('silu', 'LMHeadModel', tmp_path)
    state = model.state_dict()
    # As openai-gpt's own file: no prefix, and triangles among the weights.
    old = {name.removeprefix('transformer.'): w for name, w in state.items()}
    old |= {f'h.{i}.attn.bias': torch.ones(1, 1, 32, 32) for i in range(2)}
    old['h.1.attn.masked_bias'] = torch.tensor(-1e4)
    (tmp_path / 'model.safetensors').unlink()
    torch.save(old, tmp_path / 'pytorch_model.bin')
    keep = [0, 7, 3, 44, 21]
    options = {'with_lm': 'linear', 'keep_tokens': keep}
    ours = build_transformer_model(tmp_path, tmp_path, **options)
    ids = rng.integers(0, 5, (2, 6))
    theirs = run_peer(model, np.array(keep)[ids], real=ids >= 0)['logits']
    found = ours.predict(ids, verbose=0)
    assert_close(found, theirs[..., keep], atol=1e-4, rtol=1e-4)


# Where ours follows the authors' code instead, it is told to follow bert4keras.
BERT4KERAS = {
    'gpt': {'layer_norm_eps': 1e-12},
    'gpt2': {'pad_token_id': 0},
    'gpt2_ml': {},
}


@pytest.mark.every_backend
@pytest.mark.parametrize('model', BERT4KERAS)
def test_outputs_equal_bert4keras(model, data_dir):
    check_against_bert4keras(model, data_dir, model=model, **BERT4KERAS[model])


def test_reopened_it_still_ignores_segments_as_padding():
    options = {'model': 'gpt', 'shared_segment_embeddings': True, 'with_lm': 'linear'}
    network = build_transformer_model(SMALL, **options)
    randomise(network)
    ids, segments = np.array([[5, 6, 7, 8]]), np.zeros((1, 4), int)
    found = network.predict([ids, segments], verbose=0)
    other = ids.copy()
    other[0, 1] = 20  # an id of segment 0, which is the padding's id
    moved = np.abs(network.predict([other, segments], verbose=0) - found)
    assert moved[0, 3].max() > 1e-3
    again = save_and_reopen(network).predict([ids, segments], verbose=0)
    assert_close(again, found)
