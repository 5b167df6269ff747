"""Strings to token ids and back.  Takes strings, returns ids; never imports Keras."""

from keraseff.tokenizers.base import TokenizerBase
from keraseff.tokenizers.dialogue import encode_dialogue
from keraseff.tokenizers.json_tokenizer import JsonTokenizer
from keraseff.tokenizers.loading import load_tokenizer
from keraseff.tokenizers.per_character import CharacterTokenizer
from keraseff.tokenizers.sentencepiece import SpTokenizer
from keraseff.tokenizers.vocab import load_vocab
from keraseff.tokenizers.vocab import save_vocab
from keraseff.tokenizers.wordpiece import Tokenizer

__all__ = [
    'CharacterTokenizer',
    'JsonTokenizer',
    'SpTokenizer',
    'Tokenizer',
    'TokenizerBase',
    'encode_dialogue',
    'load_tokenizer',
    'load_vocab',
    'save_vocab',
]
