"""T5 in its versions, whole and in parts: contracts, and equality with others'."""

import json
import re

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_family
from harness import randomise
from harness import save_and_reopen
from harness import to_numpy
from peers import assert_gradients_close
from peers import embedding_gradient
from peers import padded_batch
from peers import peer_gradient
from peers import run_peer

from keraseff.checkpoints import expand
from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.loading import named_variables

SMALL = {
    'vocab_size': 40,
    'hidden_size': 24,
    'num_hidden_layers': 1,
    'num_attention_heads': 3,
    'intermediate_size': 36,
}
# Encoder ids, two of them with padding, and decoder ids, which begin with it.
IDS = np.array([[2, 5, 6, 3, 7, 3], [2, 9, 3, 0, 0, 0], [4, 9, 1, 7, 8, 0]])
BEGUN = np.array([[0, 5, 6, 3], [0, 9, 3, 0], [0, 1, 7, 0]])


# Contracts

ODD = {'num_decoder_layers': 1, 'attention_head_size': 5, 'embedding_size': 16}
FAMILIES = {
    't5': {'num_decoder_layers': 2},
    't5.1.1': ODD | {'tie_word_embeddings': True},
    't5_encoder': ODD | {'num_hidden_layers': 2},
}


@pytest.mark.parametrize('row', FAMILIES)
def test_contract(row):
    check_family(row, SMALL | FAMILIES[row])


@pytest.mark.every_backend
def test_contract_on_every_backend():
    check_family('mt5', SMALL | ODD | {'cross_position_bias': True})


# One name for each of the nine classes.
T5S = sorted({MODELS[name]: name for name in MODELS if 't5' in name}.values())


@pytest.mark.parametrize('name', T5S)
def test_tables_and_variables_are_one_to_one(name):
    found = set()
    for options in (ODD, ODD | {'tie_word_embeddings': False, 'embedding_size': None}):
        built = build_transformer_model(
            SMALL | options, model=name, return_keras_model=False
        )
        variables = set(named_variables(built))
        for dialect in built.names:
            table = built.table(dialect)
            assert len(set(table.values())) == len(table)
            assert variables <= set(table)
        found |= {re.sub(r'\d+', '{i}', left) for left in variables}
    # {i} stands for the second matrix of a gated network as well.
    found = {left.replace('intermediate_{i}', 'intermediate_1') for left in found}
    for dialect, table in MODELS[name].names.items():
        lefts = {re.sub(r'-\d+', '-{i}', left) for left in expand(table, 1)}
        assert lefts == found, dialect
    assert len(T5S) == 9


def test_the_table_follows_the_config_where_it_differs_from_the_version():
    gated = {'hidden_act': ['gelu', 'linear']}
    for dialect in ('tensorflow', 'huggingface'):
        first, second = (
            MODELS[name](SMALL | gated).table(dialect) for name in ('t5', 't5.1.1')
        )
        assert first == second
        plain = MODELS['t5.1.1'](SMALL | {'hidden_act': 'relu'}).table(dialect)
        assert plain == MODELS['t5'](SMALL).table(dialect) != first


