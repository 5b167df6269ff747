"""keraseff: transformers for Chinese NLP in Keras 3, with bert4keras' conventions.

Importing the package loads no Keras; the handful of names below arrive on first use.
"""

from importlib import import_module

__version__ = '0.1.0'

_LAZY = {
    'build_transformer_model': 'keraseff.models',
    'GlobalPointer': 'keraseff.layers',
    'EfficientGlobalPointer': 'keraseff.layers',
    'ConditionalRandomField': 'keraseff.layers',
    'Tokenizer': 'keraseff.tokenizers',
    'load_tokenizer': 'keraseff.tokenizers',
    'load_vocab': 'keraseff.tokenizers',
}
__all__ = ['__version__', *_LAZY]


def __getattr__(name):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted(__all__)
