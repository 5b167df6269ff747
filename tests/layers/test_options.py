"""Options that make no sense are refused when a layer is made, not when called."""

import keras
import numpy as np
import pytest

from keraseff import layers
from keraseff.layers import MECHANISMS
from keraseff.layers import MIXERS
from keraseff.layers import MultiHeadAttention
from keraseff.layers.attention import get_mechanism
from keraseff.layers.attention.normalizers import GumbelChoice
from keraseff.layers.position import get_position

SENSELESS = [
    ('diag', {'block': True}),
    ('diag', {'epsilon': -1e-6}),
    ('efficient', {'chunk': 0}),
    ('entmax', {'alpha': 0.5}),
    ('entmax', {'alpha': '2'}),
    ('fixed', {'stride': 0}),
    ('gumbel', {'temperature': 0}),
    ('key_norm', {'scale': 0}),
    ('key_norm', {'epsilon': -1}),
    ('linear', {'chunk': 0}),
    ('linear', {'epsilon': -1}),
    ('linear', {'feature_map': 3}),
    ('linformer', {'length': 0}),
    ('linformer', {'length': 4, 'k': 0}),
    ('local', {'reach': -1}),
    ('norm', {'chunk': 2.5}),
    ('norm', {'epsilon': float('nan')}),
    ('performer', {'chunk': -64}),
    ('performer', {'num_features': 0}),
    ('performer', {'redraw_every': 0}),
    ('perturb_max', {'points': 1}),
    ('softmax_plus', {'length': 1}),
    ('softmax_plus', {'shortest': 0}),
    ('synthesizer', {'length': 0}),
    ('synthesizer', {'length': 4, 'hidden': 0}),
    ('synthesizer', {'length': 4, 'rank': 0}),
    ('synthesizer', {'length': 4, 'factors': [2, 2, 2]}),
    ('taylor', {'order': 0}),
    ('taylor', {'order': 3}),
    ('top_k', {'k': 0}),
    ('top_k', {'k': 2.0}),
    ('top_p', {'p': 0}),
    ('top_p', {'p': 1.5}),
    ('vq', {'beta': -1}),
    ('vq', {'block': 0}),
    ('vq', {'codes': 0}),
    ('vq', {'gamma': 1.1}),
    ('vq', {'restart': -1}),
]
SENSELESS_MIXERS = [
    ('gau', {'units': 0, 'key_size': 4}),
    ('gau', {'units': 4, 'key_size': -1}),
    ('lru', {'max_phase': 0}),
    ('lru', {'state_size': 0}),
    ('s4', {'state_size': 0}),
    ('s4', {'state_size': 3}),
    ('s4', {'step_min': 0}),
    ('s4d', {'state_size': 2.0}),
]
SENSELESS_LAYERS = [
    ('ALiBi', {'heads': 0}),
    ('HiPPOMemory', {'size': 0}),
    ('HiPPOMemory', {'size': 4, 'measure': 'lmu', 'window': -1}),
    ('Kerple', {'heads': -2}),
    ('MitchellDense', {'units': 0}),
    ('MultiHeadAttention', {'heads': 2, 'head_size': 4, 'kv_heads': 0}),
    ('MultiHeadAttention', {'heads': 2, 'head_size': 4, 'key_size': 0}),
    ('MultiHeadAttention', {'heads': 2, 'head_size': 4, 'out_dim': 0}),
    ('MultiHeadAttention', {'heads': 2, 'head_size': 4, 'qk_norm_epsilon': -1}),
    ('PositionEmbedding', {'output_dim': 4, 'input_dim': 0}),
    ('PositionEmbedding', {'input_dim': 4, 'output_dim': 4, 'hierarchical': 1.5}),
    ('ReRoPE', {'leak': 'far'}),
    ('ReRoPE', {'window': 'far'}),
    ('Relative', {'reach': 0}),
    ('RelativePositionEmbedding', {'output_dim': 4, 'input_dim': 0}),
    ('RelativePositionEmbeddingT5', {'input_dim': 32, 'output_dim': 0}),
    ('Rotary', {'axes': 2, 'width': 0}),
    ('Rotary', {'base': -1}),
    ('Rotary', {'base': 0}),
    ('Rotary', {'head_size': 0}),
    ('Rotary', {'partial': 0}),
    ('Rotary', {'partial': 1.5}),
    ('Sandwich', {'base': -1}),
    ('SelfExtend', {'group': 2.5}),
    ('SinusoidalPositionEmbedding', {'output_dim': 0}),
    ('T5Relative', {'heads': 0}),
    ('XPOS', {'gamma': 0}),
    ('XPOS', {'scale_base': 0}),
]


def last(options):
    """The senseless one, which the error must show."""
    return f'{list(options)[-1]}'


@pytest.mark.parametrize(('name', 'options'), SENSELESS)
def test_mechanisms(name, options):
    with pytest.raises(ValueError, match=last(options)):
        MECHANISMS[name](**options)


@pytest.mark.parametrize(('name', 'options'), SENSELESS_MIXERS)
def test_mixers(name, options):
    with pytest.raises(ValueError, match='units|key_size|' + last(options)):
        MIXERS[name](**options)