@pytest.mark.every_backend
@pytest.mark.parametrize('name', ['t5_decoder', 'mt5.1.1_decoder'])
def test_contract_of_the_decoder(name, tmp_path, rng):
    config = SMALL | {'num_decoder_layers': 1}
    built = build_transformer_model(
        config, model=name, with_lm='linear', return_keras_model=False
    )
    randomise(built.model)
    variables = named_variables(built)
    assert len(variables) == len(built.model.weights)
    tied = built.tie_word_embeddings
    for dialect in MODELS[name].names:
        spare = {v for v in built.table(dialect) if v.endswith('Mapping/kernel')}
        spare |= {'Decoder-Output-LM/kernel'} if tied else set()
        assert set(variables) == set(built.table(dialect)) - spare
    context = rng.normal(size=(3, 6, 24)).astype('float32')
    expected = built.model.predict([context, BEGUN], verbose=0)
    for file in ('m.safetensors', 'm.ckpt'):
        built.save_weights_as_checkpoint(tmp_path / file)
        again = build_transformer_model(
            config, tmp_path / file, model=name, with_lm='linear'
        )
        assert_close(again.predict([context, BEGUN], verbose=0), expected)
    again = save_and_reopen(built.model)
    assert_close(again.predict([context, BEGUN], verbose=0), expected)
    longer = np.pad(BEGUN, ((0, 0), (0, 2)))
    assert_close(built.model.predict([context, longer], verbose=0)[:, :4], expected)
    later = np.where(np.arange(4) < 2, BEGUN, 11)
    changed = built.model.predict([context, later], verbose=0)
    assert_close(changed[:, :2], expected[:, :2])
    assert np.abs(changed[:, 2:] - expected[:, 2:]).max() > 1e-3


# transformers

PEERS = {
    't5': ('T5', {'num_layers': 2}),
    't5-odd': (
        'T5',
        {
            'd_kv': 7,
            'num_layers': 2,
            'num_decoder_layers': 1,
            'relative_attention_num_buckets': 8,
            'relative_attention_max_distance': 6,
            'vocab_size': 33,
        },
    ),
    't5-gated-tied': ('T5', {'feed_forward_proj': 'gated-silu'}),
    't5-untied': ('T5', {'tie_word_embeddings': False, 'feed_forward_proj': 'silu'}),
    't5.1.1': (
        'T5',
        {'tie_word_embeddings': False, 'feed_forward_proj': 'gated-gelu'},
    ),
    't5.1.1-odd': (
        'T5',
        {
            'tie_word_embeddings': False,
            'feed_forward_proj': 'gated-gelu',
            'd_kv': 4,
            'num_decoder_layers': 2,
            'layer_norm_epsilon': 1e-3,
        },
    ),
    't5.1.1-relu': (
        'T5',
        {
            'tie_word_embeddings': False,
            'feed_forward_proj': 'gated-relu',
            'num_heads': 2,
            'd_kv': 6,
        },
    ),
    'mt5': ('MT5', {'tie_word_embeddings': False}),
    'mt5-odd': (
        'MT5',
        {
            'tie_word_embeddings': False,
            'd_kv': 5,
            'num_heads': 2,
            'num_decoder_layers': 3,
            'relative_attention_num_buckets': 6,
            'relative_attention_max_distance': 9,
            'vocab_size': 61,
        },
    ),
    'mt5-tied': ('MT5', {'feed_forward_proj': 'gated-silu', 'num_heads': 4}),
}


def make_t5(row, folder, kind='ForConditionalGeneration', **save):
    """A random T5 of transformers, saved in `folder`."""
    torch = pytest.importorskip('torch')
    transformers = pytest.importorskip('transformers')
    family, changes = PEERS[row]
    config = {
        'vocab_size': 50,
        'd_model': 24,
        'd_kv': 8,
        'd_ff': 44,
        'num_layers': 1,
        'num_heads': 3,
        'decoder_start_token_id': 0,
    }
    model_class = getattr(transformers, f'{family}{kind}')
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**config | changes)).eval()
    if hasattr(model, 'lm_head') and not changes.get('tie_word_embeddings', True):
        # It ties all of them when they are made, and none that a file has apart.
        model.lm_head.weight = torch.nn.Parameter(
            torch.randn(model.lm_head.weight.shape)
        )
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(folder, **save)
    return model


def batch(model):
    """Ids for the encoder (4, 11) and for the decoder (4, 7), padded."""
    ids, _ = padded_batch(model.config.vocab_size)
    begun = np.roll(ids[:, :7] * (ids[:, 1:8] > 0), 1, axis=1)
    begun[:, 0] = 0
    return ids, begun


def real_steps(begun):
    """True where the decoder's input is no padding."""
    return (np.cumsum(begun[:, ::-1], axis=1)[:, ::-1] > 0) | (np.arange(7) == 0)


