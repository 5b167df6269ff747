"""int8: near the same outputs, a quarter of the bytes, and an honest report."""

import gc

import numpy as np
import pytest
from harness import IDS
from harness import SMALL
from harness import assert_close
from harness import called
from harness import save_and_reopen
from harness import to_numpy

from keraseff.layers import GlobalPointer
from keraseff.models import build_transformer_model
from keraseff.training import quantize
from keraseff.training import truncate

CONFIG = SMALL | {'hidden_size': 48, 'intermediate_size': 96, 'segment_vocab_size': 0}
CONFIG |= {'num_hidden_layers': 1}


@pytest.mark.every_backend
def test_the_outputs_are_near_and_the_file_gives_them_back(tmp_path):
    built = build_transformer_model(CONFIG, return_keras_model=False)
    model = built.model
    expected = called(model, IDS)
    dense = model.get_layer('Transformer-0-FeedForward').inner[0]
    kernel = to_numpy(dense.kernel)
    model.save(tmp_path / 'float.keras')
    report = quantize(model)
    assert len(report.layers) == 6
    assert 'Transformer-0-MultiHeadSelfAttention/output' in report.layers
    tables = {
        'Embedding-Token/embeddings': 20 * 48,
        'Embedding-Position/embeddings': 8 * 48,
    }
    assert report.left == {name: 4 * size for name, size in tables.items()}
    matrices = 4 * 48 * 48 + 2 * 48 * 96
    scales = 4 * 48 + 96 + 48
    assert report.bytes_before - report.bytes_after == 3 * matrices - 4 * scales
    assert '6 layers in int8' in str(report)
    assert 'Embedding-Token' in str(report)
    # Symmetric rounding: each column's largest number is 127.
    column = np.abs(kernel).max(0)
    assert_close(
        to_numpy(dense._kernel.value) * column / 127, kernel, atol=column.max() / 254
    )
    found = called(model, IDS)
    difference = np.abs(found - expected).max()
    assert 0 < difference < 0.05 * np.abs(expected).max()
    assert_close(called(save_and_reopen(model), IDS), found, atol=1e-6)
    assert_close(called(save_and_reopen(save_and_reopen(model)), IDS), found, atol=1e-6)
    model.save(tmp_path / 'int8.keras')
    sizes = [(tmp_path / f'{n}.keras').stat().st_size for n in ('int8', 'float')]
    assert sizes[0] < 0.85 * sizes[1]
    with pytest.raises(ValueError, match='before quantize'):
        built.save_weights_as_checkpoint(tmp_path / 'm.safetensors')
    with pytest.raises(ValueError, match='before quantize'):
        truncate(built, 1)


@pytest.mark.parametrize('family', ['gau_alpha', 't5_encoder', 'qwen2'])
def test_families_come_back_from_their_files(family):
    model = build_transformer_model(CONFIG, model=family)
    expected = called(model, IDS)
    assert quantize(model).layers
    found = called(model, IDS)
    assert np.abs(found - expected).max() < 0.05 * max(1, np.abs(expected).max())
    assert_close(called(save_and_reopen(model), IDS), found, atol=1e-6)


def test_only_what_is_asked_for():
    transformer = build_transformer_model(CONFIG, return_keras_model=False)
    sequence = transformer.model
    import keras

    model = keras.Model(sequence.input, GlobalPointer(2, 8, name='gp')(sequence.output))
    report = quantize(model, filters='^(query|key)$')
    assert {path.split('/')[-1] for path in report.layers} == {'query', 'key'}
    assert any('FeedForward' in name for name in report.left)
    with pytest.raises(ValueError, match='qery'):
        quantize(model, filters='qery')
    assert gc.get_freeze_count() == 0
    said = str(quantize(transformer, 'int4', filters='value'))
    assert said.startswith('1 layers in int4')
    with pytest.raises(ValueError, match='transformer is a keras.Model, .*False'):
        truncate(sequence, 1)
