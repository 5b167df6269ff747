"""WordPiece vocabularies with the settings beside them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keraseff.tokenizers.added_tokens import add_tokens
from keraseff.tokenizers.base import TokenizerBase
from keraseff.tokenizers.jieba_words import roformer_words
from keraseff.tokenizers.json_tokenizer import JsonTokenizer
from keraseff.tokenizers.json_tokenizer import ends_of
from keraseff.tokenizers.json_tokenizer import import_tokenizers
from keraseff.tokenizers.settings import Settings
from keraseff.tokenizers.vocab import load_vocab
from keraseff.tokenizers.wordpiece import Tokenizer

_USUAL = {
    'unk_token': '[UNK]',
    'sep_token': '[SEP]',
    'pad_token': '[PAD]',
    'cls_token': '[CLS]',
    'mask_token': '[MASK]',
}
_ROFORMER = 'RoFormerTokenizer', 'roformer'
_KINDS = (
    '', 'AlbertTokenizer', 'BertTokenizer', 'BertTokenizerLegacy',
    'DistilBertTokenizer', 'ElectraTokenizer', 'ErnieTokenizer', 'NezhaTokenizer',
    'MobileBertTokenizer', 'RoFormerTokenizer',
)  # fmt: skip


@dataclass
class _Rules:
    """How a text is cleaned and cut; the names are those of tokenizer_config.json."""

    vocabulary: dict[str, int]
    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    word_maxlen: int = 100
    ends: tuple[str | None, str | None] = ('[CLS]', '[SEP]')

    def heed(self, options: dict[str, Any]) -> None:
        """Takes over what some options say."""
        for name in 'do_lower_case', 'strip_accents', 'tokenize_chinese_chars':
            value = options.get(name)
            if isinstance(value, bool):
                setattr(self, name, value)

    def usual(self) -> bool:
        """Whether `Tokenizer` has them."""
        accents = self.strip_accents in (None, self.do_lower_case)
        return accents and self.tokenize_chinese_chars


def is_wordpiece(pipeline: Any) -> bool:
    """Whether a pipeline is BERT's, in any of its settings."""
    rust = import_tokenizers()
    model = pipeline.model
    return (
        isinstance(model, rust.models.WordPiece)
        and model.continuing_subword_prefix == '##'
        and isinstance(pipeline.normalizer, rust.normalizers.BertNormalizer)
        and pipeline.normalizer.clean_text
        and isinstance(pipeline.pre_tokenizer, rust.pre_tokenizers.BertPreTokenizer)
    )


def load_wordpiece_pipeline(
    pipeline: Any, settings: Settings, kwargs: dict[str, Any]
) -> TokenizerBase:
    """The tokenizer of a pipeline for which `is_wordpiece` holds."""
    normalizer, model = pipeline.normalizer, pipeline.model
    rules = _Rules(
        pipeline.get_vocab(with_added_tokens=False),
        normalizer.lowercase,
        normalizer.strip_accents,
        normalizer.handle_chinese_chars,
        model.max_input_chars_per_word,
        ends_of(pipeline.post_processor),
    )
    rules.heed(settings.options)
    rules.heed(kwargs)
    if settings.family in _ROFORMER:
        rules.tokenize_chinese_chars = True  # jieba cuts first
    added = [t.content for t in pipeline.get_added_tokens_decoder().values()]
    if model.unk_token == '[UNK]' and _is_plain(rules, settings, added):
        return _tokenizer(rules, settings, kwargs)
    pipeline.normalizer = _normalizer(rules)
    add_tokens(pipeline, settings)
    return _json_tokenizer(pipeline, settings, kwargs)


def load_wordpiece(
    file: Path, settings: Settings, kwargs: dict[str, Any]
) -> TokenizerBase:
    """The tokenizer of a `vocab.txt`."""
    if settings.kind not in _KINDS:
        raise ValueError(
            f'How {settings.kind!r} uses {os.fspath(file)!r} is not known, only'
            f' {_KINDS[1:]}; bring its tokenizer.json.'
        )
    if settings.options.get('do_basic_tokenize') is False:
        raise ValueError(
            f'{os.fspath(settings.path)!r} says do_basic_tokenize=false, which is for'
            ' texts that are cut into words beforehand; no tokenizer here does that.'
        )
    rules = _Rules(load_vocab(file))
    rules.heed(settings.options)
    rules.heed(kwargs)
    settings.default(**{k: v for k, v in _USUAL.items() if v in rules.vocabulary})
    settings.default(cls_token='[CLS]', sep_token='[SEP]')
    rules.ends = settings.content('cls_token'), settings.content('sep_token')
    if _is_plain(rules, settings, []):
        return _tokenizer(rules, settings, kwargs)
    return _json_tokenizer(_pipeline(rules, settings), settings, kwargs)


def _is_plain(rules: _Rules, settings: Settings, added: list[str]) -> bool:
    """Whether `Tokenizer` does what is asked: usual rules, and no special or added
    token but the usual five under their usual names."""
    named = {k: v for k, v in settings.contents().items() if v is not None}
    others = [t['content'] for t in [*settings.extra_special, *settings.added.values()]]
    return (
        rules.usual()
        and all(_USUAL.get(name) == token for name, token in named.items())
        and set(added) | set(others) <= set(_USUAL.values())
    )


def _tokenizer(
    rules: _Rules, settings: Settings, kwargs: dict[str, Any]
) -> TokenizerBase:
    options: dict[str, Any] = {
        'do_lower_case': rules.do_lower_case,
        'word_maxlen': rules.word_maxlen,
        'token_start': rules.ends[0],
        'token_end': rules.ends[1],
    }
    if settings.family in _ROFORMER:
        options['pre_tokenize'] = roformer_words
    kwargs = _without(kwargs, 'strip_accents', 'tokenize_chinese_chars')
    return Tokenizer(rules.vocabulary, **{**options, **kwargs})


def _without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


def _json_tokenizer(
    pipeline: Any, settings: Settings, kwargs: dict[str, Any]
) -> TokenizerBase:
    kwargs = _without(
        kwargs, 'do_lower_case', 'strip_accents', 'tokenize_chinese_chars'
    )
    return JsonTokenizer(pipeline, special_tokens=settings.contents(), **kwargs)


def _pipeline(rules: _Rules, settings: Settings) -> Any:
    rust = import_tokenizers()
    model = rust.models.WordPiece(
        rules.vocabulary,
        unk_token=settings.content('unk_token') or '[UNK]',
        max_input_chars_per_word=rules.word_maxlen,
    )
    pipeline = rust.Tokenizer(model)
    pipeline.normalizer = _normalizer(rules)
    pipeline.pre_tokenizer = rust.pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = rust.decoders.WordPiece('##')
    add_tokens(pipeline, settings)
    start, end = rules.ends
    ids = {token: pipeline.token_to_id(token) for token in rules.ends if token}
    ids = {token: i for token, i in ids.items() if i is not None}
    if start in ids and end in ids:
        pipeline.post_processor = rust.processors.BertProcessing(
            (end, ids[end]), (start, ids[start])
        )
    return pipeline


def _normalizer(rules: _Rules) -> Any:
    return import_tokenizers().normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=rules.tokenize_chinese_chars,
        strip_accents=rules.strip_accents,
        lowercase=rules.do_lower_case,
    )
