"""Every code block of the documents is run; both languages hold the same ones."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

README = ROOT / 'README.md'
README_ZH = ROOT / 'README_zh.md'
CONTRIBUTING = ROOT / 'CONTRIBUTING.md'
ATTENTION = ROOT / 'docs' / 'attention.md'
ATTENTION_ZH = ROOT / 'docs' / 'attention_zh.md'
PRETRAINED = 'chinese_L-12_H-768_A-12'
QWEN = 'Qwen3-0.6B'


def blocks(path, language):
    """The fenced blocks of one language."""
    text = path.read_text(encoding='utf-8')
    return re.findall(rf'^```{language}\n(.*?)^```', text, re.MULTILINE | re.DOTALL)


def without_comments(code):
    """Lines of code, comments taken off: they are in the reader's language."""
    lines = (re.sub(r'\s*#.*', '', line).rstrip() for line in code.splitlines())
    return [line for line in lines if line]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a small model where the documents speak of a pretrained one."""
    from keraseff.models import build_transformer_model
    from keraseff.tokenizers import save_vocab

    config = {
        'vocab_size': 40,
        'hidden_size': 16,
        'num_hidden_layers': 2,
        'num_attention_heads': 4,
        'intermediate_size': 32,
        'type_vocab_size': 2,
        'max_position_embeddings': 512,
    }
    folder = tmp_path / PRETRAINED
    folder.mkdir()
    (folder / 'bert_config.json').write_text(json.dumps(config))
    words = [
        '[PAD]',
        '[UNK]',
        '[CLS]',
        '[SEP]',
        '[MASK]',
        *'语言模型北京大学在科技是第一生产力',
    ]
    words += [f'##{i}' for i in range(40 - len(dict.fromkeys(words)))]
    words = list(dict.fromkeys(words))
    save_vocab(str(folder / 'vocab.txt'), {word: i for i, word in enumerate(words)})
    model = build_transformer_model(
        config, with_mlm=True, with_nsp=True, return_keras_model=False
    )
    model.save_weights_as_checkpoint(folder / 'bert_model.ckpt')
    make_qwen(tmp_path / QWEN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_qwen(folder):
    """A small Qwen3 with its tokenizer, as Hugging Face keeps one."""
    tokenizers = pytest.importorskip('tokenizers')
    from keraseff.models import build_transformer_model

    folder.mkdir()
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(['语言模型'] * 4, vocab_size=300)
    tokenizer.save(str(folder / 'tokenizer.json'))
    config = {
        'model_type': 'qwen3',
        'vocab_size': 300,
        'hidden_size': 16,
        'num_hidden_layers': 2,
        'num_attention_heads': 4,
        'num_key_value_heads': 2,
        'head_dim': 8,
        'intermediate_size': 32,
        'tie_word_embeddings': True,
    }
    (folder / 'config.json').write_text(json.dumps(config))
    model = build_transformer_model(config, return_keras_model=False)
    model.save_weights_as_checkpoint(folder / 'model.safetensors', dtype='bfloat16')


# The Chinese documents hold the same code, see below.
def test_shell_blocks_run(workplace):
    """What is fenced as `sh` runs where the models lie; `bash` is for `.ci/run`."""
    code = blocks(README, 'sh')
    assert code
    environment = dict(os.environ, PYTHONPATH=str(ROOT), KERAS_BACKEND='tensorflow')
    environment['PATH'] = f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'
    for script in code:
        run = subprocess.run(
            [shutil.which('bash'), '-ec', script],
            env=environment,
            cwd=workplace,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, f'{script}\n{run.stdout}\n{run.stderr[-2000:]}'
    assert (workplace / 'bert-base-chinese' / 'model.safetensors').is_file()


# Nothing is seen of the block before, except in a document that goes on in it.
RUN = """
import json, sys
for name, code in json.load(sys.stdin):
    exec(compile(code, name, 'exec'), {'__name__': '__main__'})
    print('ran', name)
"""


def test_python_blocks_run(workplace):
    """In one process, for to import TensorFlow takes longer than most blocks."""
    code = []
    for path in (README, ATTENTION, CONTRIBUTING):
        found = blocks(path, 'python')
        assert found, path.name
        whole = path != CONTRIBUTING
        code += [(path.name, x) for x in (['\n\n'.join(found)] if whole else found)]
    environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONWARNINGS='ignore')
    environment['KERAS_BACKEND'] = 'tensorflow'  # what a reader has
    run = subprocess.run(
        [sys.executable, '-c', RUN],
        env=environment,
        cwd=workplace,
        input=json.dumps(code),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, f'{run.stdout[-300:]}\n{run.stderr[-3000:]}'
    assert run.stdout.count('ran ') >= len(code)


@pytest.mark.parametrize('pair', [(README, README_ZH), (ATTENTION, ATTENTION_ZH)])
def test_both_languages_hold_the_same_code(pair):
    for language in ('python', 'bash', 'sh'):
        english, chinese = (blocks(path, language) for path in pair)
        assert len(english) == len(chinese)
        for a, b in zip(english, chinese, strict=True):
            assert without_comments(a) == without_comments(b)


def test_both_languages_show_the_same_figures():
    def figures(path):
        rows = [
            line
            for line in path.read_text(encoding='utf-8').splitlines()
            if line.startswith('|')
        ]
        return [re.findall(r'\d+(?:\.\d+)?', row) for row in rows]

    assert figures(README) == figures(README_ZH)


def test_ci_runs_the_commands_of_the_readme():
    """The shell blocks are what `.ci/run` executes, line by line, in order."""
    commands = [
        line for block in blocks(README, 'bash') for line in without_comments(block)
    ]
    assert any(line.startswith('pip install -e .') for line in commands)
    script = (ROOT / '.ci' / 'run').read_text()
    assert "'/^```bash$/,/^```$/p' README.md" in script
    bash = shutil.which('bash')
    extract = re.search(r'^commands=.*?$', script, re.MULTILINE).group(0)
    run = subprocess.run(
        [bash, '-c', f'{extract}\nprintf "%s\\n" "$commands"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found = [line for line in run.stdout.splitlines() if without_comments(line)]
    assert [without_comments(line)[0] for line in found] == commands
