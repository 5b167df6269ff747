"""LLaMA and Mistral beside transformers, and what both make of a config file."""

import numpy as np
import pytest
from decoders import DECODER
from decoders import check_decoder
from decoders import texts
from harness import assert_close
from harness import check_family
from harness import check_tables
from harness import save_and_reopen
from keras import ops
from peers import check_saving
from peers import make_peer
from peers import run_peer

from keraseff.models import LLaMA
from keraseff.models import Mistral
from keraseff.models import build_transformer_model
from keraseff.ops import complete_scaling

SMALL = {key: value for key, value in DECODER.items() if 'kv' not in key}
BIASES = {'attention_bias': True, 'mlp_bias': True}


@pytest.mark.every_backend
def test_contract_and_tables():
    found = check_family('llama', SMALL)
    found |= check_family('llama', SMALL | BIASES | {'head_dim': 6, 'pad_token_id': 0})
    check_tables('llama', found)


@pytest.mark.every_backend
def test_contract_and_tables_of_mistral():
    check_tables('mistral', check_family('mistral', SMALL | {'sliding_window': 3}))


PEERS = {
    'one-kv-head': {'hidden_size': 40, 'num_attention_heads': 4, 'vocab_size': 61},
    'biases-tied': BIASES | {'tie_word_embeddings': True, 'hidden_act': 'gelu'},
    'wide-heads': {
        'head_dim': 6,
        'num_key_value_heads': 6,
        'hidden_act': 'relu',
        'rms_norm_eps': 1e-3,
        'num_hidden_layers': 3,
    },
    'padded': {'pad_token_id': 49, 'rope_theta': 500.0, 'num_key_value_heads': 3},
}
PEERS['one-kv-head']['num_key_value_heads'] = 1


@pytest.mark.every_backend
@pytest.mark.parametrize('row', PEERS)
def test_equals_transformers(row, tmp_path):
    changes = PEERS[row]
    check_decoder('Llama', tmp_path, changes, changes.get('pad_token_id', 0))


@pytest.mark.every_backend
@pytest.mark.parametrize('window', [1, 4, None])
def test_mistral_equals_transformers(window, tmp_path):
    changes = {'sliding_window': window, 'tie_word_embeddings': window == 1}
    check_decoder('Mistral', tmp_path, changes)


FACTORS = np.random.default_rng(1).uniform(1, 3, (2, 2)).tolist()
RULES = {
    'default': {},
    'linear': {'factor': 3.0},
    'dynamic': {'factor': 2.5},
    'yarn': {'factor': 4.0, 'original_max_position_embeddings': 4, 'beta_fast': 2.0},
    'longrope': {
        'factor': 2.0,
        'short_factor': FACTORS[0],
        'long_factor': FACTORS[1],
        'original_max_position_embeddings': 4,
    },
    'llama3': {
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 6,
    },
}


@pytest.mark.parametrize('rule', RULES)
def test_scaling_rules_equal_transformers(rule, tmp_path):
    rope = {'rope_type': rule, 'rope_theta': 300.0} | RULES[rule]
    changes = {'max_position_embeddings': 8, 'rope_parameters': rope}
    changes['num_hidden_layers'] = 1
    peer = make_peer('LlamaModel', tmp_path, DECODER | changes)
    ids, real = texts()
    model = build_transformer_model(tmp_path, tmp_path, with_lm=False)
    for length in (3, 11):
        theirs = run_peer(peer, ids[:, :length], real=real[:, :length])
        seen = real[:, :length]
        theirs = theirs['last_hidden_state'][seen]
        found = ops.convert_to_numpy(model(ids[:, :length]))[seen]
        assert_close(found, theirs, atol=1e-4, rtol=1e-4)