def open_t5(row, folder, **options):
    """Ours, from the folder of a peer."""
    if row == 'mt5-tied':  # its config does not tell
        options['tie_word_embeddings'] = True
    return build_transformer_model(folder, folder, return_keras_model=False, **options)


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_outputs_and_gradients_equal_transformers(row, tmp_path):
    peer = make_t5(row, tmp_path)
    ids, begun = batch(peer)
    theirs = run_peer(peer, ids, decoder_input_ids=begun)
    ours = open_t5(row, tmp_path, with_lm='linear')
    found = ours.model.predict([ids, begun], verbose=0)
    real = real_steps(begun)
    assert_close(found[real], theirs['logits'][real], atol=1e-4, rtol=1e-4)
    states = ours.encoder.predict(ids, verbose=0)
    expected = theirs['encoder_last_hidden_state']
    assert_close(states[ids > 0], expected[ids > 0], atol=1e-4, rtol=1e-4)
    weigh = np.random.default_rng(5).normal(size=found.shape) * real[..., None]
    inputs = {'decoder_input_ids': begun}
    gradient = peer_gradient(peer, 'logits', weigh, ids, **inputs)
    found = embedding_gradient(ours.model, [ids, begun], weigh)
    assert_gradients_close(found, gradient)


@pytest.mark.parametrize('row', ['t5', 'mt5-odd'])
def test_sharded_files_and_an_encoder_alone_open(row, tmp_path):
    peer = make_t5(row, tmp_path / 'shards', max_shard_size='20KB')
    assert len(list((tmp_path / 'shards').glob('*.safetensors'))) > 1
    ids, begun = batch(peer)
    theirs = run_peer(peer, ids, decoder_input_ids=begun)
    name = row.split('-')[0]
    name = {'t5': 't5_encoder', 'mt5': 'mt5.1.1_encoder'}[name]
    alone = make_t5(row, tmp_path / 'alone', 'EncoderModel')
    whole = theirs['encoder_last_hidden_state']
    for folder, expected in (
        ('shards', whole),
        ('alone', run_peer(alone, ids)['last_hidden_state']),
    ):
        path = tmp_path / folder
        ours = build_transformer_model(path, path, model=name)
        found = ours.predict(ids, verbose=0)
        assert_close(found[ids > 0], expected[ids > 0], atol=1e-4, rtol=1e-4)
    context = ours_context(tmp_path / 'shards', row, ids, begun)
    real = real_steps(begun)
    assert_close(context[real], theirs['logits'][real], atol=1e-4, rtol=1e-4)


def ours_context(folder, row, ids, begun):
    """Logits by the two parts alone, opened one after the other."""
    name = {'t5': 't5_{}', 'mt5': 'mt5.1.1_{}'}[row.split('-')[0]]
    parts = [
        build_transformer_model(
            folder, folder, model=name.format(part), with_lm='linear'
        )
        for part in ('encoder', 'decoder')
    ]
    # Called, not predicted: the mask of the padding goes along.
    context = parts[0](keras.ops.convert_to_tensor(ids))
    return to_numpy(parts[1]([context, keras.ops.convert_to_tensor(begun)]))


@pytest.mark.parametrize('row', ['t5', 't5.1.1', 'mt5'])
def test_transformers_opens_what_we_save(row, tmp_path):
    make_t5(row, tmp_path)
    ours = open_t5(row, tmp_path, with_lm='linear')
    for weight in ours.model.weights:
        weight.assign(weight.value * 0.8)
    ours.save_weights_as_checkpoint(tmp_path / 'model.safetensors')
    import transformers

    kind = getattr(transformers, f'{PEERS[row][0]}ForConditionalGeneration')
    peer = kind.from_pretrained(tmp_path).eval()
    ids, begun = batch(peer)
    theirs = run_peer(peer, ids, decoder_input_ids=begun)['logits']
    found = ours.model.predict([ids, begun], verbose=0)
    real = real_steps(begun)
    assert_close(found[real], theirs[real], atol=1e-4, rtol=1e-4)


