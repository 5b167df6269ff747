"""RoPE's scaling rules against transformers and against each rule's formula."""

import numpy as np
import pytest
from harness import to_numpy
from reference import positions as slow

from keraseff.ops import ROTARY_SCALINGS
from keraseff.ops import complete_scaling
from keraseff.ops import plain_frequencies
from keraseff.ops import rotary_frequencies
from keraseff.ops.rotary_scaling import looks_at_length

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
NTK = ('ntk', 'ntk_fixed', 'ntk_mixed', 'ntk_by_parts')


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
    ours = {'default', 'pi', *NTK}
    assert set(rope.ROPE_INIT_FUNCTIONS) | ours == set(ROTARY_SCALINGS)


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


def slower(dim=64, base=10000, max_position=None, length=1, **options):
    """How many times slower each pair turns."""
    found, scale = rotary_frequencies(dim, base, options, max_position, length)
    assert scale == 1
    return plain_frequencies(dim, base) / to_numpy(found)


@pytest.mark.parametrize('dim', [8, 64, 128])
def test_the_ends_of_the_ntk_rules(dim):
    s = 7.5
    old, fixed, mixed = (slower(dim, rope_type=n, factor=s) for n in NTK[:3])
    assert old[0] == 1
    for ratio in (old, fixed, mixed):
        assert ratio[-1] == pytest.approx(s, rel=1e-12)
        assert (np.diff(ratio) > 0).all()
    # One is a larger base, the next the powers of one number.
    stretched = plain_frequencies(dim, 10000 * s ** (dim / (dim - 2)))
    np.testing.assert_allclose(plain_frequencies(dim) / stretched, old, rtol=1e-12)
    powers = (s ** (2 / dim)) ** np.arange(1, dim // 2 + 1)
    np.testing.assert_allclose(fixed, powers, rtol=1e-12)
    a = np.log(s) / (dim / 2) ** 0.75
    m = np.arange(1, dim // 2 + 1)
    np.testing.assert_allclose(mixed, np.exp(a * m**0.75), rtol=1e-12)
    for b, other in ((1, fixed), (0, s)):
        bent = slower(dim, rope_type='ntk_mixed', factor=s, b=b)
        np.testing.assert_allclose(bent, other, rtol=1e-12)
    linear = slower(dim, rope_type='linear', factor=s)
    np.testing.assert_allclose(linear, s, rtol=1e-12)
    np.testing.assert_array_equal(slower(dim, rope_type='pi', factor=s), linear)


def test_ntk_by_parts_counts_turns():
    by_parts = {'rope_type': 'ntk_by_parts', 'factor': 8.0}
    by_parts['original_max_position_embeddings'] = 4096
    ratio = slower(128, **by_parts)
    # 4096 θ_i / 2π exceeds 32 up to pair 20, and 1 up to pair 45.
    assert (np.flatnonzero(ratio == 1) == np.arange(21)).all()
    assert (np.flatnonzero(np.isclose(ratio, 8)) == np.arange(46, 64)).all()
    assert (np.diff(ratio[20:47]) > 0).all()
    turns = 4096 * plain_frequencies(128) / (2 * np.pi)
    i = 30
    share = (turns[i] - 1) / 31
    assert ratio[i] == pytest.approx(1 / ((1 - share) / 8 + share))
    narrow = slower(128, **by_parts, alpha=turns[i] - 0.1, beta=turns[i] + 0.1)
    assert narrow[i] == pytest.approx(1 / (0.5 / 8 + 0.5))
    inferred = slower(128, max_position=32768, **{**by_parts, 'factor': None})
    np.testing.assert_array_equal(inferred, ratio)


def test_the_ramp_of_yarns_code():
    yarn = {'rope_type': 'yarn', 'factor': 8.0}
    yarn['original_max_position_embeddings'] = 4096
    found, _ = rotary_frequencies(128, scaling=yarn)
    ratio = plain_frequencies(128) / found
    assert (np.flatnonzero(ratio == 1) == np.arange(21)).all()
    assert (np.flatnonzero(np.isclose(ratio, 8)) == np.arange(46, 64)).all()
    # Between them it is a line over the pairs' numbers, not over their turns.
    shares = (1 / ratio[20:47] - 1 / 8) / (1 - 1 / 8)
    np.testing.assert_allclose(shares, 1 - np.arange(27) / 26, atol=1e-12)


@pytest.mark.parametrize('rule', ['linear', 'pi', 'dynamic', 'yarn', *NTK])
def test_no_longer_text_is_no_scaling(rule):
    options = {'rope_type': rule, 'factor': 1.0}
    found, scale = rotary_frequencies(32, 500, options, 64, 50)
    np.testing.assert_allclose(to_numpy(found), plain_frequencies(32, 500), rtol=1e-6)
    assert scale == 1


@pytest.mark.every_backend
@pytest.mark.parametrize('rule', ['linear', *NTK])
def test_rules_that_follow_the_text(rule):
    options = {'rope_type': rule, 'dynamic': True}
    for length, factor in ((40, 1.0), (64, 1.0), (160, 2.5)):
        found = slower(32, 500, 64, length, **options)
        expected = slower(32, 500, 64, rope_type=rule, factor=factor)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_which_rules_look_at_the_length():
    seen = {
        name: looks_at_length({'rope_type': name, 'dynamic': False})
        for name in ROTARY_SCALINGS
    }
    assert [name for name in seen if seen[name]] == ['dynamic', 'longrope']
    assert looks_at_length({'rope_type': 'ntk', 'dynamic': True})
    assert not looks_at_length({'rope_type': 'llama3', 'dynamic': True})


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
    original = {'original_max_position_embeddings': 1024}
    done = complete_scaling({'type': 'yarn', 'factor': None, **original}, 4096)
    assert done['factor'] == 4
    done = complete_scaling({'type': 'yarn', 'factor': 2}, 4096)
    assert done['original_max_position_embeddings'] == 4096
    found, _ = rotary_frequencies(4, 1, {'rope_type': 'default', 'rope_theta': 100})
    np.testing.assert_allclose(found, [1, 0.1])


def test_errors():
    with pytest.raises(ValueError, match="'nkt' is unknown; there are: default, dyn"):
        complete_scaling({'rope_type': 'nkt'})
    with pytest.raises(ValueError, match='missing: factor'):
        complete_scaling({'type': 'yarn'}, 4096)
    with pytest.raises(ValueError, match='factor=-2 says'):
        complete_scaling({'type': 'yarn', 'factor': -2}, 4096)
    with pytest.raises(ValueError, match='needs factor; missing: factor'):
        complete_scaling({'rope_type': 'ntk'})
    with pytest.raises(ValueError, match='needs original_.* missing: original_'):
        complete_scaling({'rope_type': 'ntk', 'dynamic': True, 'factor': 2})
    with pytest.raises(ValueError, match='missing: factor, max_position'):
        complete_scaling({'rope_type': 'dynamic'})
    with pytest.raises(ValueError, match='missing: high_freq_factor, original'):
        complete_scaling({'rope_type': 'llama3', 'factor': 8, 'low_freq_factor': 1})
    short = dict(CASES[6], short_factor=[1, 2])
    with pytest.raises(ValueError, match='short_factor holds 2 numbers, .* need 16'):
        rotary_frequencies(DIM, scaling=short, max_position=1024)
