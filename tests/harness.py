"""The contracts that every layer, mechanism, family and optimizer must meet."""

import re
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keraseff.checkpoints import expand
from keraseff.checkpoints import open_checkpoint
from keraseff.layers import Embedding
from keraseff.layers import Mask
from keraseff.layers import MultiHeadAttention
from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.loading import named_variables

# A BERT of the smallest kind, and two texts for it, the second with padding.
SMALL = {
    'vocab_size': 20,
    'hidden_size': 12,
    'num_hidden_layers': 2,
    'num_attention_heads': 3,
    'intermediate_size': 16,
    'max_position': 8,
}
IDS = np.array([[2, 5, 6, 3], [2, 9, 3, 0]])


def to_numpy(value):
    """Any nest of tensors as the same nest of numpy arrays."""
    return keras.tree.map_structure(ops.convert_to_numpy, value)


def assert_close(a, b, atol=1e-5, rtol=1e-5):
    """Two nests of tensors agree, leaf by leaf."""
    flat_a, flat_b = keras.tree.flatten(a), keras.tree.flatten(b)
    assert len(flat_a) == len(flat_b)
    for x, y in zip(flat_a, flat_b, strict=True):
        x, y = ops.convert_to_numpy(x), ops.convert_to_numpy(y)
        np.testing.assert_allclose(x, y, atol=atol, rtol=rtol)


