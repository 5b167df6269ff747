"""Every example in a subprocess: it learns, it does not pretend to, it continues.

The floor of a script stands in its docstring: `floor: 0.5`.
"""

import importlib
import json
import os
import re
import runpy
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT

FOLDER = ROOT / 'examples'
FLOORS = {
    path: re.search(r'floor: (\d\.\d+)', path.read_text('utf-8'))
    for path in sorted(FOLDER.glob('*.py'))
}
EXAMPLES = [path for path, floor in FLOORS.items() if floor]
NER = ROOT / 'examples' / 'ner_globalpointer.py'
ROWS = [
    {'text': '张三在北京大学读书。', 'label': [[0, 2, 'person'], [3, 7, 'place']]},
    {'text': '李四去了上海。', 'label': [[0, 2, 'person'], [4, 6, 'place']]},
] * 8
# Rows of a table, of which one is enough to tell that nothing was learnt.
FEW = {'long_text_lm': '--positions RoPE', 'long_range': '--mixer lru'}
FEW |= {
    'compare_attention': '--attentions softmax',
    'convert_to_linear': '--attentions linear',
    'classify_adversarial': '--tricks plain',
    'compress_theseus': '--ways predecessor,truncated',
}
TINY = '--units', '8', '--batch-size', '8'


# Half of the training that they would do bare, where that takes a minute; it beats the
# floor as well.  README's own command runs the first one as it is.
SHORTER = {
    'ner_globalpointer': '--epochs 3',
    'long_text_lm': '--epochs 3 --positions RoPE,ReRoPE',
    'compress_theseus': '--epochs 1',
    'classify_adversarial': '--epochs 2 --tricks fgm',
}


def start(script, *options, **variables):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL='3')
    environment['KERAS_BACKEND'] = 'tensorflow'  # what a new user gets
    environment |= variables
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, options)], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, encoding='utf-8',
    )  # fmt: skip


def run(script, *options, given=''):
    process = start(script, *options)
    output, errors = process.communicate(given, timeout=600)
    return process.returncode, output, errors


def score(output):
    """The last line of a script: what it measures, and how much."""
    return float(re.fullmatch(r'\w+ (\d\.\d+)', output.strip().split('\n')[-1])[1])


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / 'corpus.jsonl'
    rows = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    path.write_text('\n'.join(rows), encoding='utf-8')
    return path


TOGETHER = """
import contextlib, io, json, runpy, sys, traceback, keras
for words in json.load(sys.stdin):
    sys.argv, said, ended = words, io.StringIO(), 0
    keras.utils.clear_session()
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(words[0], run_name='__main__')
        except SystemExit as error:
            ended = error.code
        except Exception:
            ended = traceback.format_exc()
    print(json.dumps([ended, said.getvalue()]))
"""


@pytest.fixture(scope='module')
def learnt(request):
    """{script: (0 or what went wrong, output)}, in one process for all that are asked.

    To import TensorFlow takes as long as some of them.
    """
    items = (i for i in request.session.items if i.path == request.path)
    asked = [i.callspec.params['script'] for i in items if 'learnt' in i.fixturenames]
    words = [[str(x), *SHORTER.get(x.stem, '').split()] for x in asked]
    process = start('-c', TOGETHER, PYTHONPATH=f'{ROOT}:{FOLDER}')
    output, errors = process.communicate(json.dumps(words), timeout=1200)
    assert process.returncode == 0, errors[-2000:]
    return dict(zip(asked, map(json.loads, output.splitlines()), strict=True))


@pytest.mark.parametrize('script', EXAMPLES, ids=lambda path: path.stem)
def test_it_learns(script, learnt):
    ended, output = learnt[script]
    assert not ended, ended
    assert score(output) > float(FLOORS[script][1])
    assert 'synthetic' in output


@pytest.mark.parametrize('script', EXAMPLES, ids=lambda path: path.stem)
def test_what_it_learns_is_learnt(script, monkeypatch, capsys):
    """In this process, whose backend stands already: nothing is trained here."""
    monkeypatch.syspath_prepend(FOLDER)
    words = f'{script} --epochs 0 --limit 60 {FEW.get(script.stem, "")}'
    monkeypatch.setattr(sys, 'argv', words.split())
    runpy.run_path(str(script), run_name='__main__')
    assert score(capsys.readouterr().out) < float(FLOORS[script][1]) / 5


