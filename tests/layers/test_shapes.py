"""Empty batches, and shapes and states that do not fit, in all that attends."""

import keras
import numpy as np
import pytest
from harness import MECHANISM_OPTIONS
from harness import to_numpy
from keras import ops

from keraseff.layers import MECHANISMS
from keraseff.layers import MIXERS
from keraseff.layers import HiPPOMemory
from keraseff.layers import Mask
from keraseff.layers import Mechanism
from keraseff.layers import MultiHeadAttention

ALL = [*MECHANISMS, *MIXERS]
CAUSAL = [x for x in ALL if getattr({**MECHANISMS, **MIXERS}[x], 'can_be_causal', True)]
SIZES = {
    'gau': {'units': 12, 'key_size': 4},
    'lru': {'state_size': 4},
    's4': {'state_size': 4},
    's4d': {'state_size': 4},
}
HERE = {'softmax', 'performer', 'vq', 'fnet', 'gau', 'lru', 's4'}
# The others differ in nothing that a backend could have a say in.
some_everywhere = pytest.mark.parametrize(
    'name',
    [
        pytest.param(x, marks=pytest.mark.every_backend if x in HERE else ())
        for x in ALL
    ],
)


def make(name, causal=None, **options):
    """A layer of 6 channels, causal where it can be if nothing else is said."""
    causal = name in CAUSAL if causal is None else causal
    if name in MIXERS:
        options |= SIZES.get(name, {}) | ({'causal': causal} if name in CAUSAL else {})
        return MIXERS[name](**options)
    options |= {'mechanism': name, 'mechanism_options': MECHANISM_OPTIONS.get(name)}
    return MultiHeadAttention(2, 4, out_dim=6, causal=causal, **options)


def zeros(*shape):
    return np.zeros(shape, 'float32')


@some_everywhere
def test_nothing_comes_of_nothing(name):
    position = {'position': 'rotary'} if name in MECHANISMS else {}
    position = {} if name == 'synthesizer' else position
    layer = make(name, **position)
    layer.build((None, None, 6))
    before = [to_numpy(w.value) for w in layer.weights]
    for shape in ((0, 5, 6), (2, 0, 6), (0, 1, 6)):
        assert tuple(layer(zeros(*shape)).shape) == shape
    if name in CAUSAL:
        out, state = layer.step(zeros(0, 1, 6), 0, layer.start(0, 3))
        assert tuple(out.shape) == (0, 1, 6)
        layer.step(zeros(0, 1, 6), 1, state)
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, to_numpy(weight.value))


@pytest.mark.parametrize('name', ALL)
def test_one_step_is_a_text(name, rng):
    layer = make(name)
    x = rng.normal(size=(3, 1, 6)).astype('float32')
    whole = to_numpy(layer(x))
    assert whole.shape == x.shape
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(to_numpy(layer(x[1:2])), whole[1:2], atol=1e-5)


@pytest.mark.parametrize('name', ['softmax', 'gau'])
def test_scores_of_nothing_are_empty_too(name):
    layer = make(name, return_attention_scores=True)
    heads = 1 if name == 'gau' else 2
    out, scores = layer(zeros(0, 5, 6))
    assert (tuple(out.shape), tuple(scores.shape)) == ((0, 5, 6), (0, heads, 5, 5))
    out, scores, _ = layer.step(zeros(0, 1, 6), 0, layer.start(0, 3))
    assert (tuple(out.shape), tuple(scores.shape)) == ((0, 1, 6), (0, heads, 1, 3))
    with pytest.raises(ValueError, match='k is empty'):
        make('softmax', causal=False)(zeros(1, 2, 6), zeros(1, 0, 6))


def test_an_empty_batch_trains_nothing_of_a_codebook():
    layer = make('vq')
    layer(np.ones((1, 4, 6), 'float32'), training=True)
    before = to_numpy(layer.mechanism.quantizer.steps.value)
    layer(zeros(0, 4, 6), training=True)
    assert to_numpy(layer.mechanism.quantizer.steps.value) == before == 1


