"""The options of `build_transformer_model`, in every family that has them."""

import keras
import numpy as np
import pytest
from harness import SMALL
from harness import assert_close
from harness import family_inputs
from harness import randomise

from keraseff.checkpoints import DictCheckpoint
from keraseff.checkpoints import open_checkpoint
from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.loading import named_variables
from keraseff.models.saving import save_weights

CONFIG = SMALL | {'attention_key_size': 4, 'vocab_size': 20}
# One name for each class; a part of T5 stands for all of it.
LEFT_OUT = {
    'albert_unshared': 'cannot be saved',
    'electra': 'is a BERT here',
    'mistral': 'is a LLaMA here',
    'mt5.1.1_encoder': 'is a T5 here',
    'qwen2': 'is a LLaMA here',
    't5.1.1_encoder': 'is a T5 here',
}
FAMILIES = sorted(
    {
        family: name
        for name, family in sorted(MODELS.items(), reverse=True)
        if ('t5' not in name or name.endswith('_encoder')) and name not in LEFT_OUT
    }.values()
)
LANGUAGE_MODELS = [name for name in FAMILIES if 'lm' in MODELS[name].heads]
MASKED = [name for name in FAMILIES if 'mlm' in MODELS[name].heads]
SCORING = LANGUAGE_MODELS + MASKED
BLOCKS = [name for name in FAMILIES if name != 'gau_alpha']


def make(family, weights=None, **options):
    """A random Transformer of a family, or one of given weights."""
    made = build_transformer_model(
        CONFIG, weights, family, return_keras_model=False, **options
    )
    if weights is None:
        randomise(made.model)
    return made


def inputs_of(made):
    """A list of arrays for it."""
    found = family_inputs(made.model)
    return found if isinstance(found, list) else [found]


def scoring(name):
    """The option that gives logits."""
    head = 'lm' if name in LANGUAGE_MODELS else 'mlm'
    return {f'with_{head}': 'linear'}


def weights_of(made, tmp_path):
    """What a file of it would hold."""
    kind = 'huggingface' if 'huggingface' in made.names else 'tensorflow'
    path = tmp_path / ('m.safetensors' if kind == 'huggingface' else 'm.ckpt')
    save_weights(made, path)
    source = open_checkpoint(path)
    return DictCheckpoint({k: np.array(v) for k, v in source.items()}, kind)


def run(made, inputs=None):
    """Its first output."""
    inputs = inputs_of(made) if inputs is None else inputs
    found = made.model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    return found[0] if isinstance(found, list) else found


@pytest.mark.parametrize('name', SCORING)
def test_keep_tokens_keeps_their_scores(name, tmp_path):
    """The kept tokens' columns are those of the whole model, for the same text."""
    whole = make(name, **scoring(name))
    keep = [0, 9, 2, 3, 4, 5, 6, 7]
    part = make(name, weights_of(whole, tmp_path), keep_tokens=keep, **scoring(name))
    assert part.vocab_size == 8
    inputs = inputs_of(part)
    ids, segments = inputs[0], inputs[1:]
    ids = np.where(ids == 9, 1, ids)
    shared = part.shared_segment_embeddings
    if shared:
        pytest.skip('segments are tokens too')
    found = run(part, [ids, *segments])
    expected = run(whole, [np.array(keep)[ids], *segments])
    assert_close(found, expected[..., keep], atol=1e-4)


@pytest.mark.parametrize('name', SCORING)
def test_compound_tokens_score_as_their_average(name, tmp_path):
    whole = make(name, **scoring(name))
    weights = weights_of(whole, tmp_path)
    more = make(
        name, weights, compound_tokens=[[4, 6], ([3, 5], [3, 1])], **scoring(name)
    )
    expected = run(whole)
    found = run(more)
    assert found.shape[-1] == 22
    assert_close(found[..., :20], expected, atol=1e-4)
    average = (expected[..., 4] + expected[..., 6]) / 2
    assert_close(found[..., 20], average, atol=1e-4)
    average = (3 * expected[..., 3] + expected[..., 5]) / 4
    assert_close(found[..., 21], average, atol=1e-4)


@pytest.mark.parametrize('name', FAMILIES)
def test_two_models_share_a_graph_by_prefix(name, tmp_path):
    plain = make(name)
    weights = weights_of(plain, tmp_path)
    first = make(name, weights, prefix='First-')
    second = make(name, weights, prefix='Second-')
    assert {layer.name[:6] for layer in first.model.layers} == {'First-'}
    assert set(named_variables(first)) == set(named_variables(plain))
    outputs = [first.output, second.output]
    both = keras.Model([*first.inputs, *second.inputs], outputs)
    inputs = inputs_of(plain)
    found = both.predict(inputs * 2, verbose=0)
    assert_close(found[0], run(plain))
    assert_close(found[1], run(plain))


@pytest.mark.parametrize('name', FAMILIES)
def test_a_fixed_length_changes_nothing(name, tmp_path):
    plain = make(name)
    fixed = make(name, weights_of(plain, tmp_path), sequence_length=6, name='fixed')
    assert fixed.model.name == 'fixed'
    assert all(x.shape == (None, 6) for x in fixed.model.inputs)
    assert_close(run(fixed), run(plain))