def test_killed_it_goes_on_where_it_was(corpus, tmp_path):
    folder = tmp_path / 'out'
    options = '--data', corpus, '--output', folder, '--epochs', 400, *TINY
    process = start(NER, *options)
    state = folder / 'state.npz'
    deadline = time.monotonic() + 300
    while not state.exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.05)
    process.kill()
    process.communicate()
    done, _ = epochs(state)
    assert 1 <= done < 400
    code, output, errors = run(
        NER, '--data', corpus, '--output', folder, '--epochs', done + 2, *TINY
    )
    assert code == 0, errors[-2000:]
    assert f'{done} of {done + 2} epochs are done, going on' in output
    assert epochs(state) == (done + 2, done + 2)
    record = json.loads((folder / 'record' / 'run.json').read_text())
    assert record['configuration']['epochs'] == done + 2
    assert [start['command'][-5] for start in record['starts']] == [
        '400',
        str(done + 2),
    ]
    rows = (folder / 'record' / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(row)['epoch'] for row in rows[-2:]] == [done + 1, done + 2]
    assert 'f1' in json.loads(rows[-1])
    assert (folder / 'predictions.jsonl').exists()
    assert (folder / 'predictions.html').exists()

    # finished: says so, trains nothing, and answers on standard input
    before = state.stat().st_mtime_ns
    options = '--output', folder, '--epochs', done + 2, *TINY
    code, output, _ = run(
        NER, '--data', corpus, *options, '--predict', '-', given='李四去了上海。\n\n'
    )
    assert code == 0
    assert state.stat().st_mtime_ns == before
    answers = output.split('\n')[-3:]
    assert re.sub(r'\[|:\w+\]', '', answers[0]) == '李四去了上海。'
    assert answers[1:] == ['', '']


def epochs(state):
    with np.load(state) as file:
        about = json.loads(str(file['about']))
    return about['epochs'], len(about['history'])


def test_a_bad_row_is_named(tmp_path, monkeypatch):
    """In one sentence, without a traceback."""
    path = tmp_path / 'corpus.jsonl'
    rows = [*ROWS, {'text': '王五', 'label': [[0, 3, 'person']]}]
    path.write_text('\n'.join(json.dumps(row) for row in rows), encoding='utf-8')
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, 'argv', [str(NER), '--data', str(path), *TINY])
    with pytest.raises(SystemExit, match=f'{path}:{len(rows)}: '):
        runpy.run_path(str(NER), run_name='__main__')


@pytest.fixture(scope='module')
def ner():
    """The script as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return importlib.import_module(NER.stem)


def prepare(ner, folder, *options):
    words = [*map(str, options), '--units', '4', '--output', str(folder)]
    args = ner.settings(words)
    ner.experiment.make_folder(folder)
    return ner.prepare(args, folder)


def begun(ner, folder, corpus):
    """A directory in which training on a corpus was begun."""
    extractor, _, about, _ = prepare(ner, folder, '--data', corpus)
    ner.save(extractor, about, folder)
    return folder / 'model.json'


def test_it_does_not_continue_on_other_texts(ner, corpus, tmp_path):
    folder = tmp_path / 'out'
    begun(ner, folder, corpus)
    prepare(ner, folder, '--data', corpus)
    other = tmp_path / 'other.jsonl'
    rows = corpus.read_text('utf-8')
    other.write_text(rows.replace('三', '五').replace('四', '六'), 'utf-8')
    with pytest.raises(ValueError, match='begun with another (corpus|tokens)'):
        prepare(ner, folder, '--data', other)
    with pytest.raises(ValueError, match='another head globalpointer, not crf'):
        prepare(ner, folder, '--data', corpus, '--head', 'crf')


@pytest.mark.parametrize('text', ['{', '{}', '[1]', ''])
def test_a_damaged_description_is_named(ner, corpus, tmp_path, text):
    path = begun(ner, tmp_path / 'out', corpus)
    path.write_text(text)
    with pytest.raises(ValueError, match=r'model\.json is (damaged|not what)'):
        prepare(ner, tmp_path / 'out', '--data', corpus)


def test_what_can_not_be_done_is_said_before_training(ner, corpus, tmp_path):
    texts = tmp_path / 'texts.txt'
    texts.write_text('李四去了上海。', 'utf-8')
    with pytest.raises(ValueError, match='no trained model in --output'):
        prepare(ner, tmp_path / 'out', '--predict', texts)
    with pytest.raises(ValueError, match='there is no such path'):
        prepare(ner, tmp_path / 'out', '--data', corpus, '--config', 'nope')
    (tmp_path / 'config').mkdir()
    with pytest.raises(ValueError, match=r'vocab\.txt is missing'):
        prepare(ner, tmp_path / 'o', '--data', corpus, '--config', tmp_path / 'config')
    with pytest.raises(ValueError, match='is a file, not a directory'):
        prepare(ner, corpus, '--data', corpus)
    nothing = tmp_path / 'nothing.jsonl'
    rows = [{'text': f'第{i}句', 'label': {}} for i in range(30)]
    nothing.write_text('\n'.join(json.dumps(row) for row in rows))
    with pytest.raises(ValueError, match='have no entity'):
        prepare(ner, tmp_path / 'out', '--data', nothing)


@pytest.mark.parametrize(
    'words',
    ['--maxlen 2', '--batch-size 0', '--limit 0', '--epochs -1', '--predict x.txt'],
)
def test_impossible_options_are_refused(ner, words, capsys):
    with pytest.raises(SystemExit):
        ner.settings(words.split())
    assert words.split()[0] in capsys.readouterr().err