def test_files_of_earlier_transformers_open(tmp_path):
    torch = pytest.importorskip('torch')
    peer = make_t5('t5.1.1', tmp_path)
    state = dict(peer.state_dict())
    for part in ('encoder', 'decoder'):  # copies, and a table that nobody reads
        state[f'{part}.embed_tokens.weight'] = state['shared.weight']
    name = 'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight'
    state[name] = torch.zeros(32, 3)
    (tmp_path / 'model.safetensors').unlink()
    torch.save(state, tmp_path / 'pytorch_model.bin')
    config = json.loads((tmp_path / 'config.json').read_text())
    config |= {'transformers_version': '4.20.1', 'tie_word_embeddings': False}
    del config['scale_decoder_outputs']
    ids, begun = batch(peer)
    theirs = run_peer(peer, ids, decoder_input_ids=begun)['logits']
    ours = build_transformer_model(config, tmp_path, with_lm='linear')
    found = ours.predict([ids, begun], verbose=0)
    real = real_steps(begun)
    assert_close(found[real], theirs[real], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match='pass tie_word_embeddings=False'):
        build_transformer_model(config, tmp_path, tie_word_embeddings=True)


@pytest.mark.parametrize('row', ['t5', 'mt5-odd'])
def test_greedy_decoding_equals_transformers(row, tmp_path):
    torch = pytest.importorskip('torch')
    peer = make_t5(row, tmp_path)
    ids = batch(peer)[0][1:2, :7]
    expected = peer.generate(
        torch.tensor(ids),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=None,
        use_cache=False,  # which knows one number of layers
    ).numpy()
    assert len(set(expected[0].tolist())) > 2
    ours = open_t5(row, tmp_path)
    context = ours.encoder.predict(ids, verbose=0)
    begun = np.zeros((1, 1), int)
    for _ in range(8):
        scores = ours.decoder.predict([context, begun], verbose=0)[:, -1]
        begun = np.concatenate([begun, scores.argmax(-1)[:, None]], axis=1)
    np.testing.assert_array_equal(begun, expected)


# bert4keras and Google

STORED = {'t5': 't5.1.0', 't5_1_1': 't5.1.1', 'mt5_1_1': 'mt5.1.1'}


def stored(case, data_dir):
    """(config, weights, inputs, output) of a case of bert4keras."""
    folder = data_dir.parent / 'peers' / 'bert4keras'
    if not folder.is_dir():
        pytest.skip("no outputs of bert4keras beside the real data, in '../peers'")
    with np.load(folder / f'{case}.npz') as file:
        arrays = {name: file[name] for name in file.files}
    weights = {name[2:]: a for name, a in arrays.items() if name.startswith('w:')}
    if case != 't5':
        # Made with one activation, where bert4keras gives its two names to the first
        # matrix and to the second.
        words = {'wi_0': 'wi', 'wi_1': 'wo'}
        for old, new in words.items():
            weights = {k.replace(old, new): a for k, a in weights.items()}
    config = json.loads((folder / 'config.json').read_text())
    return config, weights, [arrays['in:0'], arrays['in:1']], arrays['out:0']


@pytest.mark.every_backend
@pytest.mark.parametrize('case', STORED)
def test_outputs_equal_bert4keras(case, data_dir):
    config, weights, inputs, expected = stored(case, data_dir)
    options = {'model': STORED[case], 'cross_position_bias': True}
    model = build_transformer_model(
        config, weights, scale_decoder_outputs=True, **options
    )
    assert_close(model.predict(inputs, verbose=0), expected, atol=1e-5)
    if case == 't5':
        return
    # By default no temperature of √e.
    model = build_transformer_model(config, weights, **options)
    found = np.log(model.predict(inputs, verbose=0)) / 48**0.5
    found = np.exp(found) / np.exp(found).sum(-1, keepdims=True)
    assert_close(found, expected, atol=1e-5)


