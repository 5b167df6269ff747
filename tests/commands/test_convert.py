"""`convert`: every format into every other, and what it refuses."""

import json

import numpy as np
import pytest
from harness import SMALL
from mutations import MAKERS
from peers import make_peer

from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow
from keraseff.commands import main
from keraseff.models import build_transformer_model

CONFIG = {
    'vocab_size': 20,
    'hidden_size': 12,
    'num_hidden_layers': 2,
    'num_attention_heads': 3,
    'intermediate_size': 16,
    'max_position_embeddings': 8,
    'type_vocab_size': 2,
    'hidden_act': 'gelu',
    'hidden_dropout_prob': 0.1,
}
IDS = np.array([[2, 5, 6, 3, 4, 8]])


@pytest.fixture(scope='module')
def google(tmp_path_factory):
    """A folder as Google published BERT: checkpoint, config, vocabulary."""
    folder = tmp_path_factory.mktemp('google')
    built = build_transformer_model(
        SMALL, return_keras_model=False, with_nsp='linear', with_mlm='linear'
    )
    built.save_weights_as_checkpoint(folder / 'bert_model.ckpt')
    (folder / 'bert_config.json').write_text(json.dumps(CONFIG))
    (folder / 'vocab.txt').write_text('\n'.join(f't{i}' for i in range(20)))
    return folder


def convert(*arguments):
    return main(['convert', *map(str, arguments)])


def assert_same(first, second, rtol=0.0):
    first, second = open_checkpoint(first), open_checkpoint(second)
    assert set(first) == set(second)
    for name in first:
        a, b = (np.asarray(c[name], 'float32') for c in (first, second))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=0)


@pytest.mark.every_backend
def test_there_and_back(google, tmp_path, capsys):
    assert convert(google, tmp_path / 'hf') == 0
    names = sorted(path.name for path in (tmp_path / 'hf').iterdir())
    assert names == ['config.json', 'model.safetensors', 'vocab.txt']
    assert 'huggingface names' in capsys.readouterr().out
    config = json.loads((tmp_path / 'hf' / 'config.json').read_text())
    added = {'model_type': 'bert', 'architectures': ['BertForPreTraining']}
    assert config == CONFIG | added
    assert main(['inspect', str(tmp_path / 'hf')]) == 0
    assert convert(tmp_path / 'hf', tmp_path / 'tf', '--dialect', 'tensorflow') == 0
    assert_same(tmp_path / 'tf', google)
    assert (tmp_path / 'tf' / 'bert_config.json').is_file()
    assert (tmp_path / 'tf' / 'vocab.txt').read_bytes() == (
        google / 'vocab.txt'
    ).read_bytes()


@pytest.mark.every_backend
def test_both_ends_build_the_same_model(google, tmp_path):
    assert convert(google, tmp_path / 'hf', '--quiet') == 0
    assert convert(google, tmp_path / 'half', '--dtype', 'bfloat16', '--quiet') == 0
    outputs = [
        build_transformer_model(
            folder, folder, with_nsp='linear', with_mlm='linear'
        ).predict([IDS, IDS * 0], verbose=0)
        for folder in (google, tmp_path / 'hf', tmp_path / 'half')
    ]
    for whole, same, half in zip(*outputs, strict=True):
        np.testing.assert_allclose(whole, same, atol=1e-6)
        assert 1e-6 < np.abs(whole - half).max() < 0.1


def test_transformers_opens_the_result(google, tmp_path):
    torch = pytest.importorskip('torch')
    transformers = pytest.importorskip('transformers')
    for name, options in (('whole', []), ('shards', ['--max-shard-size', '5KB'])):
        assert convert(google, tmp_path / name, *options) == 0
        model = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / name)
        assert type(model).__name__ == 'BertForPreTraining'
        with torch.no_grad():
            theirs = model.eval()(torch.tensor(IDS))
        ours = build_transformer_model(
            google, google, with_nsp='linear', with_mlm='linear'
        ).predict([IDS, IDS * 0], verbose=0)
        np.testing.assert_allclose(ours[0], theirs.seq_relationship_logits, atol=1e-5)
        np.testing.assert_allclose(ours[1], theirs.prediction_logits, atol=1e-5)


def test_tensorflow_opens_the_result(google, tmp_path):
    tf = pytest.importorskip('tensorflow')
    assert convert(google, tmp_path / 'hf') == 0
    for dtype in ('float32', 'bfloat16', 'float16'):
        prefix = tmp_path / f'{dtype}.ckpt'
        assert convert(tmp_path / 'hf', prefix, '--dtype', dtype) == 0
        reader = tf.train.load_checkpoint(str(prefix))
        source = open_checkpoint(google)
        assert set(reader.get_variable_to_shape_map()) == set(source)
        for name in source:
            found = reader.get_tensor(name)
            assert found.dtype.name == dtype
            np.testing.assert_array_equal(found, source[name].astype(found.dtype))


