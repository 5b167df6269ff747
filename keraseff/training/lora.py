"""LoRA: small matrices beside frozen ones, alone trained and alone saved.

    add_lora(model, r'(query|value)$', rank=8, train='classifier')
    model.compile(...)
    model.fit(...)
    save_adapters(model, 'task.safetensors')        # some 1 % of the model

    load_adapters(another_copy_of_the_base, 'task.safetensors')
    merge_adapters(model)                           # plain weights again

The layers' own `enable_lora` does the work: Keras' Dense, EinsumDense, Embedding and
convolutions have it, and so all projections of our attention, feed-forward and pointer
layers; our `Embedding`, ties and positions do not.
Hu et al., 2021, https://arxiv.org/abs/2106.09685
"""

import json
import os
import re
from pathlib import Path

import numpy as np
from keras import ops

from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.optimizers.arguments import check_count
from keraseff.optimizers.arguments import check_number
from keraseff.training.arguments import model_of
from keraseff.training.layers import make_trainable

_ABOUT = 'keraseff-adapters'  # the entry of the metadata that tells ranks and scales


def add_lora(model, pattern, rank=8, alpha=None, train=None):
    """Freeze a model and add adapters to the layers that a pattern finds.

    Args:
        model: a built `keras.Model`, quantised to int8 or not; or a `Transformer`, of
            which it is the model.
        pattern: a regular expression that is searched for in the layers' paths, such
            as 'Transformer-0-MultiHeadSelfAttention/query'.
        rank: of the adapters: (in, rank) and (rank, out), the second begins at 0; a
            whole number of at least 1.
        alpha: the product is multiplied by alpha / rank; rank by default.
        train: another expression, of layers that are trained as they are: the heads.

    Returns the list of paths that have got adapters.  Compile the model afterwards.

    A `.keras` file has the sums of matrices and adapters' products, and opens as the
    plain model with nothing left to train apart.  To go on with the adapters keep them
    with `save_adapters`, open or build the base again, and `load_adapters` into it.

    Raises ValueError if the patterns find nothing, or some layer has adapters already.
    """
    check_count(rank=rank)
    if alpha is not None:
        check_number(least=0, alpha=alpha)
    model = model_of(model)
    able = _able(model)
    found = {path: layer for path, layer in able.items() if re.search(pattern, path)}
    if not found:
        raise ValueError(
            f'{pattern!r} finds none of the layers that can have adapters: '
            f'{_few(able)}.'
            + ('' if model.built else '  Call the model on a batch first: model(x).')
        )
    taken = [path for path, layer in found.items() if layer.lora_enabled]
    if taken:
        raise ValueError(
            f'{_few(taken)} has adapters already; merge_adapters(model) first.'
        )
    heads = _heads(model, train)
    for layer in found.values():
        layer.enable_lora(int(rank), lora_alpha=alpha)
    _freeze(model, heads)
    return list(found)


def save_adapters(model, path):
    """Write adapters, and what else is trained (the heads), to a `.safetensors` file.

    Args:
        model: one with adapters.
        path: of the file.

    The base is not in it, and has to be at hand where `load_adapters` reads it; a
    `.keras` file of the same model has base and adapters in sums, as after
    `merge_adapters`, and opens without adapters.
    """
    model = model_of(model)
    adapters, heads = {}, {}
    about = {}
    for name, (layer, variable) in _named(model).items():
        if _is_adapter(variable):
            adapters[name] = variable
            about[layer.path] = [layer.lora_rank, layer.lora_alpha]
        elif variable.trainable:
            heads[name] = variable
    if not adapters:
        raise ValueError(f'{model.name!r} has no adapters; see add_lora.')
    tensors = {n: ops.convert_to_numpy(v) for n, v in {**adapters, **heads}.items()}
    # TensorFlow's dialect: names are read back as they are written.
    notes = {'dialect': 'tensorflow', _ABOUT: json.dumps(about)}
    write_safetensors(path, tensors, metadata=notes)


def load_adapters(model, path):
    """Add the adapters of a file to a model, and load the heads that came with them.

    Args:
        model: a built `keras.Model` of the same layers' names as that of the file, or a
            `Transformer`.
        path: of the file.

    What is in the file is trainable, the rest frozen.  Where the layers have adapters
    of that rank already, their numbers are replaced.

    Raises CheckpointError if something does not fit; nothing changes then.
    """
    model = model_of(model)
    if os.path.isfile(path) and Path(path).suffix != '.safetensors':
        raise CheckpointError(path, 'expected a `.safetensors` file of save_adapters.')
    source = open_checkpoint(path)
    about = _about(source)
    able, named = _able(model), _named(model)
    wrong = [_misfit(source, path, layer, able) for path, layer in about.items()]
    heads = [name for name in source if not _ADAPTER.search(name)]
    for name in heads:
        wanted = named[name][1].shape if name in named else None
        if wanted is None or tuple(wanted) != tuple(source.shape(name)):
            had = f'has shape {tuple(wanted)}' if wanted else 'is not'
            wrong.append(f'{name} {had} in the model, {source.shape(name)} in the file')
    wrong = [text for text in wrong if text]
    if wrong:
        raise CheckpointError(
            source.path,
            f'these adapters are not for this model; nothing was changed: '
            f'{"; ".join(wrong[:10])}.',
        )
    for name, (rank, alpha) in about.items():
        if not able[name].lora_enabled:
            able[name].enable_lora(rank, lora_alpha=alpha)
        able[name].lora_alpha = alpha
    named = _named(model)
    for name in source:
        named[name][1].assign(np.asarray(source[name]))
    _freeze(model, [named[name][1] for name in heads])


