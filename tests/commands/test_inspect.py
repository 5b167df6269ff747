"""`inspect`: what it says of checkpoints of every format, and its exit codes."""

import json
import time

import numpy as np
import pytest
from harness import SMALL

from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow
from keraseff.commands import main
from keraseff.models import build_transformer_model

CONFIG = SMALL | {'model_type': 'bert'}


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    """A folder with a BERT of all heads in TensorFlow's format, and its config."""
    folder = tmp_path_factory.mktemp('bert')
    built = build_transformer_model(
        SMALL, return_keras_model=False, with_pool=True, with_nsp=True, with_mlm=True
    )
    built.save_weights_as_checkpoint(folder / 'bert_model.ckpt')
    (folder / 'bert_config.json').write_text(json.dumps(CONFIG))
    return folder


def report(capsys, *arguments):
    """The exit code and the JSON that the command prints."""
    code = main(['inspect', *map(str, arguments), '--json'])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


@pytest.mark.every_backend
def test_everything_fits(bert, capsys):
    code, found = report(capsys, bert)
    assert code == 0
    assert found['family'] == 'bert'
    assert found['fits']
    assert found['problems'] == []
    assert found['unused'] == []
    model = build_transformer_model(SMALL, with_pool=True, with_nsp=True, with_mlm=True)
    assert found['parameters'] == model.count_params()
    assert found['tensors'] == len(model.weights)
    files = [path for path in bert.iterdir() if '.ckpt.' in path.name]
    assert found['bytes'] == sum(path.stat().st_size for path in files)
    assert found['by_shapes'] == {
        key: SMALL[key]
        for key in SMALL
        if key not in ('num_attention_heads', 'segment_vocab_size')
    } | {'segment_vocab_size': 2}


def test_the_page_says_the_same(bert, capsys):
    assert main(['inspect', str(bert), '--tensors']) == 0
    page = capsys.readouterr().out
    for text in (
        'a BERT checkpoint, told by config.json',
        'TensorFlow checkpoint, tensorflow names, 2 files',
        "model='bert' takes it",
        'float32',
        'vocab_size',
    ):
        assert text in page
    assert all(name in page for name in open_checkpoint(bert))
    assert '\033' not in page


def test_without_a_config_the_shapes_speak(bert, tmp_path, capsys):
    write_safetensors(tmp_path / 'm.safetensors', dict(open_checkpoint(bert).items()))
    source = open_checkpoint(bert)
    write_tensorflow(tmp_path / 'm.ckpt', source)
    code, found = report(capsys, tmp_path / 'm.ckpt')
    assert code == 0
    assert found['config_file'] is None
    assert found['by_shapes']['num_hidden_layers'] == SMALL['num_hidden_layers']
    main(['inspect', str(tmp_path / 'm.ckpt')])
    assert 'shapes do not show: num_attention_heads' in capsys.readouterr().out


def test_what_does_not_fit_is_listed(bert, tmp_path, capsys):
    tensors = dict(open_checkpoint(bert).items())
    del tensors['bert/embeddings/LayerNorm/beta']
    tensors['bert/pooler/dense/bias'] = np.zeros(5, 'float32')
    tensors['surplus'] = np.zeros(3, 'float32')
    write_tensorflow(tmp_path / 'm.ckpt', tensors)
    (tmp_path / 'config.json').write_text(json.dumps(CONFIG | {'num_hidden_layers': 3}))
    code, found = report(capsys, tmp_path)
    assert code == 1
    assert found['unused'] == ['surplus']
    kinds = [text.split(':')[0] for text in found['problems']]
    assert kinds[1:] == ['missing', 'mis-shaped']
    assert found['problems'][0].startswith('num_hidden_layers=3 in the config, 2 by')


def test_an_index_alone_says_that_the_weights_are_missing(bert, tmp_path, capsys):
    (tmp_path / 'm.ckpt.index').write_bytes(
        (bert / 'bert_model.ckpt.index').read_bytes()
    )
    code, found = report(capsys, tmp_path / 'm.ckpt')
    assert code == 1
    assert found['family'] == 'bert'
    assert found['by_shapes']['hidden_size'] == SMALL['hidden_size']
    assert len(found['problems']) == 1
    assert 'this data file is missing' in found['problems'][0]


