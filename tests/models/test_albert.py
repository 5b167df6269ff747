"""ALBERT: Google's and brightmart's, with shared layers and unshared."""

import keras
import numpy as np
import pytest
from harness import SMALL
from harness import assert_close
from harness import check_contract
from harness import randomise
from harness import to_numpy
from peers import check_against_bert4keras
from peers import check_against_peer
from peers import check_saving
from peers import make_peer
from peers import padded_batch

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.models import ALBERT
from keraseff.models import ALBERTZh
from keraseff.models import build_transformer_model
from keraseff.models.loading import named_variables

ROWS = {
    'albert': [{'embedding_size': 8}, {'tie_word_embeddings': False}],
    'albert_zh': [{'embedding_size': 8}, {'tie_word_embeddings': False}],
}


@pytest.mark.every_backend
@pytest.mark.parametrize('name', ROWS)
def test_contract(name):
    check_contract(name, [SMALL | row for row in ROWS[name]])


PEERS = {
    'small': {'hidden_act': 'gelu'},
    'groups': {
        'num_hidden_layers': 4,
        'num_hidden_groups': 2,
        'inner_group_num': 2,
        'hidden_act': 'relu',
    },
    'untied': {
        'hidden_size': 40,
        'num_attention_heads': 5,
        'embedding_size': 40,
        'tie_word_embeddings': False,
        'type_vocab_size': 3,
    },
}


def peer(row, kind, folder):
    config = {
        'vocab_size': 50,
        'embedding_size': 14,
        'hidden_size': 24,
        'num_hidden_layers': 3,
        'num_attention_heads': 3,
        'intermediate_size': 44,
        'max_position_embeddings': 32,
    }
    return make_peer(kind, folder, config | PEERS[row])


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_outputs_equal_transformers(row, tmp_path):
    model = peer(row, 'AlbertForPreTraining', tmp_path)
    ids, types = padded_batch(50, model.config.type_vocab_size)
    heads = {'with_nsp': 'linear', 'with_mlm': 'linear'}
    for pick, output in enumerate(['sop_logits', 'prediction_logits']):
        check_against_peer(model, tmp_path, output, ids, types, pick=pick, **heads)


@pytest.mark.parametrize('row', PEERS)
def test_hidden_states_equal_transformers(row, tmp_path):
    model = peer(row, 'AlbertModel', tmp_path)
    ids, types = padded_batch(50, model.config.type_vocab_size)
    check_against_peer(model, tmp_path, 'last_hidden_state', ids, types)
    check_against_peer(model, tmp_path, 'pooler_output', ids, types, with_pool=True)


@pytest.mark.parametrize('row', PEERS)
def test_transformers_opens_what_we_save(row, tmp_path):
    peer(row, 'AlbertForMaskedLM', tmp_path)
    ids, types = padded_batch(50)
    check_saving('AlbertForMaskedLM', tmp_path, ids, types, with_mlm='linear')


def test_google_reads_what_we_save(tmp_path):
    tf = pytest.importorskip('tensorflow')
    options = SMALL | {'num_hidden_groups': 2, 'inner_group_num': 2}
    ours = build_transformer_model(options, model='albert', return_keras_model=False)
    ours.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    shapes = tf.train.load_checkpoint(str(tmp_path / 'm.ckpt'))
    shapes = shapes.get_variable_to_shape_map()
    block = 'bert/encoder/transformer/group_1/inner_group_1/'
    assert shapes[block + 'ffn_1/intermediate/output/dense/kernel'] == [16, 12]
    assert len([name for name in shapes if name.endswith('query/kernel')]) == 4


@pytest.mark.every_backend
def test_outputs_equal_bert4keras(data_dir):
    check_against_bert4keras('albert', data_dir, model='albert')
    check_against_bert4keras('albert', data_dir, model='albert_unshared')


def test_unshared_layers_begin_as_the_shared_one_and_part(tmp_path):
    options = SMALL | {'num_hidden_layers': 3}
    shared = build_transformer_model(options, model='albert', return_keras_model=False)
    randomise(shared.model)
    shared.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    own = build_transformer_model(
        options, tmp_path / 'm.ckpt', 'albert_unshared', return_keras_model=False
    )
    ids = np.array([[2, 5, 6, 3]])
    inputs = [ids, ids * 0]
    expected = shared.model.predict(inputs, verbose=0)
    assert_close(own.model.predict(inputs, verbose=0), expected)
    assert len(own.model.weights) > 2 * len(shared.model.weights)
    own.save_weights_as_checkpoint(tmp_path / 'same.ckpt')
    again = build_transformer_model(options, tmp_path / 'same.ckpt', 'albert')
    assert_close(again.predict(inputs, verbose=0), expected)
    layer = own.layers['Transformer-1-FeedForward']
    layer.weights[0].assign_add(np.ones(layer.weights[0].shape))
    with pytest.raises(ValueError, match='one tensor for several layers'):
        own.save_weights_as_checkpoint(tmp_path / 'parted.ckpt')


