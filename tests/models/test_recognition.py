"""Families told by names: each by its own table, and by files from elsewhere."""

import time

import numpy as np
import pytest

from keraseff.checkpoints import Checkpoint
from keraseff.checkpoints import DictCheckpoint
from keraseff.checkpoints import expand
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints.base import Stored
from keraseff.models import BERT
from keraseff.models import MODELS
from keraseff.models import RoFormer
from keraseff.models.config import Config
from keraseff.models.loading import parse_slot
from keraseff.models.recognition import describe_family
from keraseff.models.recognition import families
from keraseff.models.recognition import likeliest
from keraseff.models.recognition import looks_like
from keraseff.models.recognition import recognise

TABLES = [(f, dialect) for f in families() for dialect in f.names]


def named(names, dialect):
    """A checkpoint of which nothing but names can be known."""
    tensors = {name: Stored((), np.dtype('float32'), None) for name in names}
    return Checkpoint(None, dialect, tensors)


def file_names(family, dialect, layers=3, heads=True):
    """The tensors of a file of the family, as its table has them."""
    rows = expand(family.names[dialect], layers, shared=True)
    return {
        parse_slot(left, right, dialect).tensor
        for left, right in rows.items()
        if heads or not left.startswith(('Pooler', 'NSP', 'MLM'))
    }


def toy(name, rows, **attributes):
    """A family of nothing but a table."""
    known = {'model_prefixes': (), 'alternatives': {}, 'ignored': None}
    known |= {'config_class': Config, 'names': {'tensorflow': rows}}
    return type(name, (), known | attributes)


@pytest.mark.parametrize(('family', 'dialect'), TABLES, ids=str)
def test_each_family_explains_its_own_files_best(family, dialect):
    for prefix in ('', *family.model_prefixes):
        names = file_names(family, dialect)
        names = {name.removeprefix(prefix) for name in names}
        best = likeliest(recognise(named(names, dialect)))
        assert family in [each.family for each in best], [each.name for each in best]
        assert all(each.score == 1 and not each.unexplained for each in best)


@pytest.mark.parametrize(('family', 'dialect'), TABLES, ids=str)
def test_rows_are_those_of_the_table(family, dialect):
    (found,) = [
        each
        for each in recognise(named(file_names(family, dialect), dialect))
        if each.family is family
    ]
    ours = {
        row.left.replace('\0', str(row.layer))
        for rows in found.rows.values()
        for row in rows
    }
    table = expand(family.names[dialect], 3, shared=True)
    shared = {left for left in table if '-{i}' in left} and any(
        '{i}' in left and '{i' not in right
        for left, right in family.names[dialect].items()
    )
    assert shared or ours == set(table)


def test_names_in_common_are_reported_as_a_tie():
    names = file_names(RoFormer, 'tensorflow')
    best = {
        name
        for each in likeliest(recognise(named(names, 'tensorflow')))
        for name in each.names
    }
    assert 'roformer' in best
    if 'nezha' in MODELS:
        assert 'nezha' in best
    assert 'bert' not in best


def test_score_counts_explained_unexplained_and_missing():
    rows = {
        'Embedding-Token/embeddings': 'words',
        'Block-{i}/{a,b}': 'layer_{i:02d}/{x,y}',
        'Pooler-Dense/kernel': 'pool',
    }
    family = toy('Toy', rows)

    def judge(*names):
        (found,) = recognise(named(names, 'tensorflow'), {family: ('toy',)}, 0)
        return found.score, found.missing, found.unexplained

    whole = 'words', 'layer_00/x', 'layer_00/y', 'layer_01/x', 'layer_01/y'
    assert judge(*whole) == (1, 0, ())
    assert judge(*whole, 'pool', 'global_step', 'words/adam_m') == (1, 0, ())
    assert judge(*whole[:-1]) == (4 / 5, 1, ())
    # A number that is not written as the table writes it is another name.
    assert judge(*whole, 'layer_2/x') == (5 / 6, 0, ('layer_2/x',))
    # A second layer alone does not make the first one wanted.
    assert judge('words', 'layer_01/x', 'layer_01/y') == (1, 0, ())


def test_fused_tensors_and_marks_are_one_name():
    rows = {'A-{i}/{q,k,v}': 'h.{i}.fused|=[{0,1,2}/3]', 'B/kernel': 'out|T'}
    (found,) = recognise(
        named(['h.0.fused', 'h.1.fused', 'out'], 'tensorflow'),
        {toy('Toy', rows): ('toy',)},
    )
    assert found.score == 1
    assert [(r.left, r.layer, r.parts) for r in found.rows['h.1.fused']] == [
        ('A-\0/q', 1, 3),
        ('A-\0/k', 1, 3),
        ('A-\0/v', 1, 3),
    ]
    assert found.rows['out'][0].turned


