"""The options attention, position, logn, window and sinks of every model."""

import numpy as np
import pytest
from harness import IDS
from harness import SMALL
from harness import assert_close
from harness import called
from harness import randomise

from keraseff.layers import LRU
from keraseff.layers import S4D
from keraseff.layers import GatedAttentionUnit
from keraseff.layers import Kerple
from keraseff.layers import LinearAttention
from keraseff.layers import MultiHeadAttention
from keraseff.layers import Rotary
from keraseff.layers import Softmax
from keraseff.layers import Synthesizer
from keraseff.models import build_transformer_model
from keraseff.models.attention_parts import UNIT_KEY_SIZE

INPUTS = [IDS, IDS % 2]


def build(model, **options):
    return build_transformer_model(SMALL, model=model, **options)


def inputs(model):
    return INPUTS if len(model.inputs) == 2 else IDS


def same(one, other):
    """Both models say the same, given the same weights by name."""
    randomise(one)
    weights = {w.path: w for w in one.weights}
    for weight in other.weights:
        weight.assign(weights[weight.path])
    assert_close(called(other, inputs(other)), called(one, inputs(one)), atol=1e-5)


def test_positions_move_between_families():
    same(build('roformer'), build('bert', position='rotary'))
    same(build('bert'), build('roformer', position='learned'))
    same(build('nezha'), build('bert', position='relative'))
    same(build('roformer', position='none'), build('bert', position='none'))


def test_a_family_keeps_its_own_kind_of_rotation():
    scaling = {'rope_type': 'ntk', 'factor': 4}
    one = build('llama', rope_scaling=scaling, rope_theta=50.0)
    other = build(
        'llama', position='ntk', position_options={'factor': 4}, rope_theta=50
    )
    same(one, other)
    plain = build('llama', rope_theta=50.0)
    plain.set_weights(one.get_weights())
    assert np.abs(called(plain, IDS) - called(one, IDS)).max() > 1e-4
    rotary = Rotary(base=50, interleaved=False)
    same(plain, build('llama', position=rotary))


def test_hierarchical_positions_go_beyond_the_table():
    model = build('roformer', position='hierarchical')
    same(build('bert', hierarchical_position=True), model)
    ids = np.tile(IDS, (1, 5))
    assert called(model, [ids, ids % 2]).shape == (2, 20, 12)


