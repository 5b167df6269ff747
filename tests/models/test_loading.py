"""Loading: all or nothing, and every complaint names its tensor."""

import numpy as np
import pytest
from harness import IDS
from harness import SMALL
from harness import assert_close
from harness import randomise
from harness import to_numpy

from keraseff.checkpoints import CheckpointError
from keraseff.models import build_transformer_model
from keraseff.models.loading import named_variables


def build(checkpoint=None, **options):
    return build_transformer_model(
        SMALL, checkpoint, **{'return_keras_model': False} | options
    )


@pytest.fixture
def weights(tmp_path):
    """A checkpoint as a dict of Google's names."""
    model = build(with_mlm='linear', with_nsp=True)
    randomise(model.model)
    from keraseff.checkpoints import open_checkpoint

    model.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    source = open_checkpoint(tmp_path / 'm.ckpt')
    return {name: np.array(source[name]) for name in source}


def values(model):
    return {k: to_numpy(v.value) for k, v in named_variables(model).items()}


def test_a_missing_tensor_is_named_and_nothing_changes(weights):
    name = 'bert/encoder/layer_1/attention/self/key/kernel'
    del weights[name]
    model = build()
    before = values(model)
    with pytest.raises(CheckpointError) as error:
        model.load_weights_from_checkpoint(weights)
    assert name in str(error.value)
    assert '(12, 12)' in str(error.value)
    assert 'no weight was changed' in str(error.value)
    assert_close(values(model), before, atol=0)


def test_a_mis_shaped_tensor_is_named_with_both_shapes(weights):
    name = 'bert/encoder/layer_0/intermediate/dense/kernel'
    weights[name] = weights[name][:, :-3]
    model = build()
    before = values(model)
    with pytest.raises(
        CheckpointError, match=r'\(12, 13\) came, \(12, 16\) was wanted'
    ):
        model.load_weights_from_checkpoint(weights)
    assert_close(values(model), before, atol=0)


def test_an_extra_tensor_is_named(weights):
    weights['bert/encoder/layer_2/output/dense/bias'] = np.zeros(12, 'float32')
    weights['bert/encoder/layer_1/output/dense/bias/adam_m'] = np.zeros(12, 'float32')
    with pytest.warns(
        UserWarning, match='no layer takes: bert/encoder/layer_2'
    ) as seen:
        model = build(weights)
    assert not any('adam' in str(w.message) for w in seen)
    expected = weights['bert/encoder/layer_1/output/dense/bias']
    assert_close(values(model)['Transformer-1-FeedForward/output/bias'], expected)


def test_invalid_weights_may_be_ignored(weights):
    name = 'bert/encoder/layer_1/attention/self/key/kernel'
    del weights[name]
    with pytest.warns(UserWarning, match='missing: bert/encoder/layer_1'):
        model = build(weights, ignore_invalid_weights=True)
    found = values(model)
    query = 'Transformer-1-MultiHeadSelfAttention/query/kernel'
    assert_close(found[query], weights[name.replace('key', 'query')])
    key = found['Transformer-1-MultiHeadSelfAttention/key/kernel']
    assert 0.01 < key.std() < 0.03


def test_mis_shaped_weights_may_be_resized(weights):
    small = values(build(weights))['Transformer-0-FeedForward/intermediate/kernel']
    wide = build(weights, intermediate_size=32, autoresize_weights=True)
    found = values(wide)['Transformer-0-FeedForward/intermediate/kernel']
    assert found.shape == (12, 32)
    np.testing.assert_allclose(
        np.linalg.norm(found, axis=1), np.linalg.norm(small, axis=1), rtol=0.5
    )
    with pytest.raises(CheckpointError, match='mis-shaped'):
        build(weights, intermediate_size=32)


@pytest.mark.every_backend
def test_keep_and_compound_tokens(weights):
    keep, compound = [0, 5, 9, 2], [[1, 2], ([0, 3], [0.25, 0.75])]
    options = {'keep_tokens': keep, 'compound_tokens': compound, 'with_mlm': 'linear'}
    found = values(build(weights, **options))
    table = weights['bert/embeddings/word_embeddings']
    extra = [table[[5, 9]].mean(0), 0.25 * table[0] + 0.75 * table[2]]
    assert_close(found['Embedding-Token/embeddings'], np.vstack([table[keep], *extra]))
    bias = weights['cls/predictions/output_bias']
    extra = [bias[[5, 9]].mean(), 0.25 * bias[0] + 0.75 * bias[2]]
    assert_close(found['MLM-Bias/beta'], np.concatenate([bias[keep], extra]))
    ids = np.array([[keep.index(i) if i in keep else 0 for i in (2, 5, 9, 0)]])
    kept = build(weights, **options | {'with_mlm': False})
    there = build(weights).model.predict(
        [np.array([[2, 5, 9, 0]]), IDS[:1] * 0], verbose=0
    )
    assert_close(kept.model.predict([ids, IDS[:1] * 0], verbose=0), there)
    with pytest.raises(CheckpointError, match='asks for token 20'):
        build(weights, keep_tokens=[1, 20])