def test_scaling_rules_of_older_files_say_the_same():
    for rule, numbers in RULES.items():
        new = {'rope_type': rule, 'rope_theta': 300.0} | numbers
        old = {'rope_theta': 300.0, 'rope_scaling': {'type': rule} | numbers}
        found = [
            LLaMA(SMALL | options).position_arguments()
            for options in ({'rope_parameters': new}, old)
        ]
        for options in found:
            options['scaling'] = complete_scaling(options['scaling'], 32)
        assert found[0] == found[1]
        assert found[0]['base'] == 300.0


@pytest.mark.every_backend
def test_positions_of_ones_own_equal_transformers(tmp_path):
    peer = make_peer('LlamaForCausalLM', tmp_path, DECODER)
    ids, real = texts()
    positions = np.cumsum(np.random.default_rng(0).integers(1, 4, ids.shape), axis=1)
    theirs = run_peer(peer, ids, real=real, position_ids=positions)['logits']
    model = build_transformer_model(
        tmp_path, tmp_path, with_lm='linear', custom_position_ids=True
    )
    found = model.predict([ids, positions], verbose=0)
    assert_close(found[real], theirs[real], atol=1e-4, rtol=1e-4)
    # Only distances matter.
    again = model.predict([ids, positions + 5], verbose=0)
    assert_close(again[real], found[real], atol=1e-4, rtol=1e-4)


def test_transformers_opens_what_we_save(tmp_path):
    ids, real = texts()
    for tied in (False, True):
        changes = BIASES | {'tie_word_embeddings': tied}
        make_peer('LlamaForCausalLM', tmp_path / f'{tied}', DECODER | changes)
        check_saving(
            'LlamaForCausalLM', tmp_path / f'{tied}', ids, real=real, with_lm='linear'
        )


@pytest.mark.every_backend
def test_shards_in_bfloat16_open(tmp_path):
    torch = pytest.importorskip('torch')
    transformers = pytest.importorskip('transformers')
    peer = make_peer('LlamaForCausalLM', tmp_path / 'float32', DECODER)
    folder = tmp_path / 'bfloat16'
    peer.to(torch.bfloat16).save_pretrained(folder, max_shard_size='8KB')
    assert len(list(folder.glob('*.safetensors'))) > 2
    ids, real = texts()
    exact = transformers.LlamaForCausalLM.from_pretrained(folder, dtype='float32')
    exact = run_peer(exact.eval(), ids, real=real)['logits'][real]
    found = build_transformer_model(folder, folder, with_lm='linear')
    found = found.predict(ids, verbose=0)[real]
    assert_close(found, exact, atol=1e-4, rtol=1e-4)
    half = build_transformer_model(folder, folder, with_lm='linear', dtype='bfloat16')
    assert {v.dtype for v in half.weights} == {'bfloat16'}
    rounded = half.predict(ids, verbose=0)[real]
    with torch.no_grad():
        theirs = peer(torch.tensor(ids), attention_mask=torch.tensor(real)).logits
    theirs = theirs.float().numpy()[real]
    # Rounding costs ours no more than theirs, half as much again at most.
    cost = np.abs(theirs - exact).mean()
    assert 0 < np.abs(rounded - exact).mean() < 1.5 * cost
    assert cost < 0.05 * np.abs(exact).mean()


