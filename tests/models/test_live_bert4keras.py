"""bert4keras 0.11.5 itself, beside ours: for what transformers does not have."""

import pytest
from peers import check_arrays
from peers import run_bert4keras

CONFIG = {
    'vocab_size': 61,
    'hidden_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 3,
    'intermediate_size': 40,
    'hidden_act': 'gelu',
    'max_position_embeddings': 32,
    'type_vocab_size': 2,
}
HEADS = {'num_attention_heads': 5}
MLM = {'with_mlm': 'linear'}
CASES = {
    'nezha-relu': ('nezha', {'hidden_act': 'relu', 'num_attention_heads': 2}, MLM),
    'nezha-unilm': (
        'nezha',
        {'hidden_size': 40, 'num_attention_heads': 5},
        MLM | {'application': 'unilm'},
    ),
    'nezha-deep': ('nezha', {'num_hidden_layers': 4, 'embedding_size': 10}, {}),
    'albert-mlm': ('albert', {'embedding_size': 10, 'hidden_act': 'relu'}, MLM),
    'albert-deep': ('albert', {'num_hidden_layers': 5}, {'application': 'lm'} | MLM),
    'roformer_v2-relu': ('roformer_v2', {'hidden_act': 'relu'}, MLM),
    'roformer_v2-lm': (
        'roformer_v2',
        {'num_attention_heads': 2},
        MLM | {'application': 'lm'},
    ),
    'roformer_v2-unilm': (
        'roformer_v2',
        {'hidden_size': 40, 'num_attention_heads': 5},
        MLM | {'application': 'unilm'},
    ),
    'gpt-relu': ('gpt', {'hidden_act': 'relu', 'hidden_size': 40, **HEADS}, {}),
    'gpt-deep': ('gpt', {'num_hidden_layers': 5, 'vocab_size': 33}, {}),
    'gpt2-relu': ('gpt2', {'hidden_act': 'relu', 'hidden_size': 40, **HEADS}, {}),
    'gpt2-swish': ('gpt2', {'hidden_act': 'swish', 'intermediate_size': 7}, {}),
    'gpt2_ml-relu': ('gpt2_ml', {'hidden_act': 'relu'}, {}),
    'gpt2_ml-wide': ('gpt2_ml', {'hidden_size': 40, 'num_attention_heads': 5}, {}),
    'gpt2_ml-deep': ('gpt2_ml', {'num_hidden_layers': 3, 'vocab_size': 97}, {}),
}
DIFFERS = {
    'nezha': {'layer_norm_eps': 1e-7},
    'gpt': {'layer_norm_eps': 1e-12},
    'gpt2': {'pad_token_id': 0},
}


@pytest.mark.live_peer
@pytest.mark.parametrize('case', CASES)
def test_outputs_equal(case, bert4keras_python, data_dir, tmp_path):
    model, changes, options = CASES[case]
    config = CONFIG | changes
    theirs = run_bert4keras(
        bert4keras_python, data_dir, tmp_path, model, config, **options
    )
    # Where the authors' own code differs from bert4keras, ours follows the authors.
    config = config | DIFFERS.get(model, {})
    check_arrays(theirs, config, model=model, **options)
