"""Models: a config in, a Keras model out."""

import difflib
from importlib import import_module

from keraseff.models.albert import ALBERT
from keraseff.models.albert import ALBERTUnshared
from keraseff.models.albert import ALBERTZh
from keraseff.models.application import APPLICATIONS
from keraseff.models.bert import BERT
from keraseff.models.bilstm import build_bilstm
from keraseff.models.config import ALIASES
from keraseff.models.config import Config
from keraseff.models.config import read_config
from keraseff.models.electra import ELECTRA
from keraseff.models.entities import EntityExtractor
from keraseff.models.gau_alpha import GAUAlpha
from keraseff.models.gpt import GPT
from keraseff.models.gpt2 import GPT2
from keraseff.models.gpt2_ml import GPT2_ML
from keraseff.models.heads import HEADS
from keraseff.models.layouts import data_parallel
from keraseff.models.llama import LLaMA
from keraseff.models.llama import Mistral
from keraseff.models.nezha import NEZHA
from keraseff.models.qwen2 import Qwen2
from keraseff.models.qwen3 import Qwen3
from keraseff.models.roformer import RoFormer
from keraseff.models.roformer_v2 import RoFormerV2
from keraseff.models.t5 import MT5
from keraseff.models.t5 import T5
from keraseff.models.t5 import T5_1_1
from keraseff.models.t5 import MT5_Decoder
from keraseff.models.t5 import MT5_Encoder
from keraseff.models.t5 import T5_1_1_Decoder
from keraseff.models.t5 import T5_1_1_Encoder
from keraseff.models.t5_parts import T5_Decoder
from keraseff.models.t5_parts import T5_Encoder
from keraseff.models.transformer import Transformer

# What a compiled model is saved with: who reopens it needs to import nothing else.
for _part in ('initializers', 'losses', 'metrics', 'optimizers', 'regularizers'):
    import_module(f'keraseff.{_part}')
import_module('keraseff.models.pretraining')

MODELS = {
    'albert': ALBERT,
    'albert_unshared': ALBERTUnshared,
    'albert_zh': ALBERTZh,
    'bert': BERT,
    'electra': ELECTRA,
    'gau_alpha': GAUAlpha,
    'gpt': GPT,
    'gpt2': GPT2,
    'gpt2_ml': GPT2_ML,
    'llama': LLaMA,
    'mistral': Mistral,
    'mt5': MT5,
    'mt5.1.1': MT5,
    'mt5.1.1_decoder': MT5_Decoder,
    'mt5.1.1_encoder': MT5_Encoder,
    'nezha': NEZHA,
    'openai-gpt': GPT,
    'qwen2': Qwen2,
    'qwen3': Qwen3,
    'roberta': BERT,
    'roformer': RoFormer,
    'roformer_v2': RoFormerV2,
    't5': T5,
    't5.1.0': T5,
    't5.1.0_decoder': T5_Decoder,
    't5.1.0_encoder': T5_Encoder,
    't5.1.1': T5_1_1,
    't5.1.1_decoder': T5_1_1_Decoder,
    't5.1.1_encoder': T5_1_1_Encoder,
    't5_decoder': T5_Decoder,
    't5_encoder': T5_Encoder,
}


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
        A `keras.Model` from [tokens, segments] (b, n) int32 (those inputs that the
        family has) to the sequence (b, n, e), or to the output of the heads asked for:
        pooled (b, e) or nsp (b, 2), mlm (b, n, v), or both in a list.  Language models
        give the next token's probabilities (b, n, v), see `with_lm`; T5 goes from
        [encoder's tokens (b, n), decoder's tokens (b, m)] to (b, m, v).

    Raises:
        TypeError: an unknown option, with the nearest known one.
        ValueError: an unknown model, or a config that lacks something.
        CheckpointError: the checkpoint does not fit, or cannot be read.
    """
    options = read_config(config_path)
    family = _family(model, options).variant(options)
    try:
        transformer = family(options, application, **kwargs)
    except ValueError as error:
        raise ValueError(f'{error}{_said(model, options)}') from error
    if checkpoint_path is not None:
        transformer.expect_checkpoint()
    transformer.build()
    if checkpoint_path is not None:
        transformer.load_weights_from_checkpoint(checkpoint_path)
    return transformer.model if return_keras_model else transformer


def _family(model, options):
    if model is not None and not isinstance(model, str):
        return model
    name = str(options.get('model_type', 'bert') if model is None else model)
    if name.lower() in MODELS:
        return MODELS[name.lower()]
    near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.75)
    hint = f'  Did you mean {near[0]!r}?' if near else ''
    if model is None:
        hint = '  Pass model=… if it is one of them all the same.'
    said = f"The config's model_type {name!r}" if model is None else f'model={name!r}'
    raise ValueError(
        f'{said} is unknown; there are: {", ".join(sorted(MODELS))}.{hint}'
    )


def _said(model, options):
    """Another family that the config names, for an error."""
    name = options.get('model_type')
    if model is None or name not in MODELS or MODELS[name] is _family(model, {}):
        return ''
    return f'  Its model_type is {name!r}; leave model={model!r} out?'


__all__ = [
    'APPLICATIONS',
    'ALBERT',
    'ALBERTUnshared',
    'ALBERTZh',
    'ALIASES',
    'BERT',
    'Config',
    'ELECTRA',
    'EntityExtractor',
    'GAUAlpha',
    'GPT',
    'GPT2',
    'GPT2_ML',
    'HEADS',
    'LLaMA',
    'MODELS',
    'MT5',
    'MT5_Decoder',
    'MT5_Encoder',
    'Mistral',
    'NEZHA',
    'Qwen2',
    'Qwen3',
    'RoFormer',
    'RoFormerV2',
    'T5',
    'T5_1_1',
    'T5_1_1_Decoder',
    'T5_1_1_Encoder',
    'T5_Decoder',
    'T5_Encoder',
    'Transformer',
    'build_bilstm',
    'build_transformer_model',
    'data_parallel',
]
