"""What `test_distribution.py` runs in processes of their own: python devices.py NAME.

Virtual devices must be asked for before the framework starts.
"""

# ruff: noqa: E402
import os
import sys
import tempfile

BACKEND = os.environ['KERAS_BACKEND']
# TensorFlow has one number of devices a process.
COUNT = 4 if BACKEND == 'jax' else 2
ALONE = 'KERAS_DISTRIBUTION_JOB_ADDRESSES' not in os.environ
ALONE = ALONE and __name__ == '__main__'
if BACKEND == 'jax' and ALONE:
    os.environ['XLA_FLAGS'] = (
        f'--xla_force_host_platform_device_count={COUNT} '
        '--xla_backend_optimization_level=0'
    )
if BACKEND == 'tensorflow' and ALONE:
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices('CPU')
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * COUNT
    )

import keras
import numpy as np

from keraseff.callbacks import Evaluator
from keraseff.layers import Embedding
from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.layouts import data_parallel
from keraseff.models.layouts import split_axis
from keraseff.optimizers import LAMB
from keraseff.optimizers import extend_with_gradient_accumulation
from keraseff.training import adversarial_training
from keraseff.training.distribution import bytes_per_device
from keraseff.training.distribution import distribute
from keraseff.training.distribution import distribution
from keraseff.training.distribution import layout_map
from keraseff.training.distribution import processes
from keraseff.training.distribution import stop_distributing
from keraseff.training.distribution import whole_batches

DRAW = np.random.default_rng(0)
X = DRAW.integers(0, 9, (8, 5))
Y = DRAW.normal(size=(8, 1)).astype('float32')


def build(optimizer=None, **options):
    keras.utils.set_random_seed(3)
    ids = keras.Input((5,), dtype='int32')
    x = Embedding(9, 6, name='Embedding-Token')(ids)
    x = keras.layers.Dropout(0.2 if BACKEND == 'jax' else 0.0)(x)
    x = keras.layers.Dense(8, 'tanh')(keras.layers.Flatten()(x))
    model = keras.Model(ids, keras.layers.Dense(1)(x))
    model.compile(optimizer or keras.optimizers.Adam(0.05), 'mse', **options)
    return model


def weights(model):
    arrays = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    return np.concatenate([np.ravel(a) for a in arrays])


def train(model, batch_size=4, x=X, y=Y, **options):
    """Two steps."""
    model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0, **options)
    return weights(model)


def close(a, b, atol=1e-5):
    np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def steps():
    """Trained on several devices: made there, brought there, under bert4keras' name."""
    whole = train(build())
    with distribution('data'):
        fresh = build()
        close(train(fresh), whole)
        assert len(bytes_per_device(fresh)) == COUNT
    close(fresh.predict(X, verbose=0), build_with(whole).predict(X, verbose=0))
    half = build()
    train(half, x=X[:4], y=Y[:4])
    assert distribute(half, devices=2) is half
    close(train(half, x=X[4:], y=Y[4:]), whole)
    assert len(bytes_per_device(half)) == 2
    stop_distributing()
    model = data_parallel(build(), devices=2, parts=2)
    # JAX takes the mean over the batch, not over each part, so it need not be even.
    rows = 3 if BACKEND == 'jax' else 4
    found = train(model, rows)
    stop_distributing()
    close(found, train(build(), rows) if BACKEND == 'jax' else whole)


def build_with(vector):
    model = build()
    for variable in model.trainable_variables:
        size = int(np.prod(variable.shape))
        variable.assign(vector[:size].reshape(variable.shape))
        vector = vector[size:]
    return model


def tricks():
    """FGM, an optimizer of ours that accumulates, an Evaluator that is interrupted."""

    # Each half of a batch is alike, for under TensorFlow each device has an own FGM.
    x, y = X[[0, 1, 0, 1, 2, 3, 2, 3]], Y[[0, 1, 0, 1, 2, 3, 2, 3]]

    def epochs(folder, *stops):
        for stop in stops:
            optimizer = extend_with_gradient_accumulation(LAMB)
            model = build(optimizer(0.05, grad_accum_steps=2))
            adversarial_training(model, 'Embedding-Token', epsilon=0.3)
            evaluator = Evaluator(lambda m=model: -m.evaluate(x, y, verbose=0), folder)
            start = evaluator.resume(model)
            callbacks = {'initial_epoch': start, 'callbacks': [evaluator]}
            train(model, x=x, y=y, epochs=stop, **callbacks)
        return weights(model), evaluator.best

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        whole, best = epochs(one, 2)
        with distribution('data', devices=2):
            found, found_best = epochs(two, 1, 2)
    close(found, whole)
    close(found_best, best)


