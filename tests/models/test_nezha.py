"""NEZHA: against bert4keras and an explicit formula; transformers no longer has it."""

import json

import keras
import numpy as np
import pytest
from harness import SMALL
from harness import assert_close
from harness import check_family
from harness import check_tables
from harness import gradients
from harness import randomise
from harness import to_numpy
from peers import assert_gradients_close
from peers import check_against_bert4keras
from peers import embedding_gradient
from peers import padded_batch

from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.models import build_transformer_model


@pytest.mark.every_backend
def test_contract():
    reach = {'max_relative_position': 3}
    found = check_family('nezha', SMALL | {'embedding_size': 8} | reach)
    found |= check_family('nezha', SMALL | {'tie_word_embeddings': False})
    check_tables('nezha', found)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ('case', 'options'),
    [('nezha', {}), ('nezha_lm', {'application': 'lm', 'with_mlm': 'linear'})],
)
def test_outputs_equal_bert4keras(case, options, data_dir):
    check_against_bert4keras(case, data_dir, model='nezha', **options)


def slow_nezha(w, ids, types, config, causal, words=None):
    """The encoder by its formula, one text; `words` stands in for its embeddings."""
    ops = keras.ops
    heads, reach = config['num_attention_heads'], config['max_relative_position']
    n, size = len(ids), config['hidden_size'] // heads
    rows = np.arange(2 * reach + 1)[:, None]
    angles = rows / 10000 ** (2 * np.arange(size // 2) / size)
    table = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(-1, size)
    steps = np.clip(np.arange(n)[None] - np.arange(n)[:, None], -reach, reach) + reach
    relative = ops.convert_to_tensor(np.float32(table[steps]))  # (m, n, d)
    seen = (ids > 0)[None] & (np.tri(n, dtype=bool) | (not causal))

    def norm(x, at):
        x = x - ops.mean(x, -1, keepdims=True)
        x = x / ops.sqrt(ops.mean(x**2, -1, keepdims=True) + 1e-12)
        return x * w[f'{at}LayerNorm/gamma'] + w[f'{at}LayerNorm/beta']

    def dense(x, at):
        return ops.matmul(x, w[f'{at}kernel']) + w[f'{at}bias']

    w = {name: ops.convert_to_tensor(array) for name, array in w.items()}
    words = w['bert/embeddings/word_embeddings'] if words is None else words
    x = ops.take(words, ids, axis=0)
    x = x + ops.take(w['bert/embeddings/token_type_embeddings'], types, axis=0)
    x = norm(x, 'bert/embeddings/')
    for i in range(config['num_hidden_layers']):
        at = f'bert/encoder/layer_{i}/'
        q, k, v = (
            ops.reshape(dense(x, f'{at}attention/self/{name}/'), (n, heads, size))
            for name in ('query', 'key', 'value')
        )
        mixed = []
        for h in range(heads):
            scores = ops.sum(q[:, None, h] * (k[None, :, h] + relative), -1) / size**0.5
            weights = ops.softmax(ops.where(seen, scores, -1e30), -1)
            values = v[None, :, h] + relative
            mixed.append(ops.sum(weights[..., None] * values, axis=1))
        mixed = ops.reshape(ops.stack(mixed, 1), (n, heads * size))
        x = norm(
            x + dense(mixed, f'{at}attention/output/dense/'), f'{at}attention/output/'
        )
        y = ops.relu(dense(x, f'{at}intermediate/dense/'))
        x = norm(x + dense(y, f'{at}output/dense/'), f'{at}output/')
    return x


CONFIGS = [
    {'max_relative_position': 64},
    {'max_relative_position': 2, 'hidden_size': 20, 'num_attention_heads': 5},
    {'max_relative_position': 5, 'num_hidden_layers': 1, 'vocab_size': 33},
]


@pytest.mark.every_backend
@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('row', range(len(CONFIGS)))
def test_outputs_equal_the_formula(row, causal, tmp_path):
    config = SMALL | {'hidden_size': 12, 'num_attention_heads': 2}
    config |= {'hidden_act': 'relu'} | CONFIGS[row]
    ours = build_transformer_model(
        config,
        model='nezha',
        application='lm' if causal else 'encoder',
        return_keras_model=False,
    )
    randomise(ours.model)
    ours.save_weights_as_checkpoint(tmp_path / 'm.ckpt')
    w = {k: np.array(v) for k, v in open_checkpoint(tmp_path / 'm.ckpt').items()}
    last = f'Transformer-{config["num_hidden_layers"] - 1}-FeedForward-Norm'
    model = keras.Model(ours.model.inputs, ours.model.get_layer(last).output)
    ids, types = padded_batch(20)
    found = model.predict([ids, types], verbose=0)
    for text in range(2):
        expected = to_numpy(slow_nezha(w, ids[text], types[text], config, causal))
        real = ids[text] > 0
        assert_close(found[text][real], expected[real], atol=1e-4)
    weigh = np.random.default_rng(1).normal(size=found[:1].shape).astype('float32')

    def scalar(words):
        out = slow_nezha(w, ids[0], types[0], config, causal, words)
        return keras.ops.sum(out * keras.ops.convert_to_tensor(weigh[0]))

    (expected,) = gradients(scalar, w['bert/embeddings/word_embeddings'])
    found = embedding_gradient(model, [ids[:1], types[:1]], weigh)
    assert_gradients_close(found, expected)


def test_every_spelling_of_its_names_opens(tmp_path):
    """`nezha.` of Hugging Face, `bert.` of the authors' PyTorch files, and neither."""
    ours = build_transformer_model(SMALL, model='nezha', return_keras_model=False)
    randomise(ours.model)
    ours.save_weights_as_checkpoint(tmp_path / 'nezha.safetensors')
    ids = np.array([[2, 5, 6, 3, 7]])
    expected = ours.model.predict([ids, ids * 0], verbose=0)
    tensors = dict(open_checkpoint(tmp_path / 'nezha.safetensors'))
    assert all(name.startswith('nezha.') for name in tensors)
    tensors['nezha.encoder.layer.0.attention.self.relative_positions_encoding'] = (
        np.zeros((5, 5), 'float32')
    )
    for prefix in ('nezha.', 'bert.', ''):
        path = tmp_path / 'renamed.safetensors'
        renamed = {k.replace('nezha.', prefix, 1): v for k, v in tensors.items()}
        write_safetensors(path, renamed)
        again = build_transformer_model(SMALL, path, 'nezha')
        assert_close(again.predict([ids, ids * 0], verbose=0), expected)


def test_a_config_of_hugging_face_chooses_it(tmp_path):
    config = SMALL | {'model_type': 'nezha', 'max_relative_position': 7}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    ours = build_transformer_model(tmp_path, return_keras_model=False)
    assert type(ours).__name__ == 'NEZHA'
    layer = ours.layers['Embedding-Relative-Position']
    assert layer.reach == 7
    with pytest.raises(ValueError, match="model='bert'"):
        build_transformer_model(config | {'use_relative_position': False})