@pytest.mark.parametrize('case', STORED)
def test_google_reads_what_we_save(case, data_dir, tmp_path):
    tf = pytest.importorskip('tensorflow')
    config, weights, _, _ = stored(case, data_dir)
    ours = build_transformer_model(
        config, weights, model=STORED[case], return_keras_model=False
    )
    ours.save_weights_as_checkpoint(tmp_path / 'model.ckpt')
    reader = tf.train.load_checkpoint(str(tmp_path / 'model.ckpt'))
    names = set(reader.get_variable_to_shape_map())
    assert names - {'_CHECKPOINTABLE_OBJECT_GRAPH'} == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(reader.get_tensor(name), array)


# Options


@pytest.mark.parametrize('tied', [True, False])
def test_a_kept_vocabulary_gives_those_scores(tied, tmp_path):
    config = SMALL | {'tie_word_embeddings': tied}
    options = {'model': 't5', 'with_lm': 'linear', 'return_keras_model': False}
    whole = build_transformer_model(config, **options)
    randomise(whole.model)
    whole.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    keep = [0, 9, 3, 7, 5, 30]
    ours = build_transformer_model(
        config, tmp_path / 'm.ckpt', keep_tokens=keep, **options
    )
    ids, begun = np.array([[3, 1, 5, 2, 0]]), np.array([[0, 4, 2]])
    keep = np.array(keep)
    expected = whole.model.predict([keep[ids], keep[begun]], verbose=0)[..., keep]
    assert_close(ours.model.predict([ids, begun], verbose=0), expected, atol=1e-4)


@pytest.mark.every_backend
def test_the_mask_goes_with_the_context():
    options = {'model': 't5.1.1', 'with_lm': 'linear', 'return_keras_model': False}
    t5 = build_transformer_model(SMALL, **options)
    randomise(t5.model)
    whole = t5.model.predict([IDS, BEGUN], verbose=0)
    tensors = [keras.ops.convert_to_tensor(x) for x in (IDS, BEGUN)]
    parts = to_numpy(t5.decoder([t5.encoder(tensors[0]), tensors[1]]))
    assert_close(parts, whole, atol=1e-5)
    # An array carries none: the padding must be cut.
    context = t5.encoder.predict(IDS, verbose=0)
    row = t5.decoder.predict([context[1:2, :3], BEGUN[1:2]], verbose=0)
    assert_close(row, whole[1:2], atol=1e-5)
    row = t5.decoder.predict([context[1:2], BEGUN[1:2]], verbose=0)
    assert np.abs(row - whole[1:2]).max() > 1e-2
    # Id 0 in the first place of the decoder is seen all the same.
    other = np.where(np.arange(4) == 0, 8, BEGUN)
    assert np.abs(t5.model.predict([IDS, other], verbose=0) - whole)[:, 1].max() > 1e-2


def test_residual_scores_of_each_attention_add_up():
    options = {'model': 't5', 'with_lm': False, 'return_keras_model': False}
    options |= {'residual_attention_scores': True, 'num_decoder_layers': 2}
    t5 = build_transformer_model(SMALL, **options)
    randomise(t5.model)
    before = t5.model.predict([IDS, BEGUN], verbose=0)
    for kind in ('Self', 'Cross'):
        layer = t5.layers[f'Decoder-Transformer-0-MultiHead{kind}Attention']
        queries = layer.q_dense.kernel
        value, out = queries.value, layer.o_dense.kernel
        kept = to_numpy(value), to_numpy(out.value)
        # The first block adds nothing to its output, only scores for the second.
        out.assign(kept[1] * 0)
        silent = t5.model.predict([IDS, BEGUN], verbose=0)
        queries.assign(kept[0] * 2)
        louder = t5.model.predict([IDS, BEGUN], verbose=0)
        assert np.abs(louder - silent).max() > 1e-3
        queries.assign(kept[0])
        out.assign(kept[1])
    assert_close(t5.model.predict([IDS, BEGUN], verbose=0), before)
    assert not np.isnan(before).any()