SIZES = {
    'vocab_size': 40,
    'hidden_size': 16,
    'num_hidden_layers': 1,
    'num_attention_heads': 2,
    'intermediate_size': 24,
    'max_position': 8,
}
HEADS = {'mlm': 'linear', 'lm': 'linear'}


def outputs(model):
    """Of two texts, in one call of the compiler."""
    ids = np.array([[2, 5, 6, 3], [2, 9, 3, 0]])
    inputs = [ids if 'Segment' not in x.name else ids * 0 for x in model.inputs]
    return model.predict_on_batch(inputs if len(inputs) > 1 else inputs[0])


def check_share(model, shards):
    """Each device holds its part of what is split, and the rest."""
    share = 0
    for v in model.variables:
        split = split_axis(v.path, v.shape, shards) is not None
        share += v.value.nbytes // (shards if split else 1)
    held = bytes_per_device(model)
    assert len(held) == COUNT
    assert {*held.values()} == {share}, (held, share)
    assert share < 0.65 * sum(v.value.nbytes for v in model.variables)


def families():
    """Every family with its matrices split in two, and one in four."""
    for name in sorted({cls: name for name, cls in MODELS.items()}.values()):
        if name.endswith(('_encoder', '_decoder')):
            continue  # parts of T5
        heads = {f'with_{h}': HEADS[h] for h in MODELS[name].heads if h in HEADS}
        model = build_transformer_model(SIZES, model=name, **heads)
        whole = outputs(model)
        distribute(model, 'model', shards=4 if name == 'bert' else 2)
        close(outputs(model), whole, atol=2e-5)
        check_share(model, 4 if name == 'bert' else 2)
        stop_distributing()


def loading():
    """A checkpoint goes to its devices by parts, and training keeps them there."""
    whole = build_transformer_model(SIZES, with_mlm=True, return_keras_model=False)
    with tempfile.TemporaryDirectory() as folder:
        whole.save_weights_as_checkpoint(f'{folder}/model.safetensors')

        def make():
            path = f'{folder}/model.safetensors'
            return build_transformer_model(SIZES, path, with_mlm='linear')

        model = distribute(make, 'model', shards=2)
    check_share(model, 2)
    for a, b in zip(whole.model.variables, model.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    model.compile('adam', keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = DRAW.integers(2, 40, (4, 4))
    model.fit([ids, ids * 0], ids, verbose=0)
    check_share(model, 2)
    moments = [v for v in model.optimizer.variables if len(v.shape) == 2]
    parts = [v.value.addressable_shards[0].data.size / v.value.size for v in moments]
    assert np.mean(np.array(parts) == 0.5) > 0.7
    layouts = layout_map(model, keras.distribution.distribution().device_mesh)
    for v in model.variables:
        wanted = layouts[v.path] or keras.distribution.TensorLayout(
            (), v._layout.device_mesh
        )
        assert v.value.sharding.is_equivalent_to(wanted.backend_layout, len(v.shape))
    stop_distributing()


def keep(folder, scores):
    """A model trained with an Evaluator in two parts: [last weights, best weights]."""

    def part(epochs):
        model = build()
        evaluator = Evaluator(lambda: scores[len(evaluator.history)], folder)
        start = evaluator.resume(model)
        train(model, initial_epoch=start, epochs=epochs, callbacks=[evaluator])
        return model, evaluator

    part(1)
    model, evaluator = part(2)
    found = weights(model)
    assert evaluator.load_best(model)
    return model, np.stack([found, weights(model)])


def member():
    """One of several processes that train one model; the weights go to a file."""
    distribute(how='data')
    index = int(os.environ['KERAS_DISTRIBUTION_PROCESS_ID'])
    assert processes() == (index, 2)
    # Each by itself would keep another epoch, and only one has a disk to keep it.
    folder = os.path.join(sys.argv[2], str(index))
    model, found = keep(folder, [[0.5, 0.1], [0.1, 0.5]][index])
    assert os.path.isdir(folder) == (index == 0)
    with whole_batches():
        scores = model.predict(X, batch_size=4, verbose=0)
    np.savez(f'{sys.argv[2]}/{index}.npz', weights=found, scores=scores)


def alone(folder):
    """What the members should find: (weights, scores)."""
    model, found = keep(folder, [0.5, 0.1])
    return found, model.predict(X, verbose=0)


def spread():
    """All that is trained, in one process, for frameworks are slow to start."""
    steps()
    tricks()


def split():
    """All that matrices in parts are tested for."""
    loading()
    families()


if __name__ == '__main__':
    globals()[sys.argv[1]]()
