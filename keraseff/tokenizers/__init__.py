"""Strings to token ids and back.  Takes strings, returns ids; never imports Keras."""

from keraseff.tokenizers.base import TokenizerBase
from keraseff.tokenizers.per_character import CharacterTokenizer
from keraseff.tokenizers.vocab import load_vocab
from keraseff.tokenizers.vocab import save_vocab
from keraseff.tokenizers.wordpiece import Tokenizer

__all__ = [
    'CharacterTokenizer',
    'Tokenizer',
    'TokenizerBase',
    'load_vocab',
    'save_vocab',
]