def test_shards_and_one_file(google, tmp_path):
    whole, shards, again = (tmp_path / name for name in ('whole', 'shards', 'again'))
    assert convert(google, whole) == 0
    assert convert(whole, shards, '--max-shard-size', '4KB') == 0
    files = sorted(shards.glob('*.safetensors'))
    assert len(files) > 2
    assert all(path.stat().st_size < 8000 for path in files)
    index = json.loads((shards / 'model.safetensors.index.json').read_text())
    total = sum(array.nbytes for array in open_checkpoint(whole).values())
    assert index['metadata']['total_size'] == total
    assert convert(shards, again) == 0
    assert (again / 'model.safetensors').read_bytes() == (
        whole / 'model.safetensors'
    ).read_bytes()


@pytest.mark.parametrize(
    'kind', ['safetensors', 'torch_zip', 'torch_legacy', 'keras_h5']
)
def test_names_nobody_knows_are_copied_within_a_dialect(kind, tmp_path):
    if kind.startswith('torch'):
        pytest.importorskip('torch')
    path = MAKERS[kind](tmp_path)
    assert convert(path, tmp_path / 'copy' / 'm.safetensors') == 0
    assert_same(path, tmp_path / 'copy' / 'm.safetensors')
    pytest.importorskip('safetensors')
    from safetensors.numpy import load_file

    theirs = load_file(tmp_path / 'copy' / 'm.safetensors')
    for name, array in open_checkpoint(path).items():
        np.testing.assert_array_equal(theirs[name], array)


def test_google_names_in_a_safetensors_file(google, tmp_path):
    target = tmp_path / 'm.safetensors'
    assert convert(google, target, '--dialect', 'tensorflow') == 0
    assert open_checkpoint(target).dialect == 'tensorflow'
    assert_same(target, google)


def test_leftovers_of_training_are_left_behind(data_dir, tmp_path):
    source = data_dir / 'keras_bert_toy_ckpt' / 'test_checkpoint'
    assert convert(source, tmp_path / 'hf') == 0
    assert len(open_checkpoint(tmp_path / 'hf')) == 46
    assert convert(source, tmp_path / 'copy', '--dialect', 'tensorflow') == 0
    assert len(open_checkpoint(tmp_path / 'copy')) == 46 + 93


def test_nothing_is_overwritten_without_force(google, tmp_path, capsys):
    assert convert(google, tmp_path) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert convert(google, tmp_path, '--dtype', 'float16') == 2
    assert '--force' in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert convert(google, tmp_path, '--max-shard-size', '2KB', '--force') == 0
    many = len(list(tmp_path.glob('model-*')))
    assert convert(google, tmp_path, '--max-shard-size', '9KB', '--force') == 0
    shards = list(tmp_path.glob('model-*'))
    # The shards of before are gone, and nothing else is.
    assert 1 < len(shards) < many
    assert not (tmp_path / 'model.safetensors').exists()
    assert (tmp_path / 'vocab.txt').exists()
    assert convert(google, tmp_path, '--force') == 0
    assert not list(tmp_path.glob('model-*'))
    assert_same(tmp_path, tmp_path / 'model.safetensors')


def test_what_is_read_is_never_written(google, tmp_path, capsys):
    assert convert(google, tmp_path) == 0
    before = (tmp_path / 'model.safetensors').read_bytes()
    assert convert(tmp_path, tmp_path, '--force') == 2
    assert 'choose another DST' in capsys.readouterr().err
    assert (tmp_path / 'model.safetensors').read_bytes() == before


def test_tensors_without_another_name_are_not_dropped_silently(
    google, tmp_path, capsys
):
    tensors = dict(open_checkpoint(google).items())
    tensors['classifier'] = np.zeros(3, 'float32')
    write_tensorflow(tmp_path / 'm.ckpt', tensors)
    assert convert(tmp_path / 'm.ckpt', tmp_path / 'hf') == 2
    error = capsys.readouterr().err
    assert 'classifier' in error
    assert '--drop' in error
    assert not (tmp_path / 'hf').exists()
    assert convert(tmp_path / 'm.ckpt', tmp_path / 'hf', '--drop') == 0
    assert len(open_checkpoint(tmp_path / 'hf')) == len(tensors) - 1


def test_without_a_config_only_the_weights_are_written(google, tmp_path, capsys):
    write_tensorflow(tmp_path / 'm.ckpt', open_checkpoint(google))
    assert convert(tmp_path / 'm.ckpt', tmp_path / 'hf') == 0
    assert 'attention heads' in capsys.readouterr().err
    assert [path.name for path in (tmp_path / 'hf').iterdir()] == ['model.safetensors']
    assert convert(google, tmp_path / 'known') == 0
    assert_same(tmp_path / 'hf', tmp_path / 'known')


REFUSED = {
    'm.bin': 'are read, not written',
    'm.h5': 'are read, not written',
    'm.ckpt --dialect huggingface': "TensorFlow's names",
    'm.ckpt --max-shard-size 1GB': 'one file',
    'm --model burt': 'there are: albert',
}


