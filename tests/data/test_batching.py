import itertools

import numpy as np
import pytest

from keraseff.data import DataGenerator
from keraseff.data import sequence_padding


def rows_of(lengths):
    return [('字' * int(n), i) for i, n in enumerate(lengths)]


class Tagged(DataGenerator):
    def encode(self, row):
        text, i = row
        n = len(text)
        ids = [i + 1] * n
        return (ids, np.zeros(n, 'int8')), (np.ones((3, n, n), 'float32'), float(i))


def ids_in(batches):
    return [int(i) for batch in batches for i in batch[1][1]]


@pytest.fixture
def lengths(rng):
    return rng.integers(3, 70, 205)


@pytest.mark.parametrize('bucketing', [True, False])
@pytest.mark.parametrize('random', [True, False])
@pytest.mark.parametrize('stream', [True, False])
def test_every_row_once_a_pass(lengths, bucketing, random, stream):
    rows = rows_of(lengths)

    class Stream:
        def __iter__(self):
            return iter(rows)

    data = Stream() if stream else rows
    generator = Tagged(data, 8, buffer_size=50, bucketing=bucketing)
    for _ in range(2):
        batches = list(generator.__iter__(random))
        assert [len(b[0][0]) for b in batches] == [8] * 25 + [5]
        assert sorted(ids_in(batches)) == list(range(205))
        if not random:
            assert ids_in(batches) == list(range(205))


