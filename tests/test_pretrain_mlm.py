"""The pretraining script: what it reads, what it learns from, how it goes on."""

import importlib
import itertools
import json
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from harness import assert_close

from keraseff.callbacks.state import read_state
from keraseff.models import build_transformer_model

TINY = '--maxlen 16 --batch-size 4 --warm-up 2 --shuffle 8 --limit 30'.split()
STATE = 'state.npz'


@pytest.fixture(scope='module')
def script():
    sys.path.insert(0, str(ROOT / 'examples'))
    try:
        yield importlib.import_module('pretrain_mlm')
    finally:
        sys.path.remove(str(ROOT / 'examples'))


def train(script, folder, *words):
    keras.utils.set_random_seed(0)
    folder.mkdir(exist_ok=True)
    script.main(script.settings([*TINY, *map(str, words)]), folder)
    about, arrays = read_state(folder / STATE)
    return about, {n: a for n, a in arrays.items() if not n.startswith('data.')}


def test_what_goes_on_equals_what_was_never_stopped(script, tmp_path, capsys):
    _, whole = train(script, tmp_path / 'whole', '--steps', 38)
    train(script, tmp_path / 'parts', '--steps', 7)
    about, parts = train(script, tmp_path / 'parts', '--steps', 38)
    assert about['step'] == 38
    assert '7 steps are done, of 38' in capsys.readouterr().out
    assert list(whole) == list(parts)
    assert_close(list(parts.values()), list(whole.values()), atol=1e-6, rtol=0)

    # nothing is left to train; and then the rate falls, once, to 0
    again, same = train(script, tmp_path / 'parts', '--steps', 38)
    assert again == about
    assert_close(list(same.values()), list(parts.values()), atol=0)
    about, _ = train(script, tmp_path / 'parts', '--finish', 5)
    assert (about['step'], about['last']) == (43, 43)
    about, _ = train(script, tmp_path / 'parts', '--finish', 5)
    assert about['step'] == 43


def test_others_open_its_model(script, tmp_path):
    train(script, tmp_path, '--steps', 1)
    with pytest.raises(ValueError, match='use another --output'):
        train(script, tmp_path, '--steps', 1, '--objective', 'lm')
    folder = tmp_path / 'model'
    config = json.loads((folder / 'config.json').read_text('utf-8'))
    tokens = (folder / 'vocab.txt').read_text('utf-8').split('\n')[:-1]
    assert config['vocab_size'] == len(tokens)
    model = build_transformer_model(folder, folder, with_mlm=True)
    ids = np.array([[2, 4, 7, 8, 3]])
    scores = np.asarray(model.predict([ids, ids * 0], verbose=0))
    assert scores.shape == (1, 5, len(tokens))


@pytest.mark.parametrize('objective', ['unilm', 'lm'])
def test_the_next_token_is_the_label(script, tmp_path, objective):
    args = script.settings([*TINY, '--objective', objective])
    tokenizer = script.make_tokenizer(args, tmp_path)
    transformer, _ = script.build_model(args, tokenizer)
    names = [tensor.name for tensor in transformer.inputs]
    rng = np.random.default_rng(0)
    rows = rng.integers(5, 20, (4, 3, 17))
    rows[:, 1] = np.arange(17) >= 9
    rows[3, 1] = 0
    rows[:, 2] = 1
    batches = script.Batches(args, None, tokenizer, names)
    x, y, weights = batches.encode(rows, rng)
    assert (np.stack([*x[0].T, y.T[-1]]).T == rows[:, 0]).all()
    assert (x[0][:, 1:] == y[:, :-1]).all()
    if objective == 'lm':
        assert weights.all()
    else:
        assert (weights[:3] == (np.arange(1, 17) >= 9)).all()
        assert 0.2 < weights[3].mean() < 0.8
        assert (x[1][3, 1:] == weights[3, :-1]).all()


def test_the_rate_falls_at_the_end(script, tmp_path):
    args = script.settings([*TINY, '--finish', '5', '--learning-rate', '0.5'])
    args.warm_up = 4
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    script.compile_model(model, args, last=20)
    rate = model.optimizer._learning_rate
    found = [float(rate(step)) for step in (0, 2, 4, 14, 15, 16, 19, 20)]
    assert found == pytest.approx([0, 0.25, 0.5, 0.5, 0.5, 0.4, 0.1, 0])
    decayed = [v.path for v in model.trainable_variables if 'bias' not in v.path]
    uses = model.optimizer._use_weight_decay
    assert [v.path for v in model.trainable_variables if uses(v)] == decayed


def test_files_are_read_and_held_out(script, tmp_path):
    file = tmp_path / 'a.jsonl'
    rows = [json.dumps(f'第{i}篇') for i in range(120)]
    file.write_text('\n'.join(rows), encoding='utf-8')
    args = script.settings(['--data', str(file), '--vocab', 'x'])
    ((documents, weight),), (held,) = script.sources(args)
    trained, scored = ([d for (d,) in f()] for f in (documents, held))
    assert scored == ['第49篇', '第99篇']
    assert sorted(trained + scored) == sorted(f'第{i}篇' for i in range(120))
    args = script.settings(['--data', str(file), '--held-out', str(file)])
    ((documents, _),), (held,) = script.sources(args)
    assert list(documents()) == list(held())
    assert len(list(itertools.islice(documents(), 200))) == 120
    with pytest.raises(ValueError, match='2 --weights for 1 files'):
        script.sources(script.settings(['--data', str(file), '--weights', '1', '2']))
    with pytest.raises(ValueError, match='--data needs --vocab'):
        script.make_tokenizer(script.settings(['--data', str(file)]), tmp_path)