def test_a_data_file_that_is_too_short(bert, tmp_path, capsys):
    for path in bert.glob('*.ckpt.*'):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = next(tmp_path.glob('*.data-*'))
    data.write_bytes(data.read_bytes()[:-4])
    code, found = report(capsys, tmp_path)
    assert code == 1
    assert 'truncated' in found['weights']


def test_the_real_index_of_albert_zh(data_dir, capsys):
    folder = data_dir / 'chinese_bert_vocab_config'
    code, found = report(
        capsys,
        folder / 'albert_tiny_zh.ckpt',
        '--config',
        folder / 'albert_config_tiny.json',
    )
    assert code == 1
    assert found['family'] == 'albert_zh'
    assert found['by_shapes']['embedding_size'] == 128
    assert found['by_shapes']['hidden_size'] == 312
    # Nothing but the weights themselves is missing.
    assert len(found['problems']) == 1
    assert 'only names and shapes are known' in found['problems'][0]
    assert found['parameters'] == 4295186


def test_the_toy_checkpoint_of_keras_bert(data_dir, capsys):
    code, found = report(capsys, data_dir / 'keras_bert_toy_ckpt' / 'test_checkpoint')
    assert code == 0
    assert found['family'] == 'bert'
    assert found['leftovers'] == 2 * found['tensors'] + 1


def test_another_family_asked_for_is_contradicted(bert, capsys):
    code, found = report(capsys, bert, '--model', 'roformer')
    assert found['family'] == 'roformer'
    assert found['unused'] == ['bert/embeddings/position_embeddings']
    assert found['hint'] == "this looks like a BERT checkpoint; pass model='bert'"
    assert code == 0


def test_tensors_of_no_family(tmp_path, capsys):
    write_safetensors(tmp_path / 'm.safetensors', {'conv': np.zeros(3, 'float32')})
    code, found = report(capsys, tmp_path)
    assert code == 1
    assert found['family'] is None
    assert found['unused'] == ['conv']


def bad_json(folder):
    (folder / 'config.json').write_text('{"a": ')


def deep_json(folder):
    (folder / 'config.json').write_text('{"a": ' + '[' * 100_000)


def no_utf8(folder):
    (folder / 'config.json').write_bytes(b'{"a": "\xff"}')


def no_object(folder):
    (folder / 'config.json').write_text('[1]')


def cut_index(folder):
    path = next(folder.glob('*.index'))
    path.write_bytes(path.read_bytes()[:100])


def nothing_left(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    'damage', [bad_json, deep_json, no_utf8, no_object, cut_index, nothing_left]
)
def test_hostile_files_end_with_one_line(bert, tmp_path, capsys, damage):
    for path in bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    assert main(['inspect', str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('error: ')
    assert str(tmp_path) in captured.err
    assert captured.err.count('\n') == 1


HOSTILE = [
    {'num_hidden_layers': 10**12},
    {'vocab_size': 10**30},
    {'num_attention_heads': 0},
    {'num_attention_heads': 'many'},
    {'hidden_act': {'a': [1]}},
    {'hidden_size': None},
    {'max_position': -1},
    {'intermediate_size': 1.5},
    {'embedding_size': [[]]},
    {'layer_norm_eps': 'x'},
    {'model_type': ['bert']},
    {'attention_head_size': 10**18},
]


@pytest.mark.parametrize('option', HOSTILE, ids=lambda o: next(iter(o)))
def test_hostile_configs_do_not_fit(bert, tmp_path, capsys, option):
    for path in bert.glob('*.ckpt.*'):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / 'config.json').write_text(json.dumps(CONFIG | option))
    began = time.perf_counter()
    code = main(['inspect', str(tmp_path)])
    assert time.perf_counter() - began < 20
    captured = capsys.readouterr()
    assert captured.err == ''
    if 'model_type' not in option and 'layer_norm_eps' not in option:
        assert code == 1
        assert 'does not fit' in captured.out


def test_names_from_a_file_cannot_steer_the_terminal(tmp_path, capsys):
    name = 'a\033]0;title\007\nb\u202ec'
    write_safetensors(tmp_path / 'm.safetensors', {name: np.zeros(3, 'float32')})
    assert main(['inspect', str(tmp_path), '--tensors']) == 1
    page = capsys.readouterr().out
    assert not set(page) & set('\033\007\u202e')


def test_an_unknown_model_is_refused(bert, capsys):
    assert main(['inspect', str(bert), '--model', 'burt']) == 2
    assert 'there are: albert' in capsys.readouterr().err
