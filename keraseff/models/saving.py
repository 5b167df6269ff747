"""A Transformer's weights into a checkpoint file, by the family's table."""

import numpy as np
from keras import ops

from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow
from keraseff.models.loading import named_variables
from keraseff.models.loading import parse_slot
from keraseff.models.loading import table_of


def save_weights(transformer, filename, mapping=None, dtype=None):
    """Write a Transformer's variables; see `save_weights_as_checkpoint`."""
    filename = str(filename)
    if filename.endswith(('.h5', '.bin', '.pt', '.pth', '.keras')):
        raise ValueError(
            f'{filename}: save_weights_as_checkpoint writes `.safetensors` files, and '
            'TensorFlow checkpoints, whose names end in anything else, say `.ckpt`; '
            'use model.save for `.keras` and model.save_weights for `.weights.h5`.'
        )
    dialect = 'huggingface' if filename.endswith('.safetensors') else 'tensorflow'
    tensors = _tensors(transformer, dialect, mapping, dtype or 'float32')
    if dialect == 'huggingface':
        tensors = {name: np.asarray(a, order='C') for name, a in tensors.items()}
        write_safetensors(filename, tensors, metadata={'format': 'pt'})
    else:
        write_tensorflow(filename, tensors)


def _tensors(transformer, dialect, mapping, dtype):
    """{tensor: array} of a model, in a file's names and orientation."""
    variables = check_plain(named_variables(transformer))
    parts, whole = {}, {}
    for left, right in table_of(transformer, dialect, mapping).items():
        if left not in variables:
            continue
        slot = parse_slot(left, right, dialect)
        array = np.asarray(ops.convert_to_numpy(variables[left]), dtype)
        if slot.parts > 1:
            parts.setdefault(slot.tensor, {})[slot.part] = array
            array = _joined(slot, parts[slot.tensor])
        array = array.T if slot.turned else array
        if slot.parts == 1 and slot.tensor in whole:
            _check_shared(slot.tensor, left, whole[slot.tensor], array)
        whole[slot.tensor] = array
        if not transformer.tie_word_embeddings:
            for name in transformer.alternatives.get(slot.tensor, ()):
                whole[name] = array
    return whole


def check_plain(variables):
    """Raise ValueError where a file's names would not tell what the numbers are."""
    for name, variable in variables.items():
        if '/lora_' in name:
            raise ValueError(
                f'{name} is an adapter, for which such files have no name: '
                'merge_adapters(model) first, or save_adapters.'
            )
        if str(variable.dtype) in ('int8', 'uint8'):
            raise ValueError(
                f'{name} is in {variable.dtype}; save the checkpoint before quantize, '
                'or the Keras model after it.'
            )
    return variables


def _joined(slot, parts):
    arrays = [parts[k] for k in sorted(parts)]
    if len({array.shape for array in arrays}) > 1:
        raise ValueError(
            f'{slot.tensor} has {slot.parts} equal parts in such files, but here they '
            f'are {[array.shape for array in arrays]}; use a TensorFlow checkpoint.'
        )
    return np.concatenate(arrays, axis=-1)


def _check_shared(tensor, left, first, second):
    if not np.array_equal(first, second):
        raise ValueError(
            f'{tensor} is one tensor for several layers in such files, but {left} '
            'differs from the layers before it; save it with another table, '
            'mapping=….'
        )
