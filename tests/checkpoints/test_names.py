import pytest

from keraseff.checkpoints import expand


def test_groups_walk_in_step_and_multiply_out():
    table = {'L{i}/{query,key}/{kernel,bias}': 'layer_{i:02d}/{q,k}/{weight,b}'}
    expected = {}
    for i in range(2):
        for a, b in (('query', 'q'), ('key', 'k')):
            for c, d in (('kernel', 'weight'), ('bias', 'b')):
                expected[f'L{i}/{a}/{c}'] = f'layer_{i:02d}/{b}/{d}'
    assert list(expand(table, 2).items()) == list(expected.items())


def test_rows_without_an_index_come_once_and_in_order():
    table = {'b': 'y', 'a{1,2}': 'x{3,4}', 'c{,-Norm}': 'z{/w,/n}'}
    expected = {'b': 'y', 'a1': 'x3', 'a2': 'x4', 'c': 'z/w', 'c-Norm': 'z/n'}
    assert list(expand(table, 12).items()) == list(expected.items())


def test_three_digits_and_two_indices():
    names = expand({'T-{i}/a-{i}': 'block_{i:03d}/a'}, 12)
    assert names['T-11/a-11'] == 'block_011/a'
    assert len(names) == 12


def test_all_layers_may_share_one_tensor():
    names = expand({'T-{i}/{kernel,bias}': 'group_0/{kernel,bias}'}, 3)
    assert names['T-2/bias'] == names['T-0/bias'] == 'group_0/bias'


@pytest.mark.parametrize(
    ('table', 'word'),
    [
        ({'a/{b,c}': 'x/{y,z,w}'}, 'pair up'),
        ({'a/{b,c}': 'x'}, 'pair up'),
        ({'a': 'x/{y,z}'}, 'pair up'),
        ({'a/{b,b}': 'x/{y,z}'}, 'left'),
        ({'a': 'x/{i}'}, 'left'),
        ({'a': 'x', 'b': 'x'}, 'right'),
        ({'T{i}': 'x', 'b': 'x'}, 'right'),
        ({'a{b}': 'x{b}'}, 'neither'),
        ({'a{b,{c,d}}': 'x'}, 'Braces|neither'),
        ({'a{b,c': 'x{b,c'}, 'Braces'),
        ({'a}': 'x'}, 'Braces'),
    ],
)
def test_mistakes_are_named(table, word):
    with pytest.raises(ValueError, match=word):
        expand(table, 2)


def test_sharing_across_rows_must_be_asked_for():
    table = {'embedding': 'shared', 'output': 'shared'}
    assert expand(table, 1, shared=True) == table


def test_a_bert_table_is_a_bijection():
    table = {
        'Embedding-{Token,Segment}/embeddings': 'embeddings/{word,token_type}',
        'T-{i}-FeedForward/dense{,_1}/{kernel,bias}': (
            'layer_{i}/{intermediate,output}/dense/{kernel,bias}'
        ),
    }
    names = expand(table, 12)
    assert len(names) == len(set(names.values())) == 2 + 12 * 4
