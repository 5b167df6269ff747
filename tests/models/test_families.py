"""Every family: the contract, and its equality with the reference implementation."""

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import check_family
from harness import check_tables
from harness import save_and_reopen
from peers import check_against_bert4keras
from peers import check_against_peer
from peers import make_peer
from peers import padded_batch
from peers import run_peer

from keraseff.models import build_transformer_model

SMALL = {
    'vocab_size': 40,
    'hidden_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 3,
    'intermediate_size': 36,
    'max_position': 16,
}
FAMILIES = {
    'bert': {},
    'bert-embedding-size': {'embedding_size': 12},
    'bert-untied': {'tie_word_embeddings': False},
    'bert-relu': {'hidden_act': 'relu', 'attention_key_size': 6},
    'roformer': {},
    'roformer-embedding-size': {'embedding_size': 12},
    'roformer-untied': {'tie_word_embeddings': False},
}


_seen = {}


@pytest.mark.every_backend
@pytest.mark.parametrize('row', FAMILIES)
def test_contract(row):
    name = row.split('-')[0]
    _seen.setdefault(name, {})[row] = check_family(name, SMALL | FAMILIES[row])


@pytest.mark.parametrize('name', sorted({row.split('-')[0] for row in FAMILIES}))
def test_tables_name_nothing_else(name):
    rows = [row for row in FAMILIES if row.split('-')[0] == name]
    for row in rows:
        if row not in _seen.get(name, {}):
            test_contract(row)
    check_tables(name, set().union(*_seen[name].values()))


PEERS = {
    'bert': ('Bert', {}),
    'bert-wide': (
        'Bert',
        {'hidden_size': 40, 'num_attention_heads': 5, 'vocab_size': 61},
    ),
    'bert-relu': ('Bert', {'hidden_act': 'relu', 'type_vocab_size': 3}),
    'bert-gelu-new': ('Bert', {'hidden_act': 'gelu_new', 'num_hidden_layers': 3}),
    'bert-silu': ('Bert', {'hidden_act': 'silu', 'layer_norm_eps': 1e-5}),
    'bert-untied': ('Bert', {'tie_word_embeddings': False}),
    'roformer': ('RoFormer', {}),
    'roformer-wide': ('RoFormer', {'hidden_size': 40, 'num_attention_heads': 5}),
    'roformer-embedding': ('RoFormer', {'embedding_size': 16, 'vocab_size': 73}),
    'roformer-relu': ('RoFormer', {'hidden_act': 'relu', 'num_hidden_layers': 1}),
}


def peer(row, architecture, folder, **save):
    """A random model of transformers, saved in `folder`."""
    family, changes = PEERS[row]
    config = {
        'vocab_size': 50,
        'hidden_size': 24,
        'num_hidden_layers': 2,
        'num_attention_heads': 3,
        'intermediate_size': 44,
        'max_position_embeddings': 32,
        'type_vocab_size': 2,
        'hidden_act': 'gelu',
    }
    if family == 'RoFormer':
        config['embedding_size'] = changes.get('hidden_size', 24)
    return make_peer(f'{family}{architecture}', folder, config | changes, **save)


@pytest.mark.parametrize('row', PEERS)
def test_hidden_states_equal_transformers(row, tmp_path):
    model = peer(row, 'Model', tmp_path)
    ids, types = padded_batch(model.config.vocab_size, model.config.type_vocab_size)
    check_against_peer(model, tmp_path, 'last_hidden_state', ids, types)
    if 'pooler_output' in run_peer(model, ids, types):
        check_against_peer(model, tmp_path, 'pooler_output', ids, types, with_pool=True)


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_logits_equal_transformers(row, tmp_path):
    architecture = 'ForPreTraining' if row.startswith('bert') else 'ForMaskedLM'
    model = peer(row, architecture, tmp_path)
    ids, types = padded_batch(model.config.vocab_size, model.config.type_vocab_size)
    options = {'with_mlm': 'linear'}
    if architecture != 'ForPreTraining':
        check_against_peer(model, tmp_path, 'logits', ids, types, **options)
        return
    options['with_nsp'] = 'linear'
    for pick, output in enumerate(['seq_relationship_logits', 'prediction_logits']):
        check_against_peer(model, tmp_path, output, ids, types, pick=pick, **options)


def write_h5(path, state):
    """`tf_model.h5` as transformers wrote it while it still knew TensorFlow."""
    import h5py

    heads = {'cls.predictions': 'mlm___cls', 'cls.seq_relationship': 'nsp___cls'}
    with h5py.File(path, 'w') as file:
        groups = {}
        for name, tensor in state.items():
            if 'decoder' in name or 'position_ids' in name:
                continue
            head = next((h for h in heads if name.startswith(h)), None)
            group = heads[head] if head else 'bert'
            own = name.replace('cls.', f'{group}.', 1) if head else name
            own = own.replace('layer.', 'layer_._').replace('.', '/')
            own = own.replace('layer_/_', 'layer_._')
            array = tensor.numpy()
            if own.endswith('/weight'):
                if 'LayerNorm' in own:
                    own = own.replace('/weight', '/gamma')
                elif 'embeddings' not in own:
                    own, array = own.replace('/weight', '/kernel'), array.T
                elif 'word' not in own:
                    own = own.replace('/weight', '/embeddings')
            elif 'LayerNorm' in own:
                own = own.replace('/bias', '/beta')
            own = f'tf_bert_for_pre_training/{own}:0'
            groups.setdefault(group, []).append(own.encode())
            file.require_group(group).create_dataset(own, data=array)
        file.attrs['layer_names'] = [group.encode() for group in groups]
        for group, names in groups.items():
            file[group].attrs['weight_names'] = names


