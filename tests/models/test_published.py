"""The table of published checkpoints: every row opens, and the documents repeat it."""

import json

import keras
import numpy as np
import pytest
from conftest import ROOT
from harness import assert_close
from harness import to_numpy

from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints.tensorflow import TensorFlowCheckpoint
from keraseff.models import build_transformer_model
from keraseff.models.loading import named_variables
from keraseff.models.loading import parse_slot

WEIGHTS = ROOT / 'weights'
ROWS = json.loads((WEIGHTS / 'published.json').read_text(encoding='utf-8'))

# What is made small: two layers, a few words, and nothing wider than BERT-base.
LAYERS = ('num_hidden_layers', 'n_layer', 'num_layers', 'num_decoder_layers')
STREAMS = ('hidden_size', 'embedding_size', 'n_embd', 'd_model')
WIDTHS = (*STREAMS, 'intermediate_size', 'd_ff', 'd_kv', 'head_dim')
WIDEST, WORDS = 768, 61


def divisor(config):
    """The power of two that brings a configuration's widths down to `WIDEST`."""
    widest = max(config.get(key) or 0 for key in STREAMS)
    return next(2**k for k in range(16) if widest <= WIDEST * 2**k)


def shrunk(config):
    """The configuration with at most two layers and a small vocabulary."""
    by = divisor(config)
    small = {k: min(2, config[k]) for k in LAYERS if k in config}
    small |= {k: config[k] // by for k in WIDTHS if config.get(k)}
    return config | small | {'vocab_size': WORDS}


def groups(*checks):
    """The rows checked in these ways, those that come to the same model once."""
    found = {}
    for row in ROWS:
        if row['check'] in checks:
            same = [row['model'], row['options'], shrunk(row['config'])]
            found.setdefault(json.dumps(same, sort_keys=True), []).append(row)
    cases = []
    for first, *others in found.values():
        more = f' and {len(others)} more' if others else ''
        cases.append(pytest.param(first, id=first['name'] + more))
    return cases


def write_config(folder, config):
    """The shrunk configuration as a file, with the publisher's keys."""
    (folder / 'config.json').write_text(json.dumps(config))
    return folder / 'config.json'


def texts(segments=2):
    """Token ids with padding, and segment ids."""
    draw = np.random.default_rng(1)
    ids = draw.integers(2, WORDS, (2, 9))
    ids[1, 6:] = 0
    return ids, draw.integers(0, segments, (2, 9)) * (ids > 0)


def answer(model, inputs):
    """The outputs of a Keras model for as many of the inputs as it has."""
    inputs = [np.array(x, 'int32') for x in inputs[: len(model.inputs)]]
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return to_numpy(outputs if isinstance(outputs, list) else [outputs])


ARCHITECTURES = {
    'bert': 'Bert{}Model',
    'albert': 'Albert{}Model',
    'electra': 'Electra{}Model',
    'roformer': 'RoFormer{}Model',
    'gpt': 'OpenAIGPT{}LMHeadModel',
    'gpt2': 'GPT2{}LMHeadModel',
    't5': 'T5{}ForConditionalGeneration',
    't5.1.1': 'T5{}ForConditionalGeneration',
    'mt5.1.1': 'MT5{}ForConditionalGeneration',
    'llama': 'Llama{}ForCausalLM',
    'qwen2': 'Qwen2{}ForCausalLM',
    'qwen3': 'Qwen3{}ForCausalLM',
}
ENCODERS = ('bert', 'albert', 'electra', 'roformer')
TANH = {'gelu_tanh': 'gelu_pytorch_tanh'}


def reference(row, config, folder):
    """A random model of transformers, its tensors in a file without its own config."""
    torch = pytest.importorskip('torch')
    transformers = pytest.importorskip('transformers')
    save_file = pytest.importorskip('safetensors.torch').save_file
    kind, rest = ARCHITECTURES[row['model']].split('{}')
    rest = 'ForMaskedLM' if 'with_mlm' in row['options'] else rest
    act = row['options'].get('hidden_act')
    theirs = config | ({'hidden_act': TANH[act]} if act else {})
    torch.manual_seed(0)
    made = getattr(transformers, f'{kind}Config')(**theirs)
    model = getattr(transformers, kind + rest)(made).eval()
    if config.get('tie_word_embeddings') is False and hasattr(model, 'lm_head'):
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if 'embed_positions' not in name:
                weight.add_(0.02 * torch.randn_like(weight))
    tensors, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            tensors[name] = tensor.contiguous()
    save_file(tensors, str(folder / 'model.safetensors'), metadata={'format': 'pt'})
    return model


def run(row, model, ids, types):
    """What the random model answers."""
    import torch

    ids, types = torch.tensor(ids), torch.tensor(types)
    given = {'input_ids': ids, 'attention_mask': (ids > 0).long()}
    if row['model'] in (*ENCODERS, 'gpt'):
        given['token_type_ids'] = types
    if 't5' in row['model']:
        given['decoder_input_ids'] = ids.flip(1)
    with torch.no_grad():
        out = model(**given)
    if row['model'] not in ENCODERS:
        return out.logits.numpy()
    if 'with_mlm' in row['options']:
        return out.logits.softmax(-1).numpy()
    pooled = 'with_pool' in row['options']
    return (out.pooler_output if pooled else out.last_hidden_state).numpy()


@pytest.mark.parametrize('row', groups('transformers'))
@pytest.mark.filterwarnings('ignore:.*tensors that no layer takes.*:UserWarning')
def test_the_configuration_opens_and_equals_transformers(row, tmp_path):
    config = shrunk(row['config'])
    model = reference(row, config, tmp_path)
    path = write_config(tmp_path, config)
    encodes = row['model'] in ENCODERS
    options = row['options'] | ({} if encodes else {'with_lm': 'linear'})
    ours = build_transformer_model(path, tmp_path, model=row['model'], **options)
    ids, types = texts()
    if not encodes:  # words only, for the families differ in what they mask
        ids = np.where(ids > 0, ids, 7)
        types = types + (WORDS - 2 if row['model'] == 'gpt' else 0)
    expected = run(row, model, ids, types)
    inputs = [ids, ids[:, ::-1]] if 't5' in row['model'] else [ids, types]
    (found,) = answer(ours, inputs)
    real = ids > 0 if found.ndim == 3 else ...
    scale = max(1.0, np.abs(expected[real]).max())
    assert_close(found[real] / scale, expected[real] / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize('row', groups('keraseff', 'names'))
def test_the_configuration_opens_and_equals_what_was_saved(row, tmp_path, monkeypatch):
    zeros = 'keraseff.models.transformer.TruncatedNormal'
    monkeypatch.setattr(zeros, lambda **_: keras.initializers.Zeros())  # overwritten
    path = write_config(tmp_path, shrunk(row['config']))
    options = row['options'] | {'model': row['model']}
    built = build_transformer_model(path, return_keras_model=False, **options)
    numbers = np.random.default_rng(2).normal(0, 0.05, 10007).astype('float32')
    for weight in built.model.weights:
        start = 1.0 if weight.path.endswith('gamma') else 0.0
        weight.assign(start + np.resize(numbers, weight.shape))
    built.save_weights_as_checkpoint(tmp_path / 'model.ckpt')
    again = build_transformer_model(path, tmp_path / 'model.ckpt', **options)
    inputs = texts()
    expected, found = answer(built.model, inputs), answer(again, inputs)
    assert_close(found, expected, atol=1e-6)
    assert all(np.isfinite(x).all() and np.ptp(x) > 1e-4 for x in found)


@pytest.mark.parametrize('row', [row for row in ROWS if row['check'] == 'names'])
def test_the_tensors_of_the_published_index_are_those_of_the_table(row, data_dir):
    index = data_dir / 'chinese_bert_vocab_config' / f'{row["name"]}.ckpt'
    stored = TensorFlowCheckpoint(index)
    heads = {'with_mlm': True, 'with_nsp': True, 'return_keras_model': False}
    built = build_transformer_model(row['config'], model=row['model'], **heads)
    ours, table = {}, built.table('tensorflow')
    for left, variable in named_variables(built).items():
        slot = parse_slot(left, table[left], 'tensorflow')
        ours[slot.tensor] = tuple(variable.shape)[:: -1 if slot.turned else 1]
    assert ours == {name: tuple(stored.shape(name)) for name in stored}


def test_the_real_weights_open(data_dir):
    (row,) = [row for row in ROWS if row['check'] == 'real']
    folder = data_dir / 'keras_bert_toy_ckpt' / 'test_checkpoint'
    config, prefix = folder / 'bert_config.json', folder / 'bert_model.ckpt'
    options = row['options'] | {'model': row['model']}
    model = build_transformer_model(config, prefix, **options)
    name = 'bert/encoder/layer_1/attention/self/value/kernel'
    layer = model.get_layer('Transformer-1-MultiHeadSelfAttention')
    stored = open_checkpoint(prefix)[name]
    assert any(np.array_equal(weight, stored) for weight in layer.get_weights())


# How a row stands in the documents.
CHECKED = {
    'transformers': 'random weights',
    'keraseff': 'random weights, own',
    'names': 'tensor names; random weights, own',
    'real': 'real weights',
}


def line(row):
    """One line of the table in weights/README.md and README_zh.md."""
    options = ', '.join(f'{k}={v!r}' for k, v in row['options'].items())
    call = f"model='{row['model']}'" + (f', {options}' if options else '')
    by = divisor(row['config']) if row['config'] else 1
    checked = CHECKED[row['check']] + (f', ÷{by}' if by > 1 else '')
    cells = [
        f'[{row["name"]}]({row["where"]})',
        row['size'],
        f'`{call}`',
        row['vocabulary'],
        row['licence'],
        checked + (' \\*' if row['basis'] == 'name' else ''),
    ]
    return f'| {" | ".join(cells)} |'


@pytest.mark.parametrize('name', ['README.md', 'README_zh.md'])
def test_the_documents_hold_the_table(name):
    text = (WEIGHTS / name).read_text(encoding='utf-8').splitlines()
    table = [part for part in text if part.startswith('| [')]
    assert table == [line(row) for row in ROWS]


def test_the_rows_are_well_formed():
    names = [row['name'] for row in ROWS]
    assert len(set(names)) == len(names)
    for row in ROWS:
        assert row['basis'] in ('publisher', 'copy', 'port', 'name')
        assert row['source'], row['name']
        assert row['where'].startswith('https://')