def test_groups_run_in_order():
    """Layers 0, 1 are group 0 and layers 2, 3 group 1: not the other way about."""
    options = SMALL | {'num_hidden_layers': 4, 'num_hidden_groups': 2}
    model = ALBERT(options)
    model.build()
    names = [x.name for x in model.model.layers if x.name.endswith('FeedForward')]
    assert names == ['Transformer-0-FeedForward', 'Transformer-1-FeedForward']
    model = ALBERT(SMALL | {'inner_group_num': 2})
    model.build()
    assert model.blocks == 2


# brightmart's


def slow_albert_zh(weights, ids, heads, layers, pre_norm):
    """The encoder of brightmart/albert_zh, one text, one segment, no padding."""
    w = {name.split('bert/')[-1]: np.float64(a) for name, a in weights.items()}

    def norm(x, at):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return x * w[f'{at}LayerNorm/gamma'] + w[f'{at}LayerNorm/beta']

    def dense(x, at):
        return x @ w[f'{at}kernel'] + w[f'{at}bias']

    def attention(x):
        size = x.shape[-1] // heads
        q, k, v = (
            dense(x, f'encoder/layer_shared/attention/self/{name}/').reshape(
                len(x), heads, size
            )
            for name in ('query', 'key', 'value')
        )
        out = np.zeros_like(q)
        for h in range(heads):
            scores = np.exp(q[:, h] @ k[:, h].T / size**0.5)
            out[:, h] = scores / scores.sum(-1, keepdims=True) @ v[:, h]
        return dense(
            out.reshape(x.shape), 'encoder/layer_shared/attention/output/dense/'
        )

    def network(x):
        x = np.maximum(dense(x, 'encoder/layer_shared/intermediate/dense/'), 0)
        return dense(x, 'encoder/layer_shared/output/dense/')

    x = w['embeddings/word_embeddings'][ids] @ w['embeddings/word_embeddings_2']
    x = x + w['embeddings/token_type_embeddings'][0]
    x = norm(x + w['embeddings/position_embeddings'][: len(ids)], 'embeddings/')
    first, second = (f'encoder/layer_shared/{at}output/' for at in ('attention/', ''))
    for _ in range(layers):
        if pre_norm:
            x = x + attention(norm(x, first))
            x = x + network(norm(x, second))
        else:
            x = norm(x + attention(x), first)
            x = norm(x + network(x), second)
    return x


@pytest.mark.every_backend
@pytest.mark.parametrize('kind', ['postln', 'preln'])
def test_brightmarts_equals_the_formula(kind, tmp_path):
    options = SMALL | {'embedding_size': 8, 'hidden_act': 'relu', 'ln_type': kind}
    ours = build_transformer_model(options, model='albert', return_keras_model=False)
    assert isinstance(ours, ALBERTZh)
    randomise(ours.model)
    ours.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    weights = dict(open_checkpoint(tmp_path / 'm.ckpt'))
    ids = np.array([[2, 5, 6, 3, 7]])
    expected = slow_albert_zh(weights, ids[0], 3, 2, kind == 'preln')
    found = ours.model.predict([ids, ids * 0], verbose=0)
    assert_close(found[0], expected, atol=1e-4)


def test_brightmarts_mlm_scores_through_both_matrices():
    ours = build_transformer_model(
        SMALL | {'embedding_size': 8},
        model='albert_zh',
        with_mlm='linear',
        return_keras_model=False,
    )
    randomise(ours.model)
    ids = np.array([[2, 5, 6, 3, 7]])
    logits = ours.model.predict([ids, ids * 0], verbose=0)
    last = keras.Model(ours.inputs, ours.model.get_layer('MLM-Norm').output)
    x = last.predict([ids, ids * 0], verbose=0)
    named = to_numpy({k: v.value for k, v in named_variables(ours).items()})
    table = named['Embedding-Token/embeddings'] @ named['Embedding-Token/projection']
    assert_close(logits, x @ table.T + named['MLM-Bias/beta'], atol=1e-4)


def test_the_real_index_names_every_tensor_of_the_table(data_dir):
    folder = data_dir / 'chinese_bert_vocab_config'
    file = folder / 'albert_tiny_zh.ckpt.index'
    heads = {'with_pool': True, 'with_nsp': True, 'with_mlm': True}
    ours = build_transformer_model(
        folder / 'albert_config_tiny.json',
        model='albert',
        return_keras_model=False,
        **heads,
    )
    table = ours.table('tensorflow')
    variables = named_variables(ours)
    expected = {table[left]: tuple(v.shape) for left, v in variables.items()}
    turned = 'cls/seq_relationship/output_weights'
    expected[turned] = expected[turned][::-1]
    index = open_checkpoint(file)
    found = {name: index.shape(name) for name in index if 'adam' not in name}
    found.pop('global_step', None)
    assert found == expected


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match='postln'):
        build_transformer_model(SMALL | {'ln_type': 'rms'}, model='albert')


def test_google_names_do_not_open_brightmarts(tmp_path):
    google = build_transformer_model(SMALL, model='albert', return_keras_model=False)
    google.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    with pytest.raises(CheckpointError, match=r'looks like an ALBERT .*model=.albert.'):
        build_transformer_model(SMALL, tmp_path / 'm.ckpt', 'albert_zh')
