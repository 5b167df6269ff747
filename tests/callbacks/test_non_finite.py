"""Training stops at the step in which something went wrong, and says what."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keraseff.callbacks import Checkpoint
from keraseff.callbacks import NonFinite
from keraseff.callbacks import StopOnNaN
from keraseff.data import DataGenerator

pytestmark = pytest.mark.every_backend
# XLA takes seconds a model under TensorFlow
COMPILING = {'jit_compile': keras.backend.backend() == 'jax'}


class Batches(DataGenerator):
    def encode(self, row):
        return row


class Root(keras.layers.Layer):
    """sqrt(x): NaN below 0; at 0 only its gradient is infinite."""

    def call(self, x):
        return ops.sqrt(x)


class Block(keras.layers.Layer):
    """A layer in a layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.root = Root(name='inner_root')

    def call(self, x):
        return self.root(x) + 1.0


def make_rows(count=48):
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, (count, 3)).astype('float32')
    return [(row, row[:1]) for row in x]


def make_model(layer=None, loss='mse'):
    keras.utils.set_random_seed(0)
    x = keras.Input((3,))
    h = keras.layers.Dropout(0.1, name='dropout')(x)
    if layer is not None:
        h = layer(h)
    h = keras.layers.Dense(4, name='hidden')(h)
    model = keras.Model(x, keras.layers.Dense(1, name='last')(h))
    model.compile(keras.optimizers.Adam(0.01), loss, **COMPILING)
    return model


def stopped(model, rows, every=200, epochs=3, **options):
    """The exception, the callback, the weights of each step before it."""
    batches = Batches(rows, 4, seed=1)
    stop = StopOnNaN(batches, every=every)
    with pytest.raises(NonFinite) as raised:
        model.fit(
            batches.forfit(**options),
            steps_per_epoch=len(batches),
            shuffle=False,
            epochs=epochs,
            callbacks=[stop],
            verbose=0,
        )
    return raised.value, batches


@pytest.mark.parametrize('every', [4, 200])
def test_the_layer_is_named(every):
    """In the middle of the third epoch a row is below 0, in a layer within a layer."""
    rows = make_rows(96)
    rows[19 * 4 + 2] = (-rows[0][0], rows[0][1])
    model = make_model(Block(name='block'))
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if hasattr(model, 'jax_state_sync'):
                model.jax_state_sync()
            seen.append(model.get_weights())

    batches = Batches(rows, 4, seed=1)
    with pytest.raises(NonFinite) as raised:
        model.fit(
            batches.forfit(random=False),
            steps_per_epoch=8,
            shuffle=False,
            epochs=3,
            callbacks=[Watch(), StopOnNaN(batches, every=every)],
            verbose=0,
        )
    error = raised.value
    assert (error.step, error.layer) == (19, 'inner_root')
    assert 'epoch 3, batch 3: the loss is nan' in str(error)
    assert "the output of layer 'inner_root' (Root) is the first" in str(error)
    assert '(4, 3)' in str(error)
    assert (error.batch[0] < 0).any()
    # the model has the weights from before that step
    for left, right in zip(model.get_weights(), seen[18], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)
    # and is as it was: nothing is left around its layers
    assert not any('call' in vars(layer) for layer in model._flatten_layers())


def test_inputs_labels_and_loss_are_told_apart():
    rows = make_rows()
    model = make_model()
    for part, word in ((0, 'inputs'), (1, 'labels')):
        bad = [tuple(np.array(p) for p in row) for row in rows]
        bad[21][part][:] = np.nan
        error, batches = stopped(model, bad, random=False)
        assert (error.step, error.layer) == (5, None)
        assert f'the {word} of the batch are not finite' in str(error)

    def logarithm(y_true, y_pred):
        return ops.mean(ops.log(y_true - 1.5) + y_pred)

    error, _ = stopped(make_model(loss=logarithm), rows)
    assert 'all layers are finite' in str(error)
    assert 'the loss of them is not' in str(error)


def test_only_the_gradient():
    """The loss is finite in the step that goes wrong, NaN in the next."""
    rows = make_rows()
    rows[9] = (np.zeros(3, 'float32'), rows[9][1])
    x = keras.Input((3,))
    scaled = keras.layers.Dense(3, use_bias=False, name='scale')(x)
    model = keras.Model(x, keras.layers.Dense(1)(Root()(ops.square(scaled))))
    model.compile('sgd', 'mse', **COMPILING)
    error, _ = stopped(model, rows, random=False)
    assert error.step == 2
    assert 'batch 3: the loss is' in str(error)
    assert 'not the gradient, nor after it scale/kernel' in str(error)


def test_weights_that_were_wrong_before():
    model = make_model()
    kernel, bias = model.get_layer('hidden').get_weights()
    kernel[0, 0] = np.inf
    model.get_layer('hidden').set_weights([kernel, bias])
    error, _ = stopped(model, make_rows())
    assert (error.step, error.layer) == (0, None)
    assert 'weights were not finite before it: hidden/kernel' in str(error)


def test_operations_and_arrays():
    """An operation of the graph is named too; without batches at least the step."""
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(1)(ops.log(x - 1.5)))
    model.compile('sgd', 'mse', **COMPILING)
    error, _ = stopped(model, make_rows())
    assert error.layer.startswith('log')
    rows = make_rows()
    x, y = (np.stack(part) for part in zip(*rows, strict=True))
    with pytest.raises(NonFinite, match='epoch 1, batch 0.*Give StopOnNaN') as raised:
        model.fit(x, y, callbacks=[StopOnNaN()], verbose=0)
    assert raised.value.step == 0
    for wrong in (5, (x, y)):
        with pytest.raises(ValueError, match=r'StopOnNaN\(batches\) takes the DataGen'):
            StopOnNaN(wrong)


def test_after_a_continuation(tmp_path):
    """Steps are counted from the first of all; the last good state stays saved."""
    rows = make_rows()
    batches = Batches(rows, 4, seed=1)
    options = {'steps_per_epoch': 12, 'shuffle': False, 'verbose': 0}
    saver, model = Checkpoint(tmp_path), make_model()
    model.fit(saver.stream(batches), callbacks=[saver], **options)
    rows[30] = (np.full(3, np.inf, 'float32'), rows[30][1])
    place = next(
        i
        for i, (x, _) in enumerate(itertools.islice(batches.running.since(12), 12))
        if np.isinf(x).any()
    )
    saver, model = Checkpoint(tmp_path, every=2), make_model()
    batches = Batches(rows, 4, seed=1)
    with pytest.raises(NonFinite) as raised:
        model.fit(
            saver.stream(batches),
            initial_epoch=saver.resume(model),
            epochs=2,
            callbacks=[saver, StopOnNaN(batches)],
            **options,
        )
    assert raised.value.step == 12 + place
    saver = Checkpoint(tmp_path)
    saver.resume(model)
    assert saver.steps == 12 + place - place % 2
    assert all(np.isfinite(w).all() for w in model.get_weights())
