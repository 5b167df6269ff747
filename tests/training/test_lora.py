"""Adapters: what they train, save, and become."""

import keras
import numpy as np
import pytest
from harness import IDS
from harness import SMALL
from harness import assert_close
from harness import called
from harness import save_and_reopen
from harness import to_numpy

from keraseff.callbacks import averaged_weights
from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.layers import FirstToken
from keraseff.models import build_transformer_model
from keraseff.training import add_lora
from keraseff.training import load_adapters
from keraseff.training import merge_adapters
from keraseff.training import quantize
from keraseff.training import rematerialise
from keraseff.training import save_adapters

CONFIG = SMALL | {'segment_vocab_size': 0, 'num_hidden_layers': 1}
LABELS = np.array([0, 2])
PATTERN = r'SelfAttention/(query|value)$'
PLACES = [f'Transformer-{i}-MultiHeadSelfAttention' for i in range(1)]


def base(seed=0, **options):
    """A transformer, and a classifier on its first token."""
    keras.utils.set_random_seed(seed)
    transformer = build_transformer_model(CONFIG, return_keras_model=False, **options)
    x = FirstToken()(transformer.output)
    x = keras.layers.Dense(3, name='classifier', dtype='float32')(x)
    return transformer, keras.Model(transformer.input, x)


def train(model, steps=3):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return [float(model.train_on_batch(IDS, LABELS)) for _ in range(steps)]


@pytest.fixture(scope='module')
def tuned(tmp_path_factory):
    """A model with trained adapters, their file, and its outputs before training."""
    transformer, model = base()
    plain = called(model, IDS)
    before = {v.path: to_numpy(v.value) for v in model.variables}
    paths = add_lora(model, PATTERN, rank=2, alpha=8, train='classifier')
    begun = called(model, IDS)
    losses = train(model, 6)
    file = tmp_path_factory.mktemp('lora') / 'task.safetensors'
    save_adapters(model, file)
    return transformer, model, file, plain, begun, before, paths, losses


@pytest.mark.every_backend
def test_only_adapters_and_heads_are_trained(tuned):
    _, model, _, plain, begun, before, paths, losses = tuned
    assert sorted(paths) == [f'{p}/{q}' for p in PLACES for q in ('query', 'value')]
    assert_close(begun, plain, atol=0, rtol=0)  # an adapter begins at 0
    assert losses[-1] < losses[0]
    trained = 2 * 2 * (12 * 2) + 12 * 3 + 3
    assert sum(np.prod(v.shape) for v in model.trainable_variables) == trained
    for v in model.variables:
        if v.path in before and 'classifier' not in v.path and 'seed' not in v.path:
            assert_close(v.value, before[v.path], atol=0, rtol=0)
    assert np.abs(called(model, IDS) - plain).max() > 1e-2


@pytest.mark.every_backend
def test_adapters_travel_alone_and_merge(tuned, tmp_path):
    _, model, file, plain, *_ = tuned
    expected = called(model, IDS)
    assert len(open_checkpoint(file)) == 4 + 2
    transformer, fresh = base()  # the same base, in a program of its own
    assert_close(called(fresh, IDS), plain)
    load_adapters(fresh, file)
    assert_close(called(fresh, IDS), expected)
    assert len(fresh.trainable_variables) == 4 + 2
    with pytest.raises(ValueError, match='merge_adapters'):
        transformer.save_weights_as_checkpoint(tmp_path / 'm.safetensors')
    merge_adapters(fresh)
    assert_close(called(fresh, IDS), expected)
    assert len(fresh.trainable_variables) == len(base()[1].trainable_variables)
    assert not any('lora' in v.path for v in fresh.variables)
    assert_close(called(save_and_reopen(fresh), IDS), expected)
    transformer.save_weights_as_checkpoint(tmp_path / 'm.safetensors')
    again = build_transformer_model(CONFIG, tmp_path / 'm.safetensors')
    assert_close(called(again, IDS), called(transformer.model, IDS))
    # By hand: W + α/r A B.
    dense = model.get_layer(PLACES[0]).q_dense
    a, b = (to_numpy(v.value) for v in (dense.lora_kernel_a, dense.lora_kernel_b))
    merged = to_numpy(fresh.get_layer(PLACES[0]).q_dense.kernel)
    assert_close(merged, to_numpy(dense._kernel.value) + 8 / 2 * a @ b)
    assert np.isfinite(train(fresh, 2)).all()  # plain, and can be trained