@pytest.mark.parametrize('name', FAMILIES)
def test_conditional_norms_begin_as_the_plain_ones(name, tmp_path):
    if name in ('roformer_v2', 'gau_alpha'):
        pytest.skip('its normalisations have no weights')
    plain = make(name)
    condition = keras.Input((3,), name='condition')
    changed = make(
        name,
        weights_of(plain, tmp_path),
        layer_norm_cond=condition,
        layer_norm_cond_hidden_size=4,
        layer_norm_cond_hidden_act='tanh',
        additional_input_layers=condition,
    )
    inputs = inputs_of(plain)
    draw = np.random.default_rng(0)
    vector = draw.normal(size=(2, 3)).astype('float32')
    assert_close(run(changed, [*inputs, vector]), run(plain))
    hidden = [w for w in changed.model.weights if w.path.endswith('hidden/kernel')]
    assert hidden
    assert all(np.abs(keras.ops.convert_to_numpy(w)).max() > 0 for w in hidden)
    for weight in changed.model.weights:
        if '_map/' in weight.path:
            weight.assign(draw.normal(size=weight.shape))
    assert np.abs(run(changed, [*inputs, vector]) - run(plain)).max() > 1e-3


@pytest.mark.parametrize('name', BLOCKS)
def test_residual_scores_change_all_but_the_first_layer(name, tmp_path):
    for layers in (1, 2):
        changed = {'num_hidden_layers': layers}
        plain = make(name, **changed)
        weights = weights_of(plain, tmp_path / str(layers))
        real = make(name, weights, residual_attention_scores=True, **changed)
        difference = np.abs(run(real) - run(plain)).max()
        assert (difference < 1e-5) == (layers == 1), difference


@pytest.mark.parametrize('name', FAMILIES)
def test_dropout_only_while_training(name, tmp_path):
    plain = make(name)
    drops = make(
        name, weights_of(plain, tmp_path), dropout_rate=0.5, attention_dropout_rate=0.5
    )
    assert_close(run(drops), run(plain))
    inputs = [keras.ops.convert_to_tensor(x) for x in inputs_of(plain)]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    found = [
        keras.ops.convert_to_numpy(drops.model(inputs, training=True)) for _ in '12'
    ]
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize('name', [n for n in FAMILIES if 't5' not in n])
@pytest.mark.parametrize('application', ['lm', 'unilm'])
def test_who_sees_whom(name, application, tmp_path):
    """The last token changes the outputs only of those that may see it."""
    made = make(name, application=application)
    ids = np.array([[2, 5, 6, 3, 7, 3]])
    segments = np.array([[0, 0, 0, 1, 1, 1]])
    wants = len(made.model.inputs) > 1
    assert wants or application == 'lm'

    def outputs(ids):
        return run(made, [ids, segments] if wants else [ids])[0]

    for place in range(6):
        other = ids.copy()
        other[0, place] = 8
        moved = np.abs(outputs(other) - outputs(ids)).max(axis=-1) > 1e-6
        if application == 'lm' or place > 2:
            expected = np.arange(6) >= place
        else:
            expected = np.ones(6, bool)
        np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize('name', FAMILIES)
def test_half_precision_by_one_option(name, tmp_path):
    plain = make(name)
    half = make(name, weights_of(plain, tmp_path), dtype='mixed_bfloat16')
    policies = {layer.dtype_policy.name for layer in half.model.layers if layer.weights}
    assert policies == {'mixed_bfloat16'}
    found, expected = run(half).astype('float32'), run(plain)
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() < 0.1 * scale


@pytest.mark.parametrize('name', [n for n in FAMILIES if 't5' not in n])
def test_own_positions_that_count_from_zero_change_nothing(name, tmp_path):
    plain = make(name)
    made = make(name, weights_of(plain, tmp_path), custom_position_ids=True)
    assert made.model.inputs[-1].name == 'Input-Position'
    inputs = inputs_of(plain)
    positions = np.tile(np.arange(6), (2, 1))
    assert_close(run(made, [*inputs, positions]), run(plain))
    assert np.abs(run(made, [*inputs, positions[:, ::-1]]) - run(plain)).max() > 1e-3


@pytest.mark.parametrize('name', FAMILIES)
def test_weights_grow_where_asked_for(name, tmp_path):
    small = make(name)
    weights = weights_of(small, tmp_path)
    sizes = {'intermediate_size': 32, 'vocab_size': 40}
    grown = make(name, weights, autoresize_weights=True, **sizes)
    before = named_variables(small)
    for left, variable in named_variables(grown).items():
        old = keras.ops.convert_to_numpy(before[left])
        new = keras.ops.convert_to_numpy(variable)
        norms = np.linalg.norm(new), np.linalg.norm(old)
        assert_close(*norms, rtol=1e-4)
    assert np.isfinite(run(grown)).all()


@pytest.mark.parametrize('name', FAMILIES)
def test_a_checkpoint_replaces_every_weight(name, tmp_path):
    """What is left at zero until the file is read is read from the file."""
    plain = make(name, **(scoring(name) if name in SCORING else {}))
    heads = scoring(name) if name in SCORING else {}
    again = make(name, weights_of(plain, tmp_path), **heads)
    for new, old in zip(again.model.weights, plain.model.weights, strict=True):
        assert new.path == old.path
        assert_close(new.value, old.value, atol=0)
