"""The command line as a whole: help, wrong words, and a process of its own."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from keraseff.checkpoints import write_safetensors
from keraseff.commands import COMMANDS
from keraseff.commands import main


def python(*arguments):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), NO_COLOR='1')
    environment.pop('KERAS_BACKEND', None)
    return subprocess.run(
        [sys.executable, '-m', 'keraseff', *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        encoding='utf-8',
        timeout=120,
    )


@pytest.mark.parametrize('name', COMMANDS)
def test_help_explains_every_option(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, '--help'])
    assert stop.value.code == 0
    page = capsys.readouterr().out
    assert 'exit code' in page
    assert 'examples:' in page
    assert page.count('python -m keraseff') >= 3


@pytest.mark.parametrize('arguments', [[], ['explode'], ['inspect'], ['convert', 'a']])
def test_wrong_words_end_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert 'usage:' in capsys.readouterr().err


def test_a_process_of_its_own(tmp_path):
    write_safetensors(tmp_path / 'm.safetensors', {'北京': np.zeros(3, 'float32')})
    run = python('inspect', tmp_path, '--tensors')
    assert run.returncode == 1
    assert '北京' in run.stdout
    assert run.stderr == ''
    run = python('inspect', tmp_path / 'nowhere')
    assert run.returncode == 2
    assert run.stderr.startswith('error: ')
    assert 'Traceback' not in run.stderr


def test_what_nobody_foresaw_is_one_line_too(monkeypatch, capsys):
    def broken(_):
        raise RecursionError('too deep\nand more')

    monkeypatch.setattr(COMMANDS['inspect'], 'run', broken)
    assert main(['inspect', 'x']) == 2
    assert capsys.readouterr().err == 'error: RecursionError: too deep and more\n'