def test_a_prefix_leaves_the_names_of_files_alone(weights):
    model = build(weights, prefix='Student-')
    assert model.model.get_layer('Student-Transformer-1-FeedForward-Norm')
    inputs = [IDS, IDS * 0]
    plain = build(weights).model.predict(inputs, verbose=0)
    assert_close(model.model.predict(inputs, verbose=0), plain)


def test_fewer_layers_take_the_first_ones(weights):
    with pytest.warns(UserWarning, match='no layer takes'):
        model = build(weights, num_hidden_layers=1)
    bias = weights['bert/encoder/layer_0/output/dense/bias']
    assert_close(values(model)['Transformer-0-FeedForward/output/bias'], bias)


def test_an_untied_output_matrix_is_not_dropped(tmp_path):
    model = build(with_mlm='linear', tie_word_embeddings=False)
    randomise(model.model)
    for file in ('m.safetensors', 'm.ckpt'):
        model.save_weights_as_checkpoint(tmp_path / file)
        again = build(tmp_path / file, with_mlm='linear', tie_word_embeddings=False)
        assert_close(values(again), values(model))
        with pytest.raises(CheckpointError, match='tie_word_embeddings=False'):
            build(tmp_path / file, with_mlm='linear')


def test_damaged_files_say_so(tmp_path):
    model = build()
    path = tmp_path / 'm.safetensors'
    model.save_weights_as_checkpoint(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    before = values(model)
    with pytest.raises(CheckpointError, match='m.safetensors'):
        model.load_weights_from_checkpoint(path)
    assert_close(values(model), before, atol=0)
    with pytest.raises((CheckpointError, FileNotFoundError), match='nowhere'):
        build(tmp_path / 'nowhere')


def test_a_file_of_another_family_is_refused_though_all_is_found(tmp_path):
    """BERT has all that NEZHA wants, and Qwen2 all that LLaMA does; and more."""
    bert = build_transformer_model(SMALL, return_keras_model=False)
    bert.save_weights_as_checkpoint(tmp_path / 'bert.ckpt')
    with pytest.raises(CheckpointError, match=r"looks like a BERT .*model='bert'"):
        build_transformer_model(SMALL, tmp_path / 'bert.ckpt', 'nezha')
    with pytest.warns(UserWarning, match='position_embeddings'):
        build_transformer_model(
            SMALL, tmp_path / 'bert.ckpt', 'nezha', ignore_invalid_weights=True
        )
    qwen = build_transformer_model(SMALL, model='qwen2', return_keras_model=False)
    qwen.save_weights_as_checkpoint(tmp_path / 'qwen.safetensors')
    with pytest.raises(CheckpointError, match=r'leaves out: .*q_proj\.bias'):
        build_transformer_model(SMALL, tmp_path / 'qwen.safetensors', 'llama')


def test_embeddings_that_the_model_goes_without_are_named(tmp_path):
    bert = build_transformer_model(SMALL, return_keras_model=False)
    bert.save_weights_as_checkpoint(tmp_path / 'bert.ckpt')
    with pytest.warns(UserWarning, match='no place for .*token_type_embeddings'):
        build_transformer_model(
            SMALL, tmp_path / 'bert.ckpt', shared_segment_embeddings=True
        )


def test_a_missing_output_matrix_brings_the_advice_to_tie_it(tmp_path):
    tied = {'model': 't5.1.1', 'tie_word_embeddings': True}
    t5 = build_transformer_model(SMALL, return_keras_model=False, **tied)
    t5.save_weights_as_checkpoint(tmp_path / 't5.safetensors')
    with pytest.raises(CheckpointError, match='pass tie_word_embeddings=True'):
        build_transformer_model(SMALL, tmp_path / 't5.safetensors', 't5.1.1')
    build_transformer_model(SMALL, tmp_path / 't5.safetensors', **tied)


def test_the_config_says_which_family_it_is():
    with pytest.raises(ValueError, match="config's model_type 'qwen3_moe' is unknown"):
        build_transformer_model(SMALL | {'model_type': 'qwen3_moe'})
    with pytest.raises(ValueError, match="leave model='bert' out"):
        build_transformer_model({'model_type': 'gpt2', 'n_embd': 4}, model='bert')
    with pytest.raises(FileNotFoundError, match='Nothing is fetched'):
        build_transformer_model('bert-base-chinese')
    with pytest.raises(ValueError, match='no more than'):
        build_transformer_model(SMALL | {'vocab_size': 10**12})
