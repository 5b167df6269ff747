"""What attention_options may say of `keraseff.models.mixer_options`' mixers."""

import pytest
from harness import SMALL

from keraseff.layers import GatedAttentionUnit
from keraseff.models import build_transformer_model

LAYER = 'Transformer-0-MultiHeadSelfAttention'


def build(attention='gau', model='roformer', **options):
    return build_transformer_model(
        SMALL, model=model, attention=attention, attention_options=options
    )


def test_a_gated_attention_unit_takes_its_own_options():
    options = {
        'units': 10,
        'key_size': 6,
        'normalization': 'linear',
        'mechanism_options': {'chunk': 3},
        'activation': 'relu',
        'use_bias': False,
        'attention_scale': False,
    }
    unit = build(**options).get_layer(LAYER)
    assert isinstance(unit, GatedAttentionUnit)
    assert (unit.units, unit.key_size, unit.normalization.chunk) == (10, 6, 3)
    assert (unit.activation, unit.use_bias, unit.attention_scale) == (
        'relu',
        False,
        False,
    )
    assert unit.position.head_size == 6


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'head_size': 4}, r"has: units, key_size, .*'key_size' is what it is called"),
        ({'mechanism': 'relu'}, "has: units.*'normalization' is what"),
        ({'unit': 4}, "Did you mean 'units'"),
    ],
)
def test_unknown_ones_name_those_that_there_are(options, match):
    with pytest.raises(TypeError, match=match) as error:
        build(**options)
    assert 'self_attention' not in str(error.value)


@pytest.mark.parametrize(
    ('attention', 'options', 'match'),
    [
        ('gau', {'causal': True}, "application='lm'.*takes: units"),
        ('gau', {'name': 'mine'}, 'names its layers'),
        ('gau', {'position': 'rotary'}, 'has an option of that name'),
        ('gau', {'position_options': {}}, 'has an option of that name'),
        ('gau', {'return_attention_scores': True}, 'residual_attention_scores'),
        ('gau', {'self_attention': False}, 'one sequence'),
        ('gau', {'window': 3}, 'has an option of that name'),
        ('lru', {'causal': False}, 'takes: state_size'),
        ('s4', {'state_size': 0}, 'state_size=0'),
    ],
)
def test_what_the_model_decides_is_refused(attention, options, match):
    with pytest.raises(ValueError, match=match):
        build(attention, model='bert', **options)