def test_every_hugging_face_format_opens(tmp_path):
    torch = pytest.importorskip('torch')
    model = peer('bert', 'ForPreTraining', tmp_path / 'whole')
    peer('bert', 'ForPreTraining', tmp_path / 'shards', max_shard_size='20KB')
    assert len(list((tmp_path / 'shards').glob('*.safetensors'))) > 1
    config = (tmp_path / 'whole' / 'config.json').read_text()
    for name, legacy in (('zip', False), ('legacy', True)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / 'config.json').write_text(config)
        torch.save(
            model.state_dict(),
            folder / 'pytorch_model.bin',
            _use_new_zipfile_serialization=not legacy,
        )
    (tmp_path / 'h5').mkdir()
    (tmp_path / 'h5' / 'config.json').write_text(config)
    write_h5(tmp_path / 'h5' / 'tf_model.h5', model.state_dict())
    ids, types = padded_batch(50)
    logits = run_peer(model, ids, types)['prediction_logits']
    for name in ('whole', 'shards', 'zip', 'legacy', 'h5'):
        path = tmp_path / name
        ours = build_transformer_model(path, path, with_mlm='linear')
        found = ours.predict([ids, types], verbose=0)
        assert_close(found[ids > 0], logits[ids > 0], atol=1e-4, rtol=1e-4)


def test_transformers_opens_what_we_save(tmp_path):
    transformers = pytest.importorskip('transformers')
    model = peer('bert', 'ForPreTraining', tmp_path)
    ours = build_transformer_model(
        tmp_path, tmp_path, with_mlm='linear', with_nsp=True, return_keras_model=False
    )
    for weight in ours.model.weights:
        weight.assign(weight.value * 0.5)
    ours.save_weights_as_checkpoint(tmp_path / 'model.safetensors')
    again = transformers.BertForPreTraining.from_pretrained(tmp_path).eval()
    ids, types = padded_batch(50)
    theirs = run_peer(again, ids, types)['prediction_logits']
    assert np.abs(theirs - run_peer(model, ids, types)['prediction_logits']).max() > 0.1
    found = ours.model.predict([ids, types], verbose=0)[1]
    assert_close(found[ids > 0], theirs[ids > 0], atol=1e-4, rtol=1e-4)


def test_google_reads_what_we_save(tmp_path):
    tf = pytest.importorskip('tensorflow')
    ours = build_transformer_model(SMALL, return_keras_model=False, with_mlm='linear')
    ours.save_weights_as_checkpoint(tmp_path / 'bert_model.ckpt')
    reader = tf.train.load_checkpoint(str(tmp_path / 'bert_model.ckpt'))
    table = reader.get_tensor('bert/embeddings/word_embeddings')
    layer = ours.model.get_layer('Embedding-Token')
    np.testing.assert_array_equal(table, keras.ops.convert_to_numpy(layer.embeddings))
    shapes = reader.get_variable_to_shape_map()
    assert shapes['bert/encoder/layer_1/intermediate/dense/kernel'] == [24, 36]
    assert shapes['cls/predictions/output_bias'] == [40]


BERT4KERAS = {
    'bert': {},
    'bert_pool': {'with_pool': 'tanh'},
    'bert_mlm_nsp': {'with_mlm': 'linear', 'with_nsp': True},
    'bert_lm': {'with_mlm': 'linear', 'application': 'lm'},
    'bert_unilm': {'with_mlm': 'linear', 'application': 'unilm'},
    'bert_hierarchical': {'hierarchical_position': True, 'max_position': 8},
    'bert_key_size': {'attention_key_size': 16},
    'bert_embedding_size': {'embedding_size': 24, 'with_mlm': 'linear'},
    'roformer': {'model': 'roformer'},
    'roformer_unilm': {
        'model': 'roformer',
        'with_mlm': 'linear',
        'application': 'unilm',
    },
}


@pytest.mark.every_backend
@pytest.mark.parametrize('case', BERT4KERAS)
def test_outputs_equal_bert4keras(case, data_dir):
    check_against_bert4keras(case, data_dir, **BERT4KERAS[case])


@pytest.mark.every_backend
def test_the_toy_checkpoint_of_keras_bert_opens(data_dir):
    folder = data_dir / 'keras_bert_toy_ckpt' / 'test_checkpoint'
    model = build_transformer_model(
        folder / 'bert_config.json',
        folder / 'bert_model.ckpt',
        with_mlm=True,
        with_nsp=True,
    )
    ids = np.array([[1, 2, 3, 4]])
    nsp, mlm = model.predict([ids, ids * 0], verbose=0)
    assert_close(nsp.sum(-1), np.ones(1))
    assert_close(mlm.sum(-1), np.ones((1, 4)))
    again = save_and_reopen(model)
    assert_close(again.predict([ids, ids * 0], verbose=0), [nsp, mlm])
