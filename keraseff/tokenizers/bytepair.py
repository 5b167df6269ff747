"""Byte-pair encodings from a `vocab.json` and a `merges.txt`."""

import os
from pathlib import Path
from typing import Any

from keraseff.tokenizers.json_tokenizer import import_tokenizers
from keraseff.tokenizers.settings import Settings

# How Qwen2 splits a text before bytes are paired; its tokenizer.json has the same.
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_GPT2 = '', 'GPT2Tokenizer', 'gpt2', 'gpt_neo', 'gptj'
_QWEN = 'Qwen2Tokenizer', 'qwen2', 'qwen3', 'qwen2_moe', 'qwen3_moe'
_OPENAI = 'OpenAIGPTTokenizer', 'openai-gpt'


def read_byte_pairs(vocab: Path, merges: Path, settings: Settings) -> Any:
    """The pipeline of GPT-2, of Qwen or of the first GPT, as a `tokenizers.Tokenizer`.

    The settings say which; GPT-2's where they do not.  Radford et al. 2019 (bytes),
    Sennrich et al. 2016, https://arxiv.org/abs/1508.07909

    Raises:
        ValueError: the files are damaged, or belong to a family with rules of its own.
    """
    import_tokenizers()
    family = settings.family
    end_token = '<|endoftext|>'
    if family in _GPT2:
        settings.default(bos_token=end_token, eos_token=end_token, unk_token=end_token)
        build = _gpt2
    elif family in _QWEN:
        settings.default(eos_token=end_token, pad_token=end_token, unk_token=end_token)
        build = _qwen
    elif family in _OPENAI:
        settings.default(unk_token='<unk>')
        build = _openai
    else:
        raise ValueError(
            f'How {family!r} uses {os.fspath(vocab)!r} is not known, only {_GPT2[1:]},'
            f' {_QWEN} and {_OPENAI}; bring its tokenizer.json.'
        )
    try:
        return build(str(vocab), str(merges), settings)
    except Exception as error:  # the package raises nothing more precise
        raise ValueError(
            f'{os.fspath(vocab)!r} and {os.fspath(merges)!r} are no byte-pair encoding'
            f' ({error}); fetch them again.'
        ) from error


def heed_prefix_space(pipeline: Any, settings: Settings) -> None:
    """Lets `add_prefix_space` of the settings go before that of a tokenizer.json.

    Only for GPT-2's and Qwen's classes; others leave it to the file.
    """
    wanted = settings.options.get('add_prefix_space')
    if not isinstance(wanted, bool) or settings.kind not in (_GPT2[1], _QWEN[0]):
        return
    rust = import_tokenizers().pre_tokenizers
    split = pipeline.pre_tokenizer
    parts = list(split) if isinstance(split, rust.Sequence) else [split]
    for part in parts:
        if isinstance(part, rust.ByteLevel):
            part.add_prefix_space = wanted
    pipeline.pre_tokenizer = rust.Sequence(parts) if len(parts) > 1 else parts[0]


def _gpt2(vocab: str, merges: str, settings: Settings) -> Any:
    rust = import_tokenizers()
    pipeline = rust.Tokenizer(rust.models.BPE.from_file(vocab, merges))
    prefix = bool(settings.options.get('add_prefix_space'))
    pipeline.pre_tokenizer = rust.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    pipeline.decoder = rust.decoders.ByteLevel()
    return pipeline


def _qwen(vocab: str, merges: str, settings: Settings) -> Any:
    rust = import_tokenizers()
    pipeline = _gpt2(vocab, merges, settings)
    pipeline.normalizer = rust.normalizers.NFC()
    prefix = bool(settings.options.get('add_prefix_space'))
    split = rust.pre_tokenizers
    pipeline.pre_tokenizer = split.Sequence(
        [
            split.Split(rust.Regex(_QWEN_WORDS), 'isolated'),
            split.ByteLevel(add_prefix_space=prefix, use_regex=False),
        ]
    )
    return pipeline


def _openai(vocab: str, merges: str, settings: Settings) -> Any:
    rust = import_tokenizers()
    model = rust.models.BPE.from_file(
        vocab,
        merges,
        unk_token=settings.content('unk_token'),
        end_of_word_suffix='</w>',
        fuse_unk=False,
    )
    pipeline = rust.Tokenizer(model)
    pipeline.normalizer = rust.normalizers.BertNormalizer(lowercase=True)
    pipeline.pre_tokenizer = rust.pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = rust.decoders.BPEDecoder(suffix='</w>')
    return pipeline