def test_a_memory_of_nothing():
    assert HiPPOMemory(4)(zeros(0, 5, 6)).shape == (0, 5, 6, 4)
    with pytest.raises(ValueError, match=r'\(b, n, e\) was expected'):
        HiPPOMemory(4)(zeros(5, 6))


@pytest.mark.parametrize('name', ['softmax', 'linear', *MIXERS])
def test_what_is_no_sequence_is_refused(name):
    for layer in (make(name), make(name)):
        with pytest.raises(ValueError, match=r'shape \(5, 6\) came.*add the axis'):
            layer(zeros(5, 6))
        layer(zeros(2, 3, 6))
    with pytest.raises(ValueError, match=r'\(2, 3, 4, 6\) came'):
        layer(zeros(2, 3, 4, 6))
    if name in CAUSAL:
        state = layer.start(2, 3)
        with pytest.raises(ValueError, match=r'x of shape \(2, 2, 6\) .* \(b, 1, e\)'):
            layer.step(zeros(2, 2, 6), 0, state)


def test_a_list_of_sequences_is_refused():
    with pytest.raises(ValueError, match='3 tensors came in a list for q'):
        make('softmax')([zeros(2, 3, 6)] * 3)


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'k': (3, 4, 6)}, r'k of shape \(3, 4, 6\) came'),
        ({'k': (2, 4, 6), 'v': (2, 5, 6)}, r'\(2, 4, …\) was expected'),
        ({'dense': (4, 4)}, r'dense of shape \(4, 4\).*\(2, 4, 4\) or \(1, 4, 4\)'),
        ({'dense': (2, 1, 4, 4)}, 'dense of shape'),
        ({'dense': (2, 4, 3)}, 'dense of shape'),
        ({'dense': (3, 4, 4)}, 'dense of shape'),
        ({'residual': (2, 4, 4)}, r'residual of shape \(2, 4, 4\)'),
    ],
)
def test_arguments_of_attention_must_fit(arguments, match):
    arguments = {name: np.ones(shape, 'float32') for name, shape in arguments.items()}
    layer = make('softmax', causal=False)
    with pytest.raises(ValueError, match=match):
        layer(zeros(2, 4, 6), **arguments)
    layer(zeros(2, 4, 6), dense=np.ones((1, 4, 4), bool))
    with pytest.raises(ValueError, match=match):
        layer(zeros(2, 4, 6), **arguments)


def test_a_mask_must_fit_the_scores():
    bad = Mask(dense=np.ones((3, 3), bool))
    with pytest.raises(ValueError, match=r'dense=….*\(3, 3\).*\(…, 3, 3\)'):
        bad.matrix(3, 3)
    with pytest.raises(ValueError, match=r'padding=….*\(2, 4\).*\(…, 3\)'):
        Mask(padding=np.ones((2, 4), bool)).matrix(3, 3)
    assert Mask(dense=np.ones((1, 3, 3), bool)).matrix(3, 3).shape == (1, 1, 3, 3)


@pytest.mark.parametrize('name', CAUSAL)
def test_states_and_steps_that_do_not_fit(name):
    layer = make(name)
    layer.build((None, None, 6))
    x, state = zeros(2, 1, 6), layer.start(2, 3)
    for t in (3, -1, 1.0, np.int64(3)):
        with pytest.raises(ValueError, match='outside of the 3 steps'):
            layer.step(x, t, state)
    _, after = layer.step(x, np.int64(2), state)
    assert {k: v.shape for k, v in after.items()} == {
        k: v.shape for k, v in state.items()
    }
    shape = (None, None, 8)
    other = make(name)
    other = MultiHeadAttention(4, 3, causal=True) if name != 'softmax' else make('s4')
    other.build(shape)
    key = next(x for x in state if x != 'room')
    cut = {**state, key: state[key][..., :-1]}
    for foreign in (other.start(2, 3), cut, {}, None, [state]):
        with pytest.raises(ValueError, match='that of another layer'):
            layer.step(x, 0, foreign)
    with pytest.raises(ValueError, match='4 sequences came, .* that of 2'):
        layer.step(zeros(4, 1, 6), 0, state)
    for length in (0, None, 2.5, True):
        with pytest.raises(ValueError, match='must be a whole number'):
            layer.start(2, length)