def test_a_keras_file_of_an_unmerged_model_has_the_sums(tuned):
    _, model, *_ = tuned
    assert_close(called(save_and_reopen(model), IDS), called(model, IDS))


def test_adapters_that_do_not_fit_change_nothing(tuned, tmp_path):
    _, model, file, *_ = tuned
    keras.utils.set_random_seed(0)
    small = build_transformer_model(CONFIG, prefix='My-')
    before = small.get_weights()
    with pytest.raises(CheckpointError, match='Transformer-0-Mul.* is no layer'):
        load_adapters(small, file)
    assert_close(small.get_weights(), before, atol=0)
    other = base(attention_head_size=6)[1]
    with pytest.raises(CheckpointError, match=r'has a matrix \(12, 18\)'):
        load_adapters(other, file)
    with pytest.raises(ValueError, match='already'):
        add_lora(model, 'query')
    with pytest.raises(ValueError, match='finds none of the layers'):
        add_lora(small, 'Embedding-Token')
    with pytest.raises(ValueError, match="train='clasifier' finds no layer"):
        add_lora(small, 'query', train='clasifier')
    with pytest.raises(ValueError, match='no adapters'):
        save_adapters(small, tmp_path / 'x.safetensors')
    (tmp_path / 'cfg.json').write_text('{"hidden_size": 12}')
    with pytest.raises(CheckpointError, match='expected a `.safetensors` file'):
        load_adapters(small, tmp_path / 'cfg.json')
    with pytest.raises(ValueError, match='no adapters to merge'):
        merge_adapters(small)


@pytest.mark.every_backend
def test_adapters_on_an_int8_base_that_rematerialises():
    transformer, model = base()
    reference = called(model, IDS)
    quantize(transformer.model)
    rematerialise(model)
    assert add_lora(transformer, PATTERN, rank=2)
    add_lora(model, 'classifier', rank=2)
    assert np.abs(called(model, IDS) - reference).max() < 0.05
    kernel = model.get_layer(PLACES[0]).q_dense._kernel
    assert str(kernel.dtype) == 'int8'
    before = to_numpy(kernel.value)
    losses = train(model, 5)
    assert losses[-1] < losses[0]
    assert_close(kernel.value, before, atol=0)
    expected = called(model, IDS)
    merge_adapters(model)
    assert np.abs(called(model, IDS) - expected).max() < 0.05


def test_a_merged_model_trains_on_as_if_compiled_again():
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Dense(3, name='out')(x))
    add_lora(model, 'out', rank=2)
    model.compile(keras.optimizers.Adam(0.01), 'mse')
    data = np.eye(4, dtype='float32'), np.ones((4, 3), 'float32')
    model.fit(*data, verbose=0)
    merge_adapters(model)
    plain = keras.Model(x, keras.layers.Dense(3)(x))
    plain.compile(keras.optimizers.Adam(0.01), 'mse')
    plain.set_weights(model.get_weights())
    for one in (model, plain):
        one.fit(*data, verbose=0, epochs=2, shuffle=False)
    assert_close(model.get_weights(), plain.get_weights())


def test_the_averages_of_adapters_are_evaluated():
    # EMA evaluation knows nothing of adapters, and need not.
    _, model = base()
    add_lora(model, PATTERN, rank=2)
    optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    adapters = model.trainable_variables
    model.train_on_batch(IDS, LABELS)
    averages = [to_numpy(v.value) for v in adapters]  # they begin after a step
    for _ in range(2):
        model.train_on_batch(IDS, LABELS)
        averages = [
            (a + to_numpy(v.value)) / 2 for a, v in zip(averages, adapters, strict=True)
        ]
    last = [to_numpy(v.value) for v in adapters]
    outputs = called(model, IDS)
    with averaged_weights(model):
        assert_close([v.value for v in adapters], averages)
        assert np.abs(called(model, IDS) - outputs).max() > 1e-6
    assert_close([v.value for v in adapters], last, atol=0)