@pytest.mark.every_backend
def test_unilm_sees_all_of_segment_0_and_the_past_of_segment_1():
    model = build_transformer_model(
        SMALL, model='llama', application='unilm', with_lm=False
    )
    ids = np.array([[5, 6, 7, 8, 9, 3]])
    segments = np.array([[0, 0, 0, 1, 1, 1]])
    before = model.predict([ids, segments], verbose=0)

    def moved(place):
        changed = ids.copy()
        changed[0, place] = 40
        after = model.predict([changed, segments], verbose=0)
        return np.abs(after - before).max(axis=(0, 2)) > 1e-6

    np.testing.assert_array_equal(moved(2), [1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(moved(4), [0, 0, 0, 0, 1, 1])


@pytest.mark.every_backend
def test_a_window_reaches_so_many_steps_a_layer():
    model = build_transformer_model(
        SMALL | {'sliding_window': 3, 'hidden_act': 'gelu'},
        model='mistral',
        with_lm=False,
    )
    reopened = save_and_reopen(model)
    ids = np.arange(1, 10)[None]
    changed = ids.copy()
    changed[0, 1] = 40
    after, before = reopened.predict(changed, verbose=0), model.predict(ids, verbose=0)
    moved = np.abs(after - before).max(axis=(0, 2)) > 1e-7
    # Two layers of three steps: 1, and 2 + 2 steps after it.
    np.testing.assert_array_equal(moved, [0, 1, 1, 1, 1, 1, 0, 0, 0])


def test_kept_tokens_are_kept_at_both_ends(tmp_path):
    make_peer('LlamaForCausalLM', tmp_path, DECODER)
    keep = [3, 1, 40, 22, 9]
    ids = np.array([[0, 4, 2, 1]])
    full = build_transformer_model(tmp_path, tmp_path, with_lm='linear')
    kept = build_transformer_model(
        tmp_path, tmp_path, with_lm='linear', keep_tokens=keep
    )
    expected = full.predict(np.array(keep)[ids], verbose=0)[..., keep]
    assert_close(kept.predict(ids, verbose=0), expected)


@pytest.mark.parametrize(
    ('options', 'word'),
    [
        ({'num_experts': 8}, 'experts'),
        ({'num_local_experts': 8}, 'experts'),
        ({'quantization_config': {'bits': 4}}, 'quantised'),
        ({'partial_rotary_factor': 0.5}, 'partial_rotary_factor=0.5'),
        ({'rope_parameters': {'full_attention': {'rope_theta': 1.0}}}, 'full_att'),
        ({'rope_scaling': {'type': 'su'}}, "'su' is unknown"),
        ({'rope_scaling': {'type': 'linear'}}, 'factor'),
        ({'num_key_value_heads': 4}, 'kv_heads=4 does not divide'),
    ],
)
def test_other_models_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        build_transformer_model(SMALL | {'model_type': 'llama'} | options)


def test_layer_types_must_say_enough():
    for types, word in (
        (['full_attention'], 'each of 2 layers'),
        (['full_attention', 'linear_attention'], 'linear_attention'),
        (['full_attention', 'sliding_attention'], 'sliding_window is not given'),
    ):
        with pytest.raises(ValueError, match=word):
            LLaMA(SMALL, layer_types=types)


def test_what_pads_only_is_padding():
    def pad(**options):
        return LLaMA(SMALL | options).pad_token_id

    assert pad() is None
    assert pad(pad_token_id=0) == 0
    assert pad(pad_token_id=-1) is None
    assert pad(pad_token_id=2, bos_token_id=1, eos_token_id=2) is None
    assert pad(pad_token_id=2, eos_token_id=[3, 2]) is None
    assert pad(pad_token_id=2, bos_token_id=1, eos_token_id=[3]) == 2
    assert LLaMA(SMALL | {'eos_token_id': 2}, pad_token_id=2).pad_token_id == 2


def test_files_of_any_age_say_the_same():
    rope = {'rope_theta': 7.0, 'rope_type': 'linear', 'factor': 2.0}
    new = LLaMA(SMALL | {'rope_parameters': rope, 'rope_theta': 5.0})
    assert new.rope_theta == 7.0
    assert new.rope_scaling == {'rope_type': 'linear', 'factor': 2.0}
    old = LLaMA(SMALL | {'rope_scaling': None, 'rope_theta': 7.0})
    assert (old.rope_theta, old.rope_scaling) == (7.0, None)
    assert LLaMA(SMALL | {'rope_parameters': rope}, rope_theta=9.0).rope_theta == 9.0
    assert LLaMA(SMALL | {'sliding_window': 4}).sliding_window is None
    assert LLaMA(SMALL, sliding_window=4).sliding_window == 4
    assert Mistral(SMALL).sliding_window == 4096
    assert Mistral(SMALL | {'sliding_window': None}).sliding_window is None
    assert LLaMA(SMALL).tie_word_embeddings is False
