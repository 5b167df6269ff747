"""The layering and the house rules, checked on the syntax trees of the sources."""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / 'keraseff'
FILES = sorted(PACKAGE.rglob('*.py'))
ISLAND = {'data', 'text', 'tokenizers', 'decoding', 'stats', 'checkpoints'}
FACADES = {'backend', 'snippets'}
LEVELS = {
    'backends': 0,
    'ops': 1,
    'losses': 2,
    'metrics': 2,
    'initializers': 2,
    'regularizers': 2,
    'layers': 3,
    'optimizers': 3,
    'models': 4,
    'training': 5,
    'generation': 5,
    'callbacks': 5,
    'commands': 5,
    'interpret': 5,
    'serving': 5,
    'backend': 6,
    'snippets': 6,
    '__main__': 6,
}
FRAMEWORKS = {'tensorflow', 'jax', 'torch'}
NAMELESS = {'utils', 'helpers', 'misc', 'common', 'core'}


def part(path):
    """The package or module below keraseff that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imports(path):
    """The modules a file imports, dotted, with the names taken from them."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or '', alias.name


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = part(path)
    for module, name in imports(path):
        root = module.split('.')[0]
        assert name != '*', f'{path}: star import of {module}'
        assert not (root in FRAMEWORKS and here != 'backends'), f'{path} imports {root}'
        if here in ISLAND:
            assert root != 'keras', f'{path}: the numpy island imports Keras'
        if root != 'keraseff' or module == 'keraseff':
            continue
        there = module.split('.')[1]
        if here == there or here == '__init__':
            continue
        assert there not in FACADES, f'{path} imports the façade {there}'
        if here in ISLAND:
            assert there in ISLAND, f'{path}: the island imports {there}'
        elif there in ISLAND:
            assert LEVELS[here] >= 4, f'{path}: {here} may not import {there}'
        else:
            assert LEVELS[there] < LEVELS[here], f'{path}: {here} imports {there}'


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_house_rules(path):
    assert path.stem not in NAMELESS
    text = path.read_text(encoding='utf-8')
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert), f'{path}:{node.lineno}: assert'
        bare = isinstance(node, ast.ExceptHandler) and node.type is None
        assert not bare, f'{path}:{node.lineno}: bare except'
    asks = any(a in text for a in ('backend.backend()', 'config.backend()'))
    assert not asks or part(path) == 'backends', f'{path} asks which backend runs'


@pytest.mark.parametrize('folder', ['layers/attention', 'layers/position', 'models'])
def test_every_module_is_exported_and_tested(folder):
    contracts = {
        'attention': 'test_mechanisms',
        'position': 'test_positions',
        'models': 'test_families',
    }
    init = (PACKAGE / folder / '__init__.py').read_text(encoding='utf-8')
    tests = ROOT / 'tests' / folder
    written = '\n'.join(p.read_text(encoding='utf-8') for p in tests.glob('test_*.py'))
    assert written, f'{tests} is empty'
    for path in (PACKAGE / folder).glob('*.py'):
        if path.stem == '__init__':
            continue
        dotted = '.'.join(('keraseff', *folder.split('/'), path.stem))
        exported = dotted in init
        own = (tests / f'test_{path.stem}.py').exists() or dotted in written
        shared = (tests / f'{contracts.get(folder.split("/")[-1])}.py').exists()
        assert exported or own, f'{dotted} is neither exported nor used by a test'
        assert own or shared, f'{dotted} has no test'


@pytest.mark.parametrize('name', sorted(ISLAND))
def test_the_island_loads_no_framework(name):
    if not (PACKAGE / name).is_dir():
        pytest.skip(f'there is no {name} yet')
    code = (
        f'import sys, keraseff.{name}\n'
        "loud = {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)\n"
        'sys.exit(", ".join(loud) or 0)'
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    run = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_importing_keraseff_is_cheap():
    code = 'import sys, keraseff; sys.exit("keras" in sys.modules)'
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    assert subprocess.run([sys.executable, '-c', code], env=environment).returncode == 0