def test_what_sees_all_at_once_cannot_start():
    with pytest.raises(ValueError, match='cannot go step by step'):
        make('fnet').start(2, 3)


def test_unknown_lengths_pass(rng):
    """Nothing is refused that is only not known yet."""
    x, dense = keras.Input((None, 6)), keras.Input((None, None), dtype='bool')
    model = keras.Model([x, dense], make('softmax')(x, dense=dense))
    found = model.predict([zeros(2, 3, 6), np.ones((2, 3, 3), bool)], verbose=0)
    assert found.shape == (2, 3, 6)


KINDS = [(name, causal) for name in ALL for causal in {False, name in CAUSAL}]


@pytest.mark.parametrize(('name', 'causal'), sorted(KINDS))
def test_a_padding_mask_must_fit(name, causal, rng):
    layer = make(name, causal=causal)
    x = rng.normal(size=(2, 9, 6)).astype('float32')
    mask = np.arange(9)[None] < [[9], [6]]
    layer(x, mask=mask)
    for shape in ((2, 5), (2, 12), (3, 9), (2, 1), (9,), (2, 9, 1), (1, 5)):
        shown = ', '.join(map(str, shape))
        match = rf'ask.* of shape \({shown},?\) came, \(2, 9\) was expected'
        with pytest.raises(ValueError, match=match):
            layer(x, mask=np.ones(shape, bool))
    whole = to_numpy(layer(x, mask=np.repeat(mask[1:], 2, axis=0)))
    np.testing.assert_allclose(to_numpy(layer(x, mask=mask[1:])), whole, atol=1e-6)


@pytest.mark.parametrize('name', ['softmax', 'linear', 'efficient', 'performer'])
def test_the_padding_of_another_sequence_must_fit(name):
    layer = make(name, causal=False)
    x, y = np.ones((2, 4, 6), 'float32'), np.ones((2, 7, 6), 'float32')
    layer(x, y, y, v_mask=np.ones((2, 7), bool))
    with pytest.raises(ValueError, match=r'\(2, 4\) came, \(2, 7\) was expected'):
        layer(x, y, y, v_mask=np.ones((2, 4), bool))


def test_a_memory_wants_a_mask_that_fits():
    with pytest.raises(ValueError, match=r'mask of shape \(2, 5\) came, \(2, 9\)'):
        HiPPOMemory(4)(zeros(2, 9, 6), mask=np.ones((2, 5), bool))


def test_a_mask_of_unknown_length_passes():
    x, mask = keras.Input((None, 6)), keras.Input((None,), dtype='bool')
    for name in ('linear', 'fnet', 's4'):
        model = keras.Model([x, mask], make(name)(x, mask=mask))
        found = model.predict([zeros(2, 3, 6), np.ones((2, 3), bool)], verbose=0)
        assert found.shape == (2, 3, 6)


class Short(Mechanism):
    """Forgets the last step."""

    def call(self, q, k, v, where):
        return v[:, :-1]


class Summed(Short):
    """Forgets the axis of the heads."""

    def call(self, q, k, v, where):
        return ops.sum(v, axis=2)


@pytest.mark.parametrize(
    ('kind', 'shape'), [(Short, r'\(2, 4, 2, 4\)'), (Summed, r'\(2, 5, 4\)')]
)
def test_what_a_mechanism_returns_must_fit(kind, shape):
    layer = MultiHeadAttention(2, 4, mechanism=kind())
    match = f'{kind.__name__} returned .*{shape}.*here .2, 5, 2, 4., was expected'
    with pytest.raises(ValueError, match=match):
        layer(zeros(2, 5, 6))


@pytest.mark.parametrize('name', CAUSAL)
def test_steps_want_a_layer_that_is_built(name):
    layer = make(name)
    for call in (
        lambda: layer.start(2, 3),
        lambda: layer.step(zeros(2, 1, 6), 0, {'room': zeros(2, 3, 0)}),
    ):
        with pytest.raises(ValueError, match='call the layer once, or build it, first'):
            call()