@pytest.mark.parametrize(('name', 'options'), SENSELESS_LAYERS)
def test_other_layers(name, options):
    with pytest.raises(ValueError, match=last(options)):
        getattr(layers, name)(**options)


def test_the_least_that_makes_sense_is_taken():
    for name, options in (
        ('entmax', {'alpha': 1}),
        ('linear', {'epsilon': 0, 'chunk': 1, 'feature_map': abs}),
        ('performer', {'num_features': 1, 'redraw_every': 1, 'epsilon': 0}),
        ('softmax_plus', {'length': 2, 'shortest': 1}),
        ('taylor', {'order': 2}),
        ('top_k', {'k': 1}),
        ('top_p', {'p': 1}),
        ('vq', {'beta': 0, 'gamma': 1, 'restart': 0, 'codes': 1, 'block': 1}),
    ):
        made = get_mechanism(name, options=options)
        assert {key: getattr(made, key) for key in options} == options
    assert GumbelChoice(temperature=0.1).temperature == 0.1
    assert layers.Rotary(base=0.5, partial=0.01).base == 0.5
    assert layers.PositionEmbedding(2, 3, hierarchical=True).hierarchical is True


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'mechanism': 'fnet'}, r"FourierMixing.*attention='fnet'"),
        ({'mechanism': 'gau'}, r"GatedAttentionUnit.*attention='gau'"),
        ({'mechanism': 'lru'}, r"keraseff.layers.LRU itself.*attention='lru'"),
        ({'mechanism': 's4'}, r"stands in its place.*attention='s4'"),
        ({'mechanism': 'S4D'}, r"attention='s4d'"),
        ({'mechanism': layers.LRU(4)}, r"attention='lru'"),
        ({'mechanism': 'Performer'}, "Did you mean 'performer'"),
        ({'mechanism': 'linformer'}, r"mechanism_options=\{'length': 512\}"),
        ({'mechanism': 'synthesizer'}, r"mechanism_options=\{'length': 512\}"),
        ({'position': 'learned'}, 'keraseff.layers.PositionEmbedding on the sequence'),
        ({'position': 'hierarchical'}, 'PositionEmbedding .*position='),
        ({'position': 'sinusoidal'}, 'SinusoidalPositionEmbedding on'),
        ({'position': layers.PositionEmbedding(4, 8)}, 'PositionEmbedding on'),
        ({'position': 'rotery'}, "Did you mean 'rotary'"),
        ({'position': 7}, 'neither a name, a Position nor None'),
        ({'position': ['yarn']}, 'neither a name, a Position nor None'),
        ({'position': 'yarn'}, r"'factor': 4, 'original_max_position_emb.*: 2048"),
        ({'mechanism': 'linear', 'position': 't5'}, "Use position='rotary'"),
        ({'mechanism': 'local', 'window': 8}, r"mechanism_options=\{'reach': 7\}"),
    ],
)
def test_what_belongs_elsewhere_says_where(options, match):
    with pytest.raises(ValueError, match=match):
        MultiHeadAttention(2, 4, **options)


def test_senseless_flat_options_of_a_rule_are_refused():
    with pytest.raises(ValueError, match='width=0'):
        get_position('rotary_2d', 8, options={'width': 0})
    with pytest.raises(ValueError, match='base=-1'):
        get_position('ntk', 8, options={'factor': 2, 'base': -1, 'max_position': 8})


@pytest.mark.parametrize('rule', ['pi', 'ntk', 'yarn', 'dynamic'])
def test_a_factor_below_1_is_refused(rule):
    with pytest.raises(ValueError, match='factor=0.5 .* of 1 or more'):
        get_position(rule, 8, options={'factor': 0.5, 'max_position': 8})


@pytest.mark.parametrize(
    ('kind', 'options', 'near'),
    [
        ('MultiHeadAttention', {'heads': 2, 'head_size': 4, 'posit': 7}, 'position'),
        ('S4', {'stat_size': 4}, 'state_size'),
        ('LRU', {'trainabel': False}, 'trainable'),
        ('Rotary', {'interleafed': True}, 'interleaved'),
    ],
)
def test_an_unknown_argument_shows_the_nearest(kind, options, near):
    match = f'{kind} has no argument .*Did you mean {near!r}'
    with pytest.raises(TypeError, match=match):
        getattr(layers, kind)(**options)


def test_arguments_of_a_second_parent_pass():
    class Both(layers.Layer, keras.layers.Dense):
        pass

    assert Both(units=3, use_bias=False).units == 3


def test_places_in_a_plane_must_be_known():
    layer = MultiHeadAttention(2, 4, position='rotary_2d')
    with pytest.raises(ValueError, match=r"position_options=\{'width': 14\}"):
        layer.build((None, None, 8))
    ids = np.array([[[0, 0], [2, 1]]])
    p = layers.Rotary(head_size=4, axes=2)(np.zeros((1, 2, 4)), position_ids=ids)
    assert layer(np.zeros((1, 2, 8)), p=p).shape == (1, 2, 8)