@pytest.mark.parametrize('case', REFUSED)
def test_refusals(google, tmp_path, capsys, case):
    target, *options = case.split()
    assert convert(google, tmp_path / target, *options) == 2
    assert REFUSED[case] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_family_has_no_other_names(tmp_path, capsys):
    write_safetensors(tmp_path / 'm.safetensors', {'conv': np.zeros(3, 'float32')})
    assert convert(tmp_path / 'm.safetensors', tmp_path / 'm.ckpt') == 2
    assert 'no family' in capsys.readouterr().err


def test_a_damaged_source_leaves_nothing_behind(google, tmp_path, capsys):
    for path in google.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = next(tmp_path.glob('*.data-*'))
    data.write_bytes(data.read_bytes()[:-4])
    assert convert(tmp_path, tmp_path / 'hf') == 2
    assert 'truncated' in capsys.readouterr().err
    assert not (tmp_path / 'hf').exists()


def test_strings_of_tensorflow_are_left_out(google, tmp_path, capsys):
    tf = pytest.importorskip('tensorflow')
    step = tf.Variable(np.arange(3, dtype='float32'))
    text = tf.Variable('words')
    prefix = tf.train.Checkpoint(step=step, text=text).write(str(tmp_path / 'm.ckpt'))
    assert convert(prefix, tmp_path / 'a.safetensors', '--dialect', 'tensorflow') == 2
    assert 'cannot be written' in capsys.readouterr().err
    options = '--dialect', 'tensorflow', '--drop'
    assert convert(prefix, tmp_path / 'a.safetensors', *options) == 0
    (name,) = [n for n in open_checkpoint(tmp_path / 'a.safetensors') if 'step' in n]
    np.testing.assert_array_equal(
        open_checkpoint(tmp_path / 'a.safetensors')[name], np.arange(3)
    )


SIZES = {
    'vocab_size': 50,
    'hidden_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 36,
    'max_position_embeddings': 32,
}
GPT2_SIZES = {'vocab_size': 50, 'n_embd': 24, 'n_layer': 2, 'n_head': 2}
T5_SIZES = {'vocab_size': 50, 'd_model': 24, 'd_kv': 12, 'd_ff': 36, 'num_layers': 2}
T5_SIZES |= {'num_heads': 2, 'decoder_start_token_id': 0}
PEERS = {
    'AlbertForPreTraining': SIZES | {'embedding_size': 16},
    'ElectraForPreTraining': SIZES | {'embedding_size': 16},
    'GPT2LMHeadModel': GPT2_SIZES,
    'T5ForConditionalGeneration': T5_SIZES,
    'LlamaForCausalLM': SIZES | {'num_key_value_heads': 1},
}


@pytest.mark.parametrize('kind', PEERS)
def test_models_of_transformers_survive_the_journey(kind, tmp_path):
    torch = pytest.importorskip('torch')
    model = make_peer(kind, tmp_path / 'a', PEERS[kind])
    assert main(['inspect', str(tmp_path / 'a')]) == 0
    if kind.startswith('Llama'):  # has no names in TensorFlow's checkpoints
        assert convert(tmp_path / 'a', tmp_path / 'b', '--dialect', 'tensorflow') == 2
        options = '--max-shard-size', '20KB'
        assert convert(tmp_path / 'a', tmp_path / 'c', *options) == 0
    else:
        assert convert(tmp_path / 'a', tmp_path / 'b', '--dialect', 'tensorflow') == 0
        assert convert(tmp_path / 'b', tmp_path / 'c') == 0
    again, told = type(model).from_pretrained(tmp_path / 'c', output_loading_info=True)
    assert not any(told.values())
    ours, theirs = again.state_dict(), model.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_config_in_our_spelling_becomes_theirs(tmp_path):
    transformers = pytest.importorskip('transformers')
    built = build_transformer_model(
        SMALL, model='gpt2', return_keras_model=False, with_lm='linear'
    )
    built.save_weights_as_checkpoint(tmp_path / 'gpt2.ckpt')
    (tmp_path / 'config.json').write_text(json.dumps(SMALL))
    assert convert(tmp_path, tmp_path / 'hf', '--model', 'gpt2') == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'hf')
    assert type(model).__name__ == 'GPT2LMHeadModel'
    assert model.config.n_embd == SMALL['hidden_size']
    assert model.config.n_inner == SMALL['intermediate_size']
    assert model.config.n_positions == SMALL['max_position']


@pytest.mark.parametrize(
    'key', ['num_hidden_layers', 'max_window_layers', 'vocab_size']
)
def test_a_config_without_end_is_refused_at_once(google, tmp_path, capsys, key):
    config = tmp_path / 'config.json'
    config.write_text(json.dumps(CONFIG | {key: 10**12}))
    assert convert(google, tmp_path / 'hf', '--config', config) == 2
    error = capsys.readouterr().err
    assert f'config.json: {key}=1000000000000 is beyond any model' in error
    assert not (tmp_path / 'hf').exists()
