"""RoPE's scaling rules against transformers and against each rule's formula."""

import numpy as np
import pytest
from harness import to_numpy
from reference import positions as slow

from keraseff.ops import ROTARY_SCALINGS
from keraseff.ops import complete_scaling
from keraseff.ops import plain_frequencies
from keraseff.ops import rotary_frequencies

DIM = 32
SPREAD = [1 + 0.3 * i for i in range(DIM // 2)]
CASES = [
    {'rope_type': 'linear', 'factor': 4.0},
    {'rope_type': 'dynamic', 'factor': 2.0},
    {'rope_type': 'dynamic', 'factor': 4.0},
    {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 256},
    {'rope_type': 'yarn', 'factor': 8.0, 'attention_factor': 1.5},
    {
        'rope_type': 'yarn',
        'factor': 40.0,
        'original_max_position_embeddings': 4096,
        'mscale': 0.707,
        'mscale_all_dim': 1.2,
        'beta_fast': 16,
        'beta_slow': 2,
        'truncate': False,
    },
    {
        'rope_type': 'longrope',
        'short_factor': SPREAD,
        'long_factor': [2 * s for s in SPREAD],
        'original_max_position_embeddings': 256,
    },
    {
        'rope_type': 'longrope',
        'short_factor': SPREAD,
        'long_factor': SPREAD[::-1],
        'original_max_position_embeddings': 256,
        'attention_factor': 1.25,
        'factor': 32.0,
    },
    {
        'rope_type': 'llama3',
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 512,
    },
    {'rope_type': 'proportional', 'partial_rotary_factor': 0.25},
    {'rope_type': 'proportional', 'partial_rotary_factor': 0.7, 'factor': 2.0},
]


@pytest.mark.parametrize('case', CASES, ids=lambda c: c['rope_type'])
@pytest.mark.parametrize('base', [10000.0, 500000.0])
@pytest.mark.parametrize('length', [200, 5000])
def test_rules_are_those_of_transformers(case, base, length):
    pytest.importorskip('torch')
    rope = pytest.importorskip('transformers.modeling_rope_utils')
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=4 * DIM,
        num_attention_heads=4,
        max_position_embeddings=1024,
        rope_parameters=dict(case, rope_theta=base),
    )
    rule = rope.ROPE_INIT_FUNCTIONS[case['rope_type']]
    expected, factor = rule(config, None, seq_len=length)
    found, scale = rotary_frequencies(DIM, base, case, 1024, length)
    np.testing.assert_allclose(to_numpy(found), expected.numpy(), rtol=2e-6)
    assert scale == pytest.approx(factor, rel=1e-12)


def test_no_rule_of_transformers_is_missing():
    pytest.importorskip('torch')
    rope = pytest.importorskip('transformers.modeling_rope_utils')
    assert set(rope.ROPE_INIT_FUNCTIONS) | {'default'} == set(ROTARY_SCALINGS)


@pytest.mark.every_backend
def test_the_growing_base(rng):
    case = {'type': 'dynamic', 'factor': 3}
    for length in (1, 64, 65, 1000):
        found, scale = rotary_frequencies(8, 100, case, 64, length)
        expected = [slow.dynamic_frequency(i, 8, 100, 3, length, 64) for i in range(4)]
        np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-5)
        assert scale == 1
    only, _ = rotary_frequencies(2, 100, case, 64, 1000)
    assert to_numpy(only) == [1]


def test_llama3_case_by_case():
    case = CASES[8]
    found, _ = rotary_frequencies(64, 500000, case)
    plain = plain_frequencies(64, 500000)
    expected = [slow.llama3_frequency(f, 8, 1, 4, 512) for f in plain]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len({round(f / e, 6) for f, e in zip(plain, expected, strict=True)}) > 3


def test_yarn_keeps_fast_channels_and_interpolates_slow_ones():
    found, scale = rotary_frequencies(
        64, scaling={'type': 'yarn', 'factor': 4}, max_position=2048
    )
    ratio = plain_frequencies(64) / found
    assert ratio[0] == 1
    assert ratio[-1] == pytest.approx(4)
    assert (np.diff(ratio) >= 0).all()
    assert scale == pytest.approx(0.1 * np.log(4) + 1)


@pytest.mark.every_backend
def test_longrope_changes_sets_past_the_trained_length():
    case = {
        'rope_type': 'longrope',
        'short_factor': [1, 2],
        'long_factor': [4, 8],
        'original_max_position_embeddings': 100,
    }
    plain = plain_frequencies(4)
    for length, divisors in ((100, [1, 2]), (101, [4, 8])):
        found, scale = rotary_frequencies(4, 10000, case, 400, length)
        np.testing.assert_allclose(to_numpy(found), plain / divisors, rtol=1e-6)
        assert scale == pytest.approx(np.sqrt(1 + np.log(4) / np.log(100)))


def test_what_is_inferred():
    assert complete_scaling()['rope_type'] == 'default'
    done = complete_scaling({'type': 'yarn', 'factor': None}, 4096)
    assert done['original_max_position_embeddings'] == 4096
    assert done['factor'] == 1
    found, _ = rotary_frequencies(4, 1, {'rope_type': 'default', 'rope_theta': 100})
    np.testing.assert_allclose(found, [1, 0.1])


def test_errors():
    with pytest.raises(ValueError, match="'ntk' is unknown; there are: default, dyn"):
        complete_scaling({'rope_type': 'ntk'})
    with pytest.raises(ValueError, match='missing: factor, max_position'):
        complete_scaling({'rope_type': 'dynamic'})
    with pytest.raises(ValueError, match='missing: high_freq_factor, original'):
        complete_scaling({'rope_type': 'llama3', 'factor': 8, 'low_freq_factor': 1})
    short = dict(CASES[6], short_factor=[1, 2])
    with pytest.raises(ValueError, match='short_factor holds 2 numbers, .* need 16'):
        rotary_frequencies(DIM, scaling=short, max_position=1024)
