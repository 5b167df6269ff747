"""T5's buckets to the integer, and its bias."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_layer
from harness import check_mechanism
from harness import save_and_reopen
from harness import to_numpy
from keras import Input
from keras import Model
from keras import ops
from keras.backend import standardize_dtype
from reference import positions as slow

from keraseff.layers import MultiHeadAttention
from keraseff.layers import RelativePositionEmbeddingT5
from keraseff.layers import T5Relative
from keraseff.layers.position import t5_buckets

RULES = [(32, 128), (32, 256), (16, 20), (8, 64), (48, 500), (64, 1000), (6, 17)]


def spread(buckets, max_distance, bidirectional, reach):
    steps = np.clip(np.arange(-reach, reach + 1), -max_distance, max_distance)
    return t5_buckets(buckets, max_distance, bidirectional)[steps + max_distance]


@pytest.mark.parametrize('bidirectional', [True, False])
@pytest.mark.parametrize(('buckets', 'max_distance'), RULES)
def test_buckets_are_those_of_transformers(buckets, max_distance, bidirectional):
    torch = pytest.importorskip('torch')
    t5 = pytest.importorskip('transformers.models.t5.modeling_t5')
    expected = t5.T5Attention._relative_position_bucket(
        torch.arange(-2000, 2001), bidirectional, buckets, max_distance
    )
    found = spread(buckets, max_distance, bidirectional, 2000)
    np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize('bidirectional', [True, False])
@pytest.mark.parametrize(('buckets', 'max_distance'), RULES[:4])
def test_buckets_are_those_of_the_formula(buckets, max_distance, bidirectional):
    expected = [
        slow.t5_bucket(d, buckets, max_distance, bidirectional)
        for d in range(-300, 301)
    ]
    found = spread(buckets, max_distance, bidirectional, 300)
    np.testing.assert_array_equal(found, expected)
    unused = {buckets // 2} if bidirectional else set()
    assert set(found) == set(range(buckets)) - unused


def test_rules_without_room_are_refused():
    with pytest.raises(ValueError, match='at least 4 buckets'):
        t5_buckets(2, 8)
    with pytest.raises(ValueError, match='must exceed 8'):
        T5Relative(heads=2, buckets=32, max_distance=8)
    with pytest.raises(ValueError, match='heads=None'):
        T5Relative()(np.zeros((1, 3, 2)))


@pytest.mark.every_backend
@pytest.mark.parametrize('bidirectional', [True, False])
def test_every_distance_up_to_2000_finds_its_bucket(bidirectional):
    layer = T5Relative(heads=1, bidirectional=bidirectional)
    query, keys = np.zeros((1, 2, 1), 'float32'), np.zeros((1, 2001, 1), 'float32')
    layer(query)
    layer.embeddings.assign(np.arange(32.0)[:, None])
    found = to_numpy(layer(query, np.array([[0, 2000]]), keys))
    steps = spread(32, 128, bidirectional, 2000)
    assert found.shape == (1, 1, 2, 2001)
    np.testing.assert_array_equal(found[0, 0], [steps[2000:], steps[:2001]])


@pytest.mark.every_backend
def test_contracts(rng):
    def make(**kwargs):
        return T5Relative(
            heads=2, buckets=8, embeddings_initializer='glorot_uniform', **kwargs
        )

    x = rng.normal(size=(1, 5, 3)).astype('float32')
    check_layer(make, x)
    check_mechanism('softmax', position=make())


@pytest.mark.every_backend
def test_attention_adds_the_table_to_its_scores(rng):
    x = rng.normal(size=(2, 6, 5)).astype('float32')
    layer = MultiHeadAttention(
        2, 4, position=T5Relative(heads=2, buckets=8), return_attention_scores=True
    )
    _, before = layer(x)
    table = rng.normal(size=(8, 2)).astype('float32')
    layer.position.embeddings.assign(table)
    _, after = layer(x)
    change = to_numpy(after) - to_numpy(before)
    for h, i, j in np.ndindex(2, 6, 6):
        expected = table[slow.t5_bucket(j - i, 8, 128, True), h]
        np.testing.assert_allclose(change[:, h, i, j], expected, atol=1e-5)


@pytest.mark.every_backend
def test_given_positions_and_keys(rng):
    layer = T5Relative(heads=3, embeddings_initializer='glorot_uniform')
    x, y = np.zeros((2, 7, 2), 'float32'), np.zeros((2, 4, 2), 'float32')
    own = to_numpy(layer(x))
    assert own.shape == (1, 3, 7, 7)
    assert_close(layer(x, np.arange(7)[None] + 100), own)
    assert_close(layer(y, keys=x), own[:, :, :4])
    assert_close(layer(x[:, :1], np.array([[5]]), x), own[:, :, 5:6])
    ids = np.array([[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0]])
    both = to_numpy(layer(x, ids))
    assert_close(both, np.concatenate([own, own[:, :, ::-1, ::-1]]))
    same = RelativePositionEmbeddingT5(32, 3)
    same([y, x])
    same.set_weights(layer.get_weights())
    assert_close(same([y, x]), layer(y, keys=x))


@pytest.mark.every_backend
def test_one_table_serves_all_layers_of_a_graph(rng):
    x = Input((None, 8))
    p = T5Relative(heads=2, buckets=8, name='Embedding-Relative-Position')(x)
    y = MultiHeadAttention(2, 4, position=T5Relative())(x, p=p)
    model = Model(x, MultiHeadAttention(2, 4, position=T5Relative())(y, p=p))
    paths = [w.path for w in model.weights]
    assert paths.count('Embedding-Relative-Position/embeddings') == 1
    assert len(paths) == 17
    table = model.get_layer('Embedding-Relative-Position')
    data = rng.normal(size=(2, 7, 8)).astype('float32')
    before = model.predict(data, verbose=0)
    table.embeddings.assign(rng.normal(size=(8, 2)))
    after = model.predict(data, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    assert_close(save_and_reopen(model).predict(data, verbose=0), after)


@pytest.mark.every_backend
def test_half_precision(rng):
    layer = T5Relative(heads=2, dtype='mixed_float16')
    p = layer(np.zeros((1, 4, 2)))
    scores = ops.zeros((1, 2, 4, 4), dtype='float16')
    found = layer.bias(scores, None, p)
    assert standardize_dtype(found.dtype) == 'float16'
    assert np.isfinite(to_numpy(found)).all()
