"""GPT2-ML: the contract and the formula; test_gpt.py has it beside bert4keras."""

import numpy as np
import pytest
from harness import assert_close
from harness import check_contract
from harness import randomise
from peers import assert_gradients_close
from peers import embedding_gradient
from reference.gpt2_ml import gelu
from reference.gpt2_ml import gpt2_ml

from keraseff.checkpoints import open_checkpoint
from keraseff.models import GPT2_ML
from keraseff.models import build_transformer_model

SMALL = {
    'vocab_size': 40,
    'hidden_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 3,
    'intermediate_size': 36,
    'max_position': 16,
}
ROWS = {
    'plain': {},
    'narrow': {'embedding_size': 10},
    'untied': {'embedding_size': 10, 'tie_word_embeddings': False},
}
FORMULA = {
    'plain': ({}, gelu, 1e-5),
    'relu': (
        {'hidden_size': 15, 'num_attention_heads': 5, 'hidden_act': 'relu'},
        lambda x: np.maximum(x, 0),
        1e-5,
    ),
    'swish': (
        {'num_hidden_layers': 11, 'hidden_act': 'swish', 'layer_norm_eps': 0.1},
        lambda x: x / (1 + np.exp(-x)),
        0.1,
    ),
}


@pytest.mark.every_backend
def test_contract():
    check_contract('gpt2_ml', [SMALL | row for row in ROWS.values()])


@pytest.mark.every_backend
@pytest.mark.parametrize('row', FORMULA)
def test_scores_and_gradients_equal_the_formula(row, tmp_path, rng):
    changes, activation, epsilon = FORMULA[row]
    config = SMALL | changes
    built = build_transformer_model(
        config, model='gpt2_ml', with_lm='linear', return_keras_model=False
    )
    randomise(built.model)
    built.save_weights_as_checkpoint(tmp_path / 'model.ckpt')
    opened = open_checkpoint(tmp_path / 'model.ckpt')
    weights = {name: np.asarray(opened[name]) for name in opened}
    ids = rng.integers(1, 40, (3, 9))
    lengths = [9, 4, 7]
    for row_ids, length in zip(ids, lengths, strict=True):
        row_ids[length:] = 0
    found = built.model.predict(ids, verbose=0)

    def reference(weights, k):
        size = config['num_hidden_layers'], config['num_attention_heads']
        return gpt2_ml(weights, *size, ids[k, : lengths[k]], activation, epsilon)

    for k, length in enumerate(lengths):
        assert_close(found[k, :length], reference(weights, k), atol=1e-4, rtol=1e-4)

    weigh = rng.normal(size=found.shape) * (ids > 0)[..., None]
    words = 'newslm/embeddings/word_embed'
    gradient = embedding_gradient(built.model, [ids], weigh)
    for _ in range(3):
        direction = rng.normal(size=gradient.shape)
        step = 1e-6
        change = 0
        for sign in (1, -1):
            moved = weights[words].astype('float64') + sign * step * direction
            total = sum(
                (reference(weights | {words: moved}, k) * weigh[k, :length]).sum()
                for k, length in enumerate(lengths)
            )
            change += sign * total / (2 * step)
        expected = np.array([change])
        assert_gradients_close(np.array([(gradient * direction).sum()]), expected)


def test_who_wrote_the_config_does_not_matter():
    built = GPT2_ML(SMALL | {'segment_vocab_size': 2})
    assert (built.segment_vocab_size, built.pad_token_id) == (0, 0)
    assert (built.hidden_act, built.epsilon, built.causal) == ('gelu', 1e-5, True)
    with pytest.raises(ValueError, match='segment_vocab_size=2: this family has no'):
        GPT2_ML(SMALL, segment_vocab_size=2)
    with pytest.raises(ValueError, match='no names for huggingface files'):
        built.table('huggingface')


def test_tensorflow_reads_what_we_save_and_adafactor_is_left_aside(tmp_path):
    tf = pytest.importorskip('tensorflow')
    built = build_transformer_model(SMALL, model='gpt2_ml', return_keras_model=False)
    randomise(built.model)
    built.save_weights_as_checkpoint(tmp_path / 'model.ckpt')
    reader = tf.train.load_checkpoint(str(tmp_path / 'model.ckpt'))
    shapes = reader.get_variable_to_shape_map()
    assert len(shapes) == 4 + 2 * 16
    tensors = {name: reader.get_tensor(name) for name in shapes}
    first = built.layers['Transformer-1-FeedForward-Norm-0'].get_weights()
    name = 'newslm/layer01/LayerNorm_mlp_ln0/gamma'
    assert any(np.array_equal(tensors[name], array) for array in first)
    # What training leaves in a file; a warning would be an error here.
    tensors['newslm/layer01/intermediate/kernel/adafactor_vr'] = np.zeros(24)
    tensors['newslm/layer01/intermediate/bias/adafactor_v'] = np.zeros(36)
    tensors['global_step'] = np.array(3)
    again = build_transformer_model(SMALL, tensors, model='gpt2_ml')
    ids = np.array([[5, 6, 7, 0]])
    expected = built.model.predict(ids, verbose=0)
    assert_close(again.predict(ids, verbose=0), expected)