def test_sinusoidal_positions_are_added():
    model = build('bert', position='sinusoidal')
    bert = build('bert')
    randomise(bert)
    k, i = np.arange(8)[:, None], np.arange(12)
    angles = k / 10000 ** (2 * (i // 2) / 12)
    table = np.where(i % 2, np.cos(angles), np.sin(angles))
    bert.get_layer('Embedding-Position').embeddings.assign(table)
    weights = {w.path: w for w in bert.weights}
    for weight in model.weights:
        weight.assign(weights[weight.path])
    assert_close(called(model, INPUTS), called(bert, INPUTS), atol=1e-5)


def test_each_block_has_a_copy_of_an_instance():
    mechanism = Synthesizer(length=8, name='mine')
    model = build('bert', attention=mechanism, position='none')
    layers = [
        model.get_layer(f'Transformer-{i}-MultiHeadSelfAttention') for i in range(2)
    ]
    assert not mechanism.built
    assert layers[0].mechanism is not layers[1].mechanism
    assert len(layers[0].weights) == len(layers[1].weights) == 8
    named = build('bert', attention='synthesizer', position='none')
    assert len(model.weights) == len(named.weights)
    options = {'feature_map': 'exp', 'chunk': 3}
    one = build('bert', attention=LinearAttention(**options), position='none')
    same(
        one,
        build('bert', attention='linear', attention_options=options, position='none'),
    )


def test_mixers_stand_in_the_place_of_attention():
    model = build('gpt2', attention='lru', attention_options={'r_min': 0.5})
    layer = model.get_layer('Transformer-1-MultiHeadSelfAttention')
    assert isinstance(layer, LRU)
    assert (layer.causal, layer.r_min) == (True, 0.5)
    assert (
        not build('bert', attention=S4D(state_size=4))
        .get_layer('Transformer-0-MultiHeadSelfAttention')
        .causal
    )
    model = build('roformer', attention='gau', attention_options={'units': 10})
    unit = model.get_layer('Transformer-0-MultiHeadSelfAttention')
    assert isinstance(unit, GatedAttentionUnit)
    assert (unit.units, unit.key_size) == (10, UNIT_KEY_SIZE)
    assert isinstance(unit.position, Rotary)


def test_attention_to_a_context_stays_where_the_mechanism_cannot_go():
    model = build('t5', attention='lru')
    names = {layer.name: layer for layer in model.layers}
    assert isinstance(names['Decoder-Transformer-0-MultiHeadSelfAttention'], LRU)
    cross = names['Decoder-Transformer-0-MultiHeadCrossAttention']
    assert isinstance(cross, MultiHeadAttention)
    assert isinstance(cross.mechanism, Softmax)
    linear = build('t5', attention='linear', position='rotary')
    cross = linear.get_layer('Decoder-Transformer-0-MultiHeadCrossAttention')
    assert isinstance(cross.mechanism, LinearAttention)


def test_window_and_logn_reach_every_block():
    model = build('gpt2', window=2, sinks=1, logn=3)
    for i in range(2):
        layer = model.get_layer(f'Transformer-{i}-MultiHeadSelfAttention')
        assert (layer.window, layer.sinks, layer.logn) == (2, 1, 3)


def test_a_checkpoint_opens_with_other_attention(tmp_path):
    file = str(tmp_path / 'model.safetensors')
    built = build('roformer', return_keras_model=False)
    randomise(built.model)
    built.save_weights_as_checkpoint(file)

    def opened(**options):
        return build_transformer_model(SMALL, file, model='roformer', **options)

    linear = opened(attention='linear')
    assert_close(linear.get_weights(), built.model.get_weights())
    for attention, query in (('synthesizer', 'mechanism/'), ('s4d', '')):
        with pytest.warns(UserWarning, match='nothing for|no place for') as seen:
            opened(attention=attention)
        said = ' '.join(str(w.message) for w in seen)
        assert f'nothing for Transformer-0-MultiHeadSelfAttention/{query}' in said
        assert 'no place for roformer' in said
        assert 'encoder.layer.0.attention.self.query.weight' in said


def test_weights_of_a_mechanism_are_saved_under_names_of_ours(tmp_path):
    options = {'attention': 'vq', 'attention_options': {'codes': 3}}
    built = build('roformer', return_keras_model=False, **options)
    randomise(built.model)
    for file in ('model.safetensors', 'model.ckpt'):
        path = str(tmp_path / file)
        built.save_weights_as_checkpoint(path)
        again = build_transformer_model(SMALL, path, model='roformer', **options)
        assert_close(again.get_weights(), built.model.get_weights(), atol=0, rtol=0)


def test_codebooks_that_no_file_has_are_to_be_fitted(tmp_path):
    file = str(tmp_path / 'model.safetensors')
    build('roformer', return_keras_model=False).save_weights_as_checkpoint(file)
    with pytest.warns(UserWarning, match=r'keraseff\.layers\.fit_codebook\(model'):
        build_transformer_model(SMALL, file, model='roformer', attention='vq')
    with pytest.warns(UserWarning, match='nothing for') as seen:
        build_transformer_model(SMALL, file, model='roformer', attention='performer')
    assert 'fit_codebook' not in str(seen[0].message)


def test_a_learned_position_is_shared_by_the_blocks():
    model = build('gpt2', position=Kerple(heads=3))
    assert len(model.get_layer('Embedding-Attention-Position').weights) > 0
    attention = model.get_layer('Transformer-0-MultiHeadSelfAttention')
    assert not any('position' in w.path for w in attention.weights)


@pytest.mark.parametrize(
    ('model', 'options', 'match'),
    [
        ('bert', {'attention': 'performr'}, "Did you mean 'performer'"),
        ('bert', {'position': 'alebi'}, "Did you mean 'alibi'"),
        ('bert', {'attention': 'fnet', 'application': 'lm'}, 'cannot be causal'),
        ('bert', {'attention': 'linear', 'application': 'unilm'}, 'a dense mask'),
        ('bert', {'attention': 's4', 'application': 'unilm'}, 'no scores that a mask'),
        ('nezha', {'attention': 'local'}, 'Relative works on the score matrix'),
        ('t5', {'position': 'learned'}, 'adds no vectors'),
        ('bert', {'position': 'xpos'}, 'no sense of later keys'),
        ('bert', {'position_options': {'base': 3}}, 'attention has no position'),
        ('bert', {'attention': 'linear', 'window': 3}, "mechanism='local'"),
        ('bert', {'sinks': 3}, 'give window'),
        ('roformer', {'attention': 's4', 'position': 'alibi'}, 'knows the order'),
        ('bert', {'residual_attention_scores': True, 'attention': 'lru'}, 'no scores'),
    ],
)
def test_what_does_not_go_together_is_refused(model, options, match):
    with pytest.raises(ValueError, match=match):
        build(model, **options)


def test_unknown_options_of_parts_raise_with_a_hint():
    with pytest.raises(TypeError, match="Did you mean 'num_features'"):
        build('bert', attention='performer', attention_options={'num_feature': 3})
    with pytest.raises(TypeError, match="Did you mean 'base'"):
        build('roformer', position='rotary', position_options={'bases': 3})
    with pytest.raises(ValueError, match='come too late'):
        build('bert', attention=Softmax(), attention_options={'dropout': 0.1})


@pytest.mark.parametrize('position', ['rotary', 'dynamic', 'rerope', 'learned'])
def test_texts_without_a_token(position):
    options = {'dynamic': {'factor': 2}, 'rerope': {'window': 3}}.get(position)
    model = build('bert', position=position, position_options=options)
    for shape in ((2, 0), (0, 3)):
        ids = np.zeros(shape, 'int32')
        assert called(model, [ids, ids]).shape == (*shape, 12)


@pytest.mark.parametrize(
    ('model', 'options', 'match'),
    [
        ('bert', {'position': 'rotary_2d'}, r"^Rotary.*\{'width': 14\}"),
        ('bert', {'position': ['yarn']}, r"\['yarn'\] is neither a name"),
        ('t5', {'attention': 'linear'}, "position='rotary'"),
        ('nezha', {'attention': 'linear'}, "position='rotary'"),
    ],
)
def test_advice_names_the_options(model, options, match):
    with pytest.raises(ValueError, match=match):
        build(model, **options)