def gradients(f, *arrays):
    """Gradients of the scalar f(*tensors), on whichever backend runs."""
    backend = keras.backend.backend()
    if backend == 'torch':
        import torch

        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        found = torch.autograd.grad(f(*tensors), tensors, allow_unused=True)
        zero = [np.zeros_like(a) for a in arrays]
        return [z if g is None else g.numpy() for g, z in zip(found, zero, strict=True)]
    if backend == 'jax':
        import jax

        found = jax.jit(jax.grad(f, argnums=tuple(range(len(arrays)))))(*arrays)
        return [np.asarray(g) for g in found]
    import tensorflow as tf

    tensors = [tf.constant(a) for a in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = f(*tensors)
    zero = tf.UnconnectedGradients.ZERO
    found = tape.gradient(value, tensors, unconnected_gradients=zero)
    return [tf.convert_to_tensor(g).numpy() for g in found]  # some are sparse


def save_and_reopen(model):
    """The model after a trip through a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'model.keras')
        model.save(path)
        return keras.models.load_model(path)


def randomise(model, seed=0):
    """Give every weight a random value, so that none hides behind zeros or ones."""
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        value = draw.normal(0, 0.3, weight.shape)
        weight.assign(value + (1 if weight.path.endswith('gamma') else 0))


def check_layer(make, *inputs, call=None, padded=True, half_tolerance=3e-2):
    """The contract of a layer.

    Args:
        make: a function of keyword arguments (`dtype`) that makes the layer.
        inputs: arrays (b, n, e), the first of them a sequence.
        call: how the layer is called on tensors; by default layer(*tensors).
        padded: steps of padding after the first input change no step before them.
        half_tolerance: how far mixed float16 may be from float32.
    """
    call = call or (lambda layer, *tensors: layer(*tensors))
    layer = make()
    expected = _caller(call, layer, inputs)(*inputs)
    model = _model(call, layer, inputs)
    shapes = [tuple(t.shape) for t in keras.tree.flatten(model.output)]
    found = [x.shape for x in keras.tree.flatten(expected)]
    for shape, seen in zip(shapes, found, strict=True):
        assert all(s is None or s == t for s, t in zip(shape, seen, strict=True))
    assert_close(model.predict(list(inputs), verbose=0), expected)
    _check_saving(layer, model, inputs, expected)
    if padded:
        _check_padding(call, layer, inputs, expected)
    _check_half(make, call, layer, inputs, expected, half_tolerance)
    _check_fit(make, call, inputs)


def _caller(call, layer, inputs):
    """call(layer, *arrays) as numpy, of a layer that `inputs` may have to build.

    JAX, which would compile each operation by itself, compiles them all as one.
    """
    if keras.backend.backend() != 'jax':
        return lambda *arrays: to_numpy(call(layer, *arrays))
    import jax

    if not layer.built:
        _model(call, layer, inputs)

    def stateless(*tensors):
        with keras.StatelessScope():
            return call(layer, *tensors)

    compiled = jax.jit(stateless)
    return lambda *arrays: to_numpy(compiled(*arrays))


def _model(call, layer, inputs):
    symbols = [keras.Input((None, *x.shape[2:]), dtype=str(x.dtype)) for x in inputs]
    return keras.Model(symbols, call(layer, *symbols))


def _check_saving(layer, model, inputs, expected):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert_close(save_and_reopen(model).predict(list(inputs), verbose=0), expected)


def _check_padding(call, layer, inputs, expected):
    x, rest = inputs[0], inputs[1:]
    n = x.shape[1]
    noise = np.full((x.shape[0], 3, *x.shape[2:]), 7, x.dtype)
    mask = np.arange(n + 3)[None] < np.full((len(x), 1), n)
    longer = np.concatenate([x, noise], axis=1)

    def masked(layer, x, *rest):
        x = ops.convert_to_tensor(x)
        keras.src.backend.set_keras_mask(x, ops.convert_to_tensor(mask))
        return call(layer, x, *rest)

    found = _caller(masked, layer, inputs)(longer, *rest)
    for full, short in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        cut = tuple(slice(0, size) for size in short.shape)
        np.testing.assert_allclose(full[cut], short, atol=1e-5, rtol=1e-5)


def _check_half(make, call, layer, inputs, expected, tolerance):
    half = make(dtype='mixed_float16')
    caller = _caller(call, half, inputs)
    if not half.built:
        caller(*inputs)
    for new, old in zip(half.weights, layer.weights, strict=True):
        new.assign(old)
    found = caller(*inputs)
    for x, y in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        assert np.isfinite(x).all()
        seen = np.abs(y) < 1e4
        np.testing.assert_allclose(
            x[seen].astype('float32'), y[seen], atol=tolerance, rtol=tolerance
        )


def _check_fit(make, call, inputs):
    layer = make()
    model = _model(call, layer, inputs)
    if not model.trainable_weights:
        return
    outputs = model.predict(list(inputs), verbose=0)
    flat = keras.tree.flatten(outputs)
    target = [np.where(np.abs(o) < 1e4, 0, o) for o in flat]
    before = to_numpy([w.value for w in model.trainable_weights])
    model.compile(keras.optimizers.SGD(1e-3), ['mse'] * len(flat))
    history = model.fit(
        list(inputs), target if len(flat) > 1 else target[0], epochs=1, verbose=0
    )
    assert np.isfinite(history.history['loss']).all()
    moved = [
        not np.array_equal(a, to_numpy(w.value))
        for a, w in zip(before, model.trainable_weights, strict=True)
    ]
    assert any(moved)


# Options with which a mechanism does more than nothing on a few steps.
MECHANISM_OPTIONS = {
    'atrous': {'rate': 2},
    'diag': {'block': 4},
    'fixed': {'stride': 3, 'c': 1},
    'linear': {'chunk': 4},
    'linformer': {'length': 16, 'k': 3},
    'local': {'reach': 2},
    'sparse': {'rate': 3, 'reach': 1},
    'strided': {'stride': 3},
    'synthesizer': {'length': 16},
    'top_k': {'k': 3},
    'vq': {'codes': 5, 'block': 2},
}


def check_mechanism(mechanism, position=None, options=None):
    """The contract of an attention mechanism, inside an attention layer.

    Args:
        mechanism: its name, or a function that makes a fresh instance.
        position: a position's name or None.
        options: a dict of the mechanism's arguments, where it is a name.

    Asking one that cannot be causal to be so must raise ValueError.
    """
    make = mechanism if callable(mechanism) else lambda: mechanism

    def attention(causal=False, **kwargs):
        return MultiHeadAttention(
            2,
            4,
            out_dim=6,
            mechanism=make(),
            mechanism_options=options,
            position=position,
            causal=causal,
            **kwargs,
        )

    x = np.random.default_rng(1).normal(size=(2, 7, 6)).astype('float32')
    check_layer(attention, x)
    if not attention().mechanism.can_be_causal:
        with pytest.raises(ValueError, match='causal'):
            attention(causal=True)
        return
    layer = attention(causal=True)
    caller = _caller(lambda layer, x: layer(x), layer, [x])
    before = caller(x)
    later = x.copy()
    later[:, 4:] += 1
    after = caller(later)
    np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-5)
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-4
    (seen,) = gradients(lambda t: ops.sum(layer(t)[:, 2]), x)
    assert not seen[:, 3:].any()
    assert seen[:, :3].any()
    _check_mask_matrix()


def _check_mask_matrix():
    padding = np.array([[True, True, False], [True, True, True]])
    found = to_numpy(Mask(padding, causal=True).matrix(3, 3))
    lower = np.tril(np.ones((3, 3), bool))
    np.testing.assert_array_equal(found, (padding[:, None] & lower)[:, None])


HEAD_OPTIONS = {'pool': True, 'nsp': 'linear', 'mlm': 'linear', 'lm': 'linear'}


def check_family(name, config, **options):
    """The contract of a model family: tables, files, masks.

    Args:
        name: its name in `MODELS`.
        config: a dict of options, small.
        options: keyword options of `build_transformer_model`.

    Every head the family knows is put on.  Each table must name all of the model's
    variables, and repeat no slot of a file; every format gives back equal outputs;
    padding changes nothing, and no layer is left unbuilt.

    Returns:
        The names of the variables, for `check_tables`.
    """
    heads = {f'with_{head}': HEAD_OPTIONS[head] for head in MODELS[name].heads}
    heads |= options
    built = build_transformer_model(
        config, model=name, return_keras_model=False, **heads
    )
    randomise(built.model)
    variables = set(named_variables(built))
    assert len(variables) == len(built.model.weights)
    for dialect in MODELS[name].names:
        rows = built.table(dialect)
        assert variables <= set(rows), variables - set(rows)
    inputs = family_inputs(built.model)
    # JAX's predict would run the whole model eagerly for one layer that is not built.
    assert all(layer.built for layer in built.model._flatten_layers())
    expected = built.model.predict(inputs, verbose=0)
    _check_formats(name, config, heads, built, inputs, expected)
    longer = keras.tree.map_structure(lambda a: np.pad(a, ((0, 0), (0, 2))), inputs)
    found = called(built.model, longer)
    for x, y in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        assert_close(x[:, :6] if y.ndim > 2 else x, y)
    return {re.sub(r'\d+', '{i}', variable) for variable in variables}


def check_contract(name, configs, **options):
    """`check_family` of unlike configs, and `check_tables` of them all."""
    found = [check_family(name, config, **options) for config in configs]
    check_tables(name, set().union(*found))


def check_tables(name, found):
    """The tables of a family name nothing that no model of it has.

    Args:
        name: its name in `MODELS`.
        found: all that `check_family` returned for unlike configs of it.
    """
    for dialect, table in MODELS[name].names.items():
        lefts = {re.sub(r'\d+', '{i}', left) for left in expand(table, 1)}
        assert lefts == found, f'{dialect}: {lefts ^ found}'


def family_inputs(model):
    """Token ids with padding (2, 6), and segment ids where the model wants them."""
    ids = np.array([[2, 5, 6, 3, 7, 3], [2, 9, 3, 4, 3, 0]])
    segments = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]])
    found = [segments if 'Segment' in x.name else ids for x in model.inputs]
    return found if len(found) > 1 else found[0]


def _check_formats(name, config, heads, built, inputs, expected):
    weights = built.model.get_weights()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for dialect, file in (
            ('huggingface', 'm.safetensors'),
            ('tensorflow', 'm.ckpt'),
        ):
            if dialect not in built.names:
                continue
            built.save_weights_as_checkpoint(folder / file)
            assert open_checkpoint(folder / file).dialect == dialect
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                again = build_transformer_model(
                    config, folder / file, model=name, **heads
                )
            assert_close(again.get_weights(), weights, atol=0, rtol=0)
        built.model.save_weights(folder / 'm.weights.h5')
        again = build_transformer_model(config, model=name, **heads)
        again.load_weights(folder / 'm.weights.h5')
        assert_close(again.get_weights(), weights, atol=0, rtol=0)
    assert_close(called(save_and_reopen(built.model), inputs), expected)


def called(model, inputs):
    """The outputs of a model for arrays, without compiling it."""
    tensors = keras.tree.map_structure(ops.convert_to_tensor, inputs)
    return to_numpy(model(tensors))


def check_optimizer(make, steps=4):
    """The contract of an optimizer: it descends, saves, resumes and tolerates half.

    Args:
        make: a function that makes it.
        steps: of training before the interruption, and after it.

    Training, saving, reopening and training on must equal training straight through.
    """
    draw = np.random.default_rng(2)
    ids = draw.integers(0, 9, (8, 5))
    labels = draw.normal(size=(8, 1)).astype('float32')

    def model():
        keras.utils.set_random_seed(3)
        i = keras.Input((5,), dtype='int32')
        x = Embedding(9, 6, name='Embedding-Token')(i)
        x = keras.layers.Dense(1)(keras.layers.Flatten()(x))
        m = keras.Model(i, x)
        m.compile(make(), 'mse')
        return m

    straight = model()
    losses = [straight.train_on_batch(ids, labels) for _ in range(2 * steps)]
    assert losses[-1] < losses[0]
    halted = model()
    for _ in range(steps):
        halted.train_on_batch(ids, labels)
    resumed = save_and_reopen(halted)
    for _ in range(steps):
        resumed.train_on_batch(ids, labels)
    assert_close(resumed.get_weights(), straight.get_weights(), atol=1e-6)
    config = make().get_config()
    assert type(make()).from_config(config).get_config() == config