def test_alternatives_and_the_number_twice_in_a_name():
    rows = {'A-{i}/{a,b}': 'l{i}.sub.{i}.{x,y}', 'C/bias': 'head.bias'}
    family = toy('Toy', rows, alternatives={'head.bias': ('decoder.bias',)})
    names = ['l0.sub.0.x', 'l0.sub.0.y', 'l11.sub.11.x', 'l11.sub.11.y', 'decoder.bias']
    (found,) = recognise(named(names, 'tensorflow'), {family: ('toy',)})
    assert found.score == 1
    (other,) = recognise(named([*names, 'l1.sub.2.x'], 'tensorflow'), {family: ('t',)})
    assert other.unexplained == ('l1.sub.2.x',)


def test_an_unknown_file_is_of_no_family():
    assert recognise(named(['conv1.weight', 'conv1.bias'], 'huggingface')) == []


def test_the_real_index_of_albert_zh(data_dir):
    path = data_dir / 'chinese_bert_vocab_config' / 'albert_tiny_zh.ckpt'
    checkpoint = open_checkpoint(path)
    best = likeliest(recognise(checkpoint))
    assert [each.name for each in best] == ['albert_zh']
    assert best[0].score == 1
    assert 'ALBERT' in looks_like(checkpoint, BERT)


def test_looks_like_names_the_better_family_only():
    bert = named(file_names(BERT, 'tensorflow'), 'tensorflow')
    roformer = named(file_names(RoFormer, 'huggingface'), 'huggingface')
    assert looks_like(bert, BERT) == ''
    assert looks_like(roformer, RoFormer) == ''
    text = 'this looks like a BERT checkpoint; pass model='
    assert looks_like(bert, RoFormer) == f"{text}'bert'"
    assert "pass model='roformer'" in looks_like(roformer, BERT)
    # Half of a BERT is no other family.
    names = sorted(file_names(BERT, 'tensorflow'))
    assert looks_like(named(names[::2], 'tensorflow'), BERT) == ''
    assert looks_like(named(['a', 'b'], 'tensorflow'), BERT) == ''


def test_looks_like_takes_an_instance():
    config = {'vocab_size': 9, 'hidden_size': 4, 'num_attention_heads': 2}
    config |= {'num_hidden_layers': 1, 'intermediate_size': 4}
    bert = named(file_names(BERT, 'tensorflow'), 'tensorflow')
    assert looks_like(bert, RoFormer(config)).startswith('this looks like a BERT')


@pytest.mark.parametrize('name', sorted(MODELS))
def test_every_family_has_an_article(name):
    text = describe_family(name)
    article, title, *_ = text.split()
    assert text.endswith(' checkpoint')
    assert article == ('an' if title[0] in 'AEIO' or title[:3] == 'mT5' else 'a')


def test_many_long_hostile_names_take_no_time():
    digits = '.'.join(['1' * 19] * 200)
    names = [f'bert/encoder/layer_{i}/{digits}' for i in range(2000)]
    names += [f'bert/encoder/layer_{10**18 + i}/output/dense/bias' for i in range(2000)]
    began = time.perf_counter()
    assert recognise(named(names, 'tensorflow')) == []
    assert time.perf_counter() - began < 10


def test_a_dict_is_recognised_too():
    arrays = {name: np.zeros(1) for name in file_names(BERT, 'tensorflow')}
    assert recognise(DictCheckpoint(arrays))[0].family is BERT
    assert isinstance(recognise(DictCheckpoint(arrays))[0].rows, dict)


def test_biases_come_all_together_or_not_at_all():
    names = {
        name: file_names(MODELS[name], 'huggingface') for name in ('qwen2', 'llama')
    }
    plain = {name for name in names['llama'] if not name.endswith('bias')}

    def best(tensors):
        return {
            each.name for each in likeliest(recognise(named(tensors, 'huggingface')))
        }

    assert best(names['qwen2']) == {'qwen2'}
    assert best(plain) == {'llama', 'mistral'}
    assert best(names['llama']) == {'llama'}
    attention = plain | {name for name in names['llama'] if '_proj.bias' in name}
    attention = {name for name in attention if 'mlp' not in name or 'bias' not in name}
    assert best(attention) == {'llama'}
