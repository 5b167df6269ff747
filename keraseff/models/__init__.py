"""Models: a config in, a Keras model out."""

import difflib

from keraseff.models.application import APPLICATIONS
from keraseff.models.bert import BERT
from keraseff.models.bilstm import build_bilstm
from keraseff.models.config import ALIASES
from keraseff.models.config import Config
from keraseff.models.config import read_config
from keraseff.models.entities import EntityExtractor
from keraseff.models.heads import HEADS
from keraseff.models.roformer import RoFormer
from keraseff.models.transformer import Transformer

MODELS = {'bert': BERT, 'roberta': BERT, 'roformer': RoFormer}


def build_transformer_model(
    config_path=None,
    checkpoint_path=None,
    model=None,
    application='encoder',
    return_keras_model=True,
    **kwargs,
):
    """A Keras model from a config and, if given, the weights in a checkpoint.

    Args:
        config_path: a JSON file, a directory that holds one, or a dict.
        checkpoint_path: a TensorFlow checkpoint's prefix, a `.safetensors`, `.bin` or
            `.h5` file, a directory that holds one, a dict of arrays, or None for random
            weights.
        model: a name in `MODELS`, or a subclass of `Transformer`; by default what
            `model_type` in the config says, else 'bert'.
        application: 'encoder', 'lm' or 'unilm'.
        return_keras_model: False returns the `Transformer`, whose `model` it is.
        kwargs: options that override the config's; `Config` lists them.

    Returns:
        A `keras.Model` from [tokens, segments] (b, n) int32 to the sequence (b, n, e),
        or to the output of the heads asked for: pooled (b, e) or nsp (b, 2), mlm
        (b, n, v), or both in a list.

    Raises:
        TypeError: an unknown option, with the nearest known one.
        ValueError: an unknown model, or a config that lacks something.
        CheckpointError: the checkpoint does not fit, or cannot be read.
    """
    options = read_config(config_path)
    family = _family(model if model is not None else options.get('model_type', 'bert'))
    transformer = family(options, application, **kwargs)
    if checkpoint_path is not None:
        transformer.expect_checkpoint()
    transformer.build()
    if checkpoint_path is not None:
        transformer.load_weights_from_checkpoint(checkpoint_path)
    return transformer.model if return_keras_model else transformer


def _family(model):
    if not isinstance(model, str):
        return model
    if model.lower() in MODELS:
        return MODELS[model.lower()]
    near = difflib.get_close_matches(model, MODELS, n=1, cutoff=0.75)
    hint = f'  Did you mean {near[0]!r}?' if near else ''
    raise ValueError(
        f'model={model!r} is unknown; there are: {", ".join(sorted(MODELS))}.{hint}'
    )


__all__ = [
    'APPLICATIONS',
    'ALIASES',
    'BERT',
    'Config',
    'EntityExtractor',
    'HEADS',
    'MODELS',
    'RoFormer',
    'Transformer',
    'build_bilstm',
    'build_transformer_model',
]