def test_a_condition_a_prefix_and_a_fixed_length():
    condition = keras.Input((5,), name='condition')
    t5 = build_transformer_model(
        SMALL,
        model='t5.1.1',
        layer_norm_cond=condition,
        additional_input_layers=condition,
        prefix='My-',
        name='mine',
        sequence_length=4,
        dropout_rate=0.1,
        return_keras_model=False,
    )
    assert t5.model.name == 'mine'
    assert t5.encoder.name == 'mine_Encoder'
    named = {x.name for x in t5.model.layers if not x.name.startswith('My-')}
    assert named == {'condition'}
    assert [x.shape for x in t5.model.inputs] == [(None, 4), (None, 4), (None, 5)]
    cond = np.random.default_rng(0).normal(size=(3, 5)).astype('float32')
    inputs = [IDS[:, :4], BEGUN, cond]
    before = t5.model.predict(inputs, verbose=0)
    assert_close(before.sum(-1), np.ones((3, 4)))
    randomise(t5.model)
    found = [t5.model.predict([*inputs[:2], c], verbose=0) for c in (cond, -cond)]
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_training_moves_every_weight():
    t5 = build_transformer_model(SMALL, model='mt5', dropout_rate=0.1, with_lm='linear')
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    t5.compile(keras.optimizers.Adam(1e-2), loss)
    before = [to_numpy(w.value) for w in t5.weights]
    targets = np.roll(BEGUN, -1, axis=1)
    first = t5.train_on_batch([IDS, BEGUN], targets)
    for _ in range(5):
        last = t5.train_on_batch([IDS, BEGUN], targets)
    assert last < first
    for weight, old in zip(t5.weights, before, strict=True):
        if 'seed' not in weight.path:
            assert np.abs(to_numpy(weight.value) - old).max() > 0, weight.path


def test_only_the_decoder_is_a_language_model():
    for name, application in (('t5', 'lm'), ('mt5', 'unilm'), ('t5_encoder', 'lm')):
        with pytest.raises(ValueError, match="has 'encoder' only"):
            build_transformer_model(SMALL, model=name, application=application)
    decoder = build_transformer_model(SMALL, model='t5_decoder', application='lm')
    assert decoder.output.shape == (None, None, 40)


def test_slots_of_training_are_passed_over(data_dir):
    config, weights, inputs, _ = stored('t5', data_dir)
    extra = {
        'shared/embedding_slot_vc': np.zeros(48),
        'decoder/block_000/layer_001/EncDecAttention/relative_attention_bias': (
            np.zeros((4, 32))
        ),
        'global_step': np.zeros(()),
    }
    model = build_transformer_model(config, weights | extra, model='t5')
    assert model.predict(inputs, verbose=0).shape == (4, 24, 120)


@pytest.mark.parametrize('policy', ['mixed_float16', 'bfloat16'])
def test_half_precision_is_near(policy, tmp_path):
    options = {'model': 'mt5', 'with_lm': 'linear', 'return_keras_model': False}
    t5 = build_transformer_model(SMALL, **options)
    randomise(t5.model)
    t5.save_weights_as_checkpoint(tmp_path / 'm.safetensors')
    half = build_transformer_model(
        SMALL, tmp_path / 'm.safetensors', dtype=policy, **options
    )
    expected = t5.model.predict([IDS, BEGUN], verbose=0)
    found = half.model.predict([IDS, BEGUN], verbose=0)
    assert found.dtype == np.float32
    assert_close(found, expected, atol=0.06 * np.abs(expected).max(), rtol=0)
    context = half.encoder.predict(IDS[:1], verbose=0).astype('float32')
    parts = half.decoder.predict([context[:, :6], BEGUN[:1]], verbose=0)
    assert_close(parts, found[:1], atol=0.06 * np.abs(expected).max(), rtol=0)