def test_what_a_batch_holds(lengths):
    rows = rows_of(lengths)
    for (ids, segments), (square, number) in Tagged(rows, 8).__iter__(True):
        longest = max(lengths[int(i)] for i in number)
        padded = -(-longest // 16) * 16
        assert ids.shape == segments.shape == (len(ids), padded)
        assert square.shape == (len(ids), 3, padded, padded)
        assert (ids.dtype, segments.dtype) == (np.int32, np.int8)
        assert (square.dtype, number.dtype) == (np.float32, np.float32)
        for k, i in enumerate(number.astype(int)):
            n = lengths[i]
            assert (ids[k] != 0).sum() == n
            assert set(ids[k, :n].tolist()) == {i + 1}
            assert square[k].sum() == 3 * n * n


def test_equal_lengths_are_still_rounded_up():
    lengths = [20] * 30 + [33] * 2
    for batch in Tagged(rows_of(lengths), 4):
        assert batch[0][0].shape[1] in (32, 48)
    alike = [batch[0][0].shape for batch in Tagged(rows_of([20] * 8), 4)]
    assert alike == [(4, 20)] * 2  # fixed lengths stay as they are
    odd = next(iter(Tagged(rows_of(lengths), 4, multiple_of=1)))
    assert odd[0][0].shape == (4, 20)


def test_bucketing_saves_padding(lengths):
    def padded(bucketing):
        generator = Tagged(rows_of(lengths), 8, bucketing=bucketing, seed=0)
        return sum(b[0][0].size for b in generator.__iter__(True))

    assert lengths.sum() <= padded(True) < 0.8 * padded(False)


def test_bucketed_batches_come_in_another_order_each_time(lengths):
    generator = Tagged(rows_of(lengths), 8, bucketing=True, seed=0)
    first, second = (ids_in(generator.__iter__(True)) for _ in range(2))
    assert first != second
    heads = [lengths[i] for i in first[::8]]
    assert heads != sorted(heads)


def test_seeds(lengths):
    def order(seed):
        generator = Tagged(rows_of(lengths), 8, seed=seed)
        return [ids_in(generator.__iter__(True)) for _ in range(2)]

    assert order(3) == order(3)
    assert order(3) != order(4)
    np.random.seed(5)
    first = order(None)
    np.random.seed(5)
    assert order(None) == first


def test_sample_marks_only_the_last():
    generator = DataGenerator(list('abcde'), 2)
    assert list(generator.sample()) == [
        (False, 'a'),
        (False, 'b'),
        (False, 'c'),
        (False, 'd'),
        (True, 'e'),
    ]
    marks = [end for end, _ in generator.sample(random=True)]
    assert marks == [False] * 4 + [True]
    assert list(DataGenerator([], 2).sample(True)) == []
    assert len(generator) == 3
    with pytest.raises(TypeError, match='steps_per_epoch'):
        len(DataGenerator(iter('abc'), 2))


class Old(DataGenerator):
    """As in bert4keras' examples."""

    def __iter__(self, random=False):
        first, second = [], []
        for is_end, n in self.sample(random):
            first.append(np.ones(n))
            second.append(n)
            if len(first) == self.batch_size or is_end:
                width = max(second)
                x = np.array([np.pad(f, (0, width - len(f))) for f in first])
                yield self.shape_up(x, np.array(second))
                first, second = [], []

    def shape_up(self, x, y):
        return [x, x + 1], y


@pytest.mark.parametrize(
    ('made', 'expected'),
    [
        (lambda x, y: ([x, x], y), '((x, x), y)'),
        (lambda x, y: ([x, x], None), '((x, x),)'),
        (lambda x, y: (x, None), '(x,)'),
        (lambda x, y: x, '(x,)'),
        (lambda x, y: ([x], y), '(x, y)'),
        (lambda x, y: [x, y], '(x, y)'),
        (lambda x, y: (x, y.tolist()), '(x, y)'),
        (lambda x, y: ({'a': [x, x]}, [y, y]), '({a: (x, x)}, (y, y))'),
        (lambda x, y: (x, y, None), '(x, y)'),
    ],
)
def test_old_scripts_give_tuples(made, expected):
    def written(part):
        if isinstance(part, dict):
            return '{' + ', '.join(f'{k}: {written(v)}' for k, v in part.items()) + '}'
        if isinstance(part, tuple):
            inner = ', '.join(map(written, part))
            return f'({inner},)' if len(part) == 1 else f'({inner})'
        assert isinstance(part, np.ndarray)
        return 'xy'[part.ndim == 1]

    generator = Old([3, 4, 5], 2)
    generator.shape_up = made
    batch = next(generator.forfit(random=False))
    assert written(batch) == expected
    assert written(next(generator.fortest())) == written(batch[:1])


def test_the_second_batch_differs_from_the_first():
    """Six batches of length 4 before one of 9: Keras would take 4 for fixed."""
    data = [4] * 12 + [9] + [4] * 7
    plain = [len(b[1]) for b in Old(data, 2)]
    batches = list(itertools.islice(Old(data, 2).forfit(random=False), 2 * len(plain)))
    shapes = [batch[0][0].shape[1] for batch in batches]
    assert shapes == [4, 9, 4, 4, 4, 4, 4, 4, 4, 4] + [4] * 6 + [9] + [4] * 3
    labels = [sorted(int(n) for b in part for n in b[1]) for part in (batches[:10],)]
    assert labels == [sorted(data)]


def test_a_batch_that_differs_everywhere_comes_second():
    """Two inputs vary; the batch that differs in both spares padding the first."""

    class Two(DataGenerator):
        def encode(self, row):
            return ([1] * row[0], [1] * row[1]), None

    rows = [(4, 5), (4, 5), (4, 9), (8, 5), (8, 9), (4, 5)]
    for data, expected in ((rows, 4), (rows[:4], 2)):
        generator = Two(data, 1, multiple_of=1)
        batches = itertools.islice(generator.forfit(random=False), len(data))
        shapes = [(x.shape[1], y.shape[1]) for ((x, y),) in batches]
        # without such a batch the first is wider by no more than is needed
        first = rows[0] if expected == 4 else (5, 5)
        assert shapes[:2] == [first, rows[expected]]
        assert sorted(shapes[1:]) == sorted(data[1:])


def test_old_scripts_give_32_bits():
    generator = Old([3, 4, 5], 2)
    big = np.array([2**40, 1])
    generator.shape_up = lambda x, y: (
        {'ids': x.astype('int64'), 'mask': [x[:, :1], [1.5] * len(x)]},
        [sequence_padding([np.zeros(3), np.ones(2)]), big, y.astype('uint8')],
    )
    (x, y) = next(generator.forfit())
    assert [x['ids'].dtype, *(m.dtype for m in x['mask'])] == ['int32'] + [
        'float32'
    ] * 2
    assert [part.dtype for part in y] == ['float32', 'int64', 'uint8']
    assert y[1].tolist() == big.tolist()  # what does not fit stays
    (x,) = next(generator.fortest())
    assert x['ids'].dtype == 'int32'
    generator.shape_up = lambda x, y: x
    assert next(generator.fortest())[0].dtype == 'float32'


def test_nothing_is_lost_by_looking_ahead(rng):
    lengths = np.sort(rng.integers(3, 90, 1000))  # equal ones in a row
    generator = Tagged(rows_of(lengths), 4)
    epoch = list(itertools.islice(generator.forfit(random=False), 250))
    assert epoch[0][0][0].shape != epoch[1][0][0].shape
    assert sorted(ids_in(epoch)) == list(range(1000))
    shuffled = generator.forfit()
    for _ in range(2):
        assert sorted(ids_in(itertools.islice(shuffled, 250))) == list(range(1000))


def test_the_first_is_padded_further_where_all_are_alike():
    lengths = [20] * 400 + [40]  # the odd one comes too late to be brought forward
    generator = Tagged(rows_of(lengths), 4)
    first, second = itertools.islice(generator.forfit(random=False), 2)
    assert first[0][0].shape == (4, 33)  # 1 more, not 16: a model has a longest row
    assert first[1][0].shape == (4, 3, 33, 33)
    assert second[0][0].shape == (4, 32)


def test_fortest_keeps_the_order():
    lengths = [20] * 10 + [40, 41]
    generator = Tagged(rows_of(lengths), 2)
    batches = list(generator.fortest())
    assert len(batches) == len(generator) == 6
    assert [b[0][0].shape[1] for b in batches] == [33, 32, 32, 32, 32, 48]
    assert [int(b[0][0][0, 0]) for b in batches] == [1, 3, 5, 7, 9, 11]
    assert len(list(Tagged(rows_of([20]), 2).fortest())) == 1


def test_an_empty_pass_is_an_error():
    with pytest.raises(ValueError, match='gave no rows'):
        next(Tagged([], 2).forfit())
    used_up = Tagged(iter(rows_of([3, 4])), 2).forfit()
    next(used_up)
    with pytest.raises(ValueError, match='used up'):
        next(used_up)


def test_wrong_encoders_are_named():
    class Lonely(DataGenerator):
        def encode(self, row):
            return [1, 2]

    with pytest.raises(ValueError, match=r'tuple \(inputs, targets\)'):
        next(iter(Lonely(['a'])))
    with pytest.raises(NotImplementedError, match='DataGenerator must define encode'):
        next(iter(DataGenerator(['a'])))

    class Uneven(DataGenerator):
        def encode(self, row):
            return np.zeros([1] * row), None

    with pytest.raises(ValueError, match='different ranks'):
        next(iter(Uneven([1, 2])))
    with pytest.raises(ValueError, match='batch_size=0'):
        DataGenerator([], 0)


def test_targets_of_none_leave_only_inputs():
    class Free(DataGenerator):
        def encode(self, row):
            return (row, len(row)), None

    ((ids, sizes),) = next(iter(Free([[1, 2], [3]], 2, multiple_of=4)))
    assert ids.tolist() == [[1, 2, 0, 0], [3, 0, 0, 0]]
    assert sizes.tolist() == [2, 1]


@pytest.mark.every_backend
def test_keras_trains_and_predicts_on_them():
    """On TensorFlow this fails where the first two batches are equally long."""
    import keras

    class Counts(DataGenerator):
        def encode(self, row):
            return [1.0] * row, float(row)

    x = keras.Input((None,))
    total = keras.layers.Lambda(lambda x: keras.ops.sum(x, 1, keepdims=True))(x)
    model = keras.Model(x, keras.layers.Dense(1)(total))
    model.compile('sgd', 'mse')
    model.layers[-1].set_weights([np.ones((1, 1)), np.zeros(1)])
    lengths = [5] * 12 + [20] * 3 + [40, 5]
    generator = Counts(lengths, 2)
    predicted = model.predict(generator.fortest(), steps=len(generator), verbose=0)
    np.testing.assert_allclose(predicted[:, 0], lengths)
    batches = generator.forfit(random=False)
    # shuffle=False: else Keras warns that a generator can not be shuffled
    options = {'steps_per_epoch': len(generator), 'epochs': 2, 'shuffle': False}
    history = model.fit(batches, **options, verbose=0)
    np.testing.assert_allclose(history.history['loss'], [0, 0], atol=1e-9)
