"""Random models of transformers, and what ours must have in common with them."""

import json
import os
import subprocess

import keras
import numpy as np
import pytest
from harness import assert_close
from harness import gradients
from keras import ops

from keraseff.models import build_transformer_model


def make_peer(kind, folder, config, seed=0, **save):
    """A random model of transformers, saved in `folder`.

    Args:
        kind: its class, such as 'BertForPreTraining'.
        folder: where `save_pretrained` writes.
        config: keyword arguments of its config class.
        save: keyword arguments of `save_pretrained`.

    All weights are shaken, so that none hides behind zeros or ones.
    """
    torch = pytest.importorskip('torch')
    transformers = pytest.importorskip('transformers')
    model_class = getattr(transformers, kind)
    torch.manual_seed(seed)
    model = model_class(model_class.config_class(**config)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if 'embed_positions' not in name:
                weight.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(folder, **save)
    return model


def padded_batch(vocab_size, segments=2, pad=0):
    """Ids and segments (4, 11): two-segment texts of several lengths, and padding."""
    draw = np.random.default_rng(3)
    ids = draw.integers(1, vocab_size, (4, 11))
    types = np.zeros((4, 11), int)
    for row, (first, length) in enumerate([(4, 11), (3, 7), (2, 4), (6, 9)]):
        ids[row, length:] = pad
        types[row, first:length] = max(segments - 1, 0)
    return ids, types


def run_peer(model, ids, types=None, real=None, **inputs):
    """All outputs of a transformers model, as numpy arrays.

    Args:
        ids, types: (b, n) integers; None leaves an input out.
        real: (b, n), true where a token is no padding; by default where ids > 0.
    """
    import torch

    if types is not None:
        inputs['token_type_ids'] = types
    inputs['attention_mask'] = ((ids > 0) if real is None else real).astype('int64')
    inputs = {k: torch.as_tensor(np.asarray(v)) for k, v in inputs.items()}
    with torch.no_grad():
        out = model(input_ids=torch.tensor(ids), **inputs)
    return {k: v.numpy() for k, v in out.items() if hasattr(v, 'numpy')}


def output_and_gradient(model, inputs, weigh):
    """The output, and d sum(output × weigh) / d token embeddings, of a Keras model.

    Args:
        model: with one output.
        inputs: list of arrays.
        weigh: an array of the output's shape.

    Both from one compiled call, where the backend compiles.
    """
    variables = model.trainable_variables
    (index,) = (
        k for k, v in enumerate(variables) if v.path.endswith('Token/embeddings')
    )
    rest = [v.value for v in model.non_trainable_variables]
    values = [v.value for v in variables]
    seen = []

    def f(embeddings):
        trained = [*values[:index], embeddings, *values[index + 1 :]]
        given = inputs if len(inputs) > 1 else inputs[0]
        out, _ = model.stateless_call(trained, rest, given)
        seen.append(out)
        return ops.sum(out * weigh)

    inputs = [ops.convert_to_tensor(x) for x in inputs]
    weigh = ops.convert_to_tensor(weigh.astype('float32'))
    start = ops.convert_to_numpy(variables[index].value)
    if keras.backend.backend() != 'jax':
        gradient = gradients(f, start)[0]
        return ops.convert_to_numpy(ops.stop_gradient(seen[-1])), gradient
    import jax

    def with_output(embeddings):
        return f(embeddings), seen[-1]

    call = jax.jit(jax.value_and_grad(with_output, has_aux=True))
    (_, out), gradient = call(start)
    return np.asarray(out), np.asarray(gradient)


def embedding_gradient(model, inputs, weigh):
    """The second of `output_and_gradient`."""
    return output_and_gradient(model, inputs, weigh)[1]


def peer_gradient(model, output, weigh, ids, types=None, real=None, **inputs):
    """The same of a transformers model's output of that name."""
    import torch

    if types is not None:
        inputs['token_type_ids'] = types
    inputs['attention_mask'] = ((ids > 0) if real is None else real).astype('int64')
    inputs = {k: torch.as_tensor(np.asarray(v)) for k, v in inputs.items()}
    out = model(input_ids=torch.tensor(ids), **inputs)[output]
    words = model.get_input_embeddings().weight
    loss = (out * torch.tensor(weigh.astype('float32'))).sum()
    # A padding_idx makes torch drop that row's gradient.
    (found,) = torch.autograd.grad(loss, words)
    return found.numpy()


def assert_gradients_close(found, expected, rows=None):
    """Within 1e-3 of the largest entry; `rows` are compared only if given."""
    rows = slice(None) if rows is None else rows
    scale = np.abs(expected[rows]).max()
    assert scale > 0
    np.testing.assert_allclose(found[rows] / scale, expected[rows] / scale, atol=1e-3)


def check_against_peer(
    peer, folder, output, ids, types=None, real=None, pick=None, rows=None, **options
):
    """Ours, opened from the folder, gives the peer's output and gradient.

    Args:
        peer: what `make_peer` returned for that folder.
        output: its output's name; (b, n, …) is compared where `real` is true, (b, …)
            everywhere.
        ids, types, real: as for `run_peer`.
        pick: which of several outputs of ours it is.
        rows: rows of the embeddings whose gradients are compared; all by default but
            row 0, whose gradient torch drops where it is the padding.
        options: of `build_transformer_model`.

    Within 1e-4, and 1e-3 of the largest gradient.
    """
    theirs = run_peer(peer, ids, types, real)[output]
    seen = ids > 0 if real is None else real
    inputs = [ids] if types is None else [ids, types]
    ours = build_transformer_model(folder, folder, **options)
    if pick is not None:
        ours = keras.Model(ours.inputs, ours.outputs[pick])
    where = seen if theirs.ndim > 2 else slice(None)
    weigh = np.random.default_rng(5).normal(size=theirs.shape)
    if theirs.ndim > 2:
        weigh = weigh * seen[..., None]
    found, gradient = output_and_gradient(ours, inputs, weigh)
    assert_close(found[where], theirs[where], atol=1e-4, rtol=1e-4)
    expected = peer_gradient(peer, output, weigh, ids, types, real)
    rows = slice(1, None) if rows is None else rows
    assert_gradients_close(gradient, expected, rows)


def check_saving(kind, folder, ids, types=None, real=None, **options):
    """transformers opens what we save in place of a peer's file, and agrees.

    Args:
        kind: the class of transformers; its output is `logits`.
        folder: where `make_peer` wrote one.
        ids, types, real: as for `run_peer`.
        options: of `build_transformer_model`.
    """
    transformers = pytest.importorskip('transformers')
    ours = build_transformer_model(folder, folder, return_keras_model=False, **options)
    for weight in ours.model.weights:
        weight.assign(weight.value * 0.5)
    ours.save_weights_as_checkpoint(folder / 'model.safetensors')
    again, report = getattr(transformers, kind).from_pretrained(
        folder, output_loading_info=True
    )
    wrong = {'missing_keys', 'unexpected_keys', 'mismatched_keys'} & set(report)
    assert not any(report[key] for key in wrong), report
    theirs = run_peer(again.eval(), ids, types, real)['logits']
    found = ours.model.predict(ids if types is None else [ids, types], verbose=0)
    seen = ids > 0 if real is None else real
    assert_close(found[seen], theirs[seen], atol=1e-4, rtol=1e-4)


def check_against_bert4keras(case, data_dir, atol=1e-5, change=None, **options):
    """Ours gives the outputs that bert4keras gave, stored beside the real data.

    Args:
        case: the name of a row of `cases.json`.
        data_dir: the fixture.
        change: what turns our list of outputs into theirs.
        options: of `build_transformer_model`.
    """
    folder = data_dir.parent / 'peers' / 'bert4keras'
    if not folder.is_dir():
        pytest.skip("no outputs of bert4keras beside the real data, in '../peers'")
    with np.load(folder / f'{case}.npz') as stored:
        arrays = {name: stored[name] for name in stored.files}
    config = json.loads((folder / 'config.json').read_text())
    check_arrays(arrays, config, atol, change, **options)


def check_arrays(arrays, config, atol=1e-5, change=None, **options):
    """Ours gives the outputs in `arrays` ('w:…', 'in:…', 'out:…') for its inputs."""
    weights = {name[2:]: a for name, a in arrays.items() if name.startswith('w:')}
    inputs = [arrays[name] for name in sorted(arrays) if name.startswith('in:')]
    outputs = [arrays[name] for name in sorted(arrays) if name.startswith('out:')]
    model = build_transformer_model(config, weights, **options)
    found = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    found = found if isinstance(found, list) else [found]
    found = change(found) if change else found
    assert_close(found, outputs, atol=atol)
    for x, y in zip(found, outputs, strict=True):
        scale = np.abs(y).max()  # a softmax makes everything small
        assert_close(x / scale, y / scale, atol=10 * atol, rtol=0)


def run_bert4keras(python, data_dir, folder, model, config, **options):
    """What bert4keras itself makes of a random model: {'w:…', 'in:…', 'out:…'} arrays.

    Args:
        python: the fixture `bert4keras_python`.
        data_dir: the fixture; the script that runs it lies beside the real data.
        folder: where to write.
        model: its name there.
        config: a dict of options by its spellings.
        options: other options of the script, such as `application='lm'`, and `kwargs`,
            a dict of further arguments of its `build_transformer_model`.
    """
    script = data_dir.parent / 'peers' / 'run_bert4keras.py'
    if not script.is_file():
        pytest.skip("no run_bert4keras.py beside the real data, in '../peers'")
    file, out = folder / 'config.json', folder / 'out.npz'
    file.write_text(json.dumps(config))
    options['kwargs'] = json.dumps(options.get('kwargs', {}))
    arguments = {'config': file, 'model': model, 'out': out, 'seq': 18, 'batch': 3}
    arguments |= {'dropout': 0, 'task': 'none', 'steps': 1, 'warmup': 0} | options
    command = [python, script]
    for name, value in arguments.items():
        command += [f'--{name.replace("_", "-")}', str(value)]
    environment = {'PATH': os.environ.get('PATH', '')}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as stored:
        return {name: stored[name] for name in stored.files}