def merge_adapters(model):
    """Make each adapter's product part of its matrix, and take the adapters away.

    Outputs stay what they were, up to rounding; of an int8 matrix that is one more
    rounding to 8 bits.  The model is plain again, all of it trainable, to be saved in
    any form.  A compiled one gets a fresh optimizer of the same settings, as if
    compiled again: the slots of the old one were the adapters'.

    Returns the list of paths.  Raises ValueError if there are no adapters.
    """
    model = model_of(model)
    merged = [layer for layer in _able(model).values() if layer.lora_enabled]
    if not merged:
        raise ValueError(f'{model.name!r} has no adapters to merge.')
    for layer in merged:
        # What Keras writes of such a layer is the sum.
        store = {}
        layer.save_own_variables(store)
        store = {key: ops.convert_to_numpy(value) for key, value in store.items()}
        layer.load_own_variables(store)
        for name, variable in [*vars(layer).items()]:
            if name.startswith('lora_') and hasattr(variable, 'assign'):
                layer._untrack_variable(variable)
                vars(layer).pop(name)
        layer.lora_enabled, layer.lora_rank, layer.lora_alpha = False, None, None
    make_trainable(model)
    model.train_function = model.test_function = model.predict_function = None
    _begin_anew(model)
    return [layer.path for layer in merged]


_ADAPTER = re.compile(r'/lora_\w+_[ab]$')


def _is_adapter(variable):
    return _ADAPTER.search(f'/{variable.name}') is not None


def _able(model):
    """{path: layer} of the layers that can have adapters."""
    return {
        layer.path: layer
        for layer in model._flatten_layers(include_self=False)
        if hasattr(layer, 'enable_lora') and layer.built
    }


def _named(model):
    """{path/name: (layer, variable)} of all layers' own variables."""
    return {
        f'{layer.path}/{variable.name}': (layer, variable)
        for layer in model._flatten_layers(include_self=False)
        for variable in layer._trainable_variables + layer._non_trainable_variables
    }


def _heads(model, pattern):
    if pattern is None:
        return []
    found = [
        variable
        for name, (_, variable) in _named(model).items()
        if re.search(pattern, name.rpartition('/')[0]) and variable.trainable
    ]
    if not found:
        names = [layer.name for layer in model.layers if layer.weights]
        raise ValueError(
            f'train={pattern!r} finds no layer with weights; there are: {_few(names)}.'
        )
    return found


def _freeze(model, heads):
    """Leave only adapters and heads trainable."""
    heads = {id(variable) for variable in heads}
    make_trainable(model)  # a frozen layer would hide what is trained of it
    for _, variable in _named(model).values():
        variable.trainable = _is_adapter(variable) or id(variable) in heads
    model.train_function = None


def _begin_anew(model):
    """Let the optimizer, which knows variables that are gone, begin again."""
    optimizer = getattr(model, 'optimizer', None)
    if optimizer is not None and optimizer.built:
        model.optimizer = type(optimizer).from_config(optimizer.get_config())


def _about(source):
    notes = getattr(source, 'metadata', {})
    if _ABOUT not in notes:
        raise CheckpointError(source.path, 'it holds no adapters of save_adapters.')
    return json.loads(notes[_ABOUT])


def _misfit(source, path, told, able):
    """What keeps an adapter of a file from its layer, or ''."""
    rank, layer = told[0], able.get(path)
    if layer is None:
        return f'{path} is no layer of the model that can have adapters'
    if layer.lora_enabled and layer.lora_rank != rank:
        return f'{path} has adapters of rank {layer.lora_rank}, not {rank}'
    kind = 'embeddings' if hasattr(layer, 'embeddings') else 'kernel'
    shape = tuple(getattr(layer, kind).shape)
    a, b = (tuple(source.shape(f'{path}/lora_{kind}_{k}')) for k in 'ab')
    if a[:-1] != shape[:-1] or b[1:] != shape[1:]:
        return f'{path} has a matrix {shape}, the adapters are {a} and {b}'
    return ''


def _few(names):
    names = list(names)
    more = f' and {len(names) - 10} more' if len(names) > 10 else ''
    return ', '.join(names[:10]) + more if names else 'none'
