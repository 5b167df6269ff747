"""The tokenizer that belongs to a directory."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keraseff.tokenizers.added_tokens import add_tokens
from keraseff.tokenizers.added_tokens import further_pieces
from keraseff.tokenizers.base import TokenizerBase
from keraseff.tokenizers.bytepair import heed_prefix_space
from keraseff.tokenizers.bytepair import read_byte_pairs
from keraseff.tokenizers.jieba_words import cpm_words
from keraseff.tokenizers.json_tokenizer import JsonTokenizer
from keraseff.tokenizers.json_tokenizer import read_tokenizer_json
from keraseff.tokenizers.sentencepiece import SpTokenizer
from keraseff.tokenizers.settings import Settings
from keraseff.tokenizers.settings import read_settings
from keraseff.tokenizers.wordpiece_files import is_wordpiece
from keraseff.tokenizers.wordpiece_files import load_wordpiece
from keraseff.tokenizers.wordpiece_files import load_wordpiece_pipeline

_T5 = 'T5Tokenizer', 'MT5Tokenizer', 't5', 'mt5', 'umt5'
_CPM = ('CpmTokenizer',)
_LLAMA = 'LlamaTokenizer', 'llama'
_ALBERT = 'AlbertTokenizer', 'albert'
Loader = Callable[[Path, Settings, dict[str, Any]], TokenizerBase]


def load_tokenizer(path: str | os.PathLike[str], **kwargs: Any) -> TokenizerBase:
    """The tokenizer of a directory, or of one file in it.

    What lies there decides, in this order:

    - `tokenizer.json`: `Tokenizer` if the file describes BERT's, else `JsonTokenizer`;
    - `vocab.txt`: `Tokenizer`, or `JsonTokenizer` for settings that it does not have;
    - `vocab.json` and `merges.txt`: `JsonTokenizer`;
    - `*.model`: `SpTokenizer`.

    `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and the
    `model_type` of `config.json` are heeded, so the ids equal those of transformers'
    `AutoTokenizer`; without them a `vocab.txt` is one of small letters, as there, and
    a `.model` puts [CLS] and [SEP] around a text if it has them. Where transformers'
    copy of SentencePiece differs from SentencePiece (ALBERT's commas, spaces in front
    of LLaMA-2's texts), the latter counts. A RoFormer's words are cut by jieba.
    `Tokenizer` and `SpTokenizer` take '[MASK]' in a text for characters, the first
    unless `match_special=True`; `JsonTokenizer` finds special tokens in texts, unless
    `match_special=False`.

    Args:
        path: the directory, or the file in it to take.
        **kwargs: of the class that comes, such as `do_lower_case=False`, `token_end`;
            they go before what the files say.

    Raises:
        ValueError: there is no tokenizer, or a file is damaged.
    """
    path = Path(path)
    if path.is_file():
        file, load = path, _loader(path)
    elif path.is_dir():
        file, load = _choose(path)
    else:
        raise FileNotFoundError(f'{os.fspath(path)!r} is neither directory nor file.')
    return load(file, read_settings(file.parent), kwargs)


def _loader(file: Path) -> Loader:
    """What reads a file, whatever its name before the suffix."""
    load = _LOADERS.get(file.name) or _SUFFIXES.get(file.suffix)
    if load is None:
        raise ValueError(
            f'{os.fspath(file)!r} is no tokenizer by its name; expected one that ends'
            f' in {" or ".join(_SUFFIXES)}.'
        )
    return load


def _choose(folder: Path) -> tuple[Path, Loader]:
    for name, load in _LOADERS.items():
        if (folder / name).is_file():
            return folder / name, load
    names = sorted(file.name for file in folder.iterdir())
    models = [name for name in names if name.endswith('.model')]
    if len(models) == 1:
        return folder / models[0], _from_model
    if models:
        raise ValueError(
            f'{os.fspath(folder)!r} has {len(models)} models, {", ".join(models)}; pass'
            ' the path of one.'
        )
    raise ValueError(
        f'{os.fspath(folder)!r} has no tokenizer: neither {" nor ".join(_LOADERS)}.'
        f' There are {", ".join(names[:20]) or "no files"}.'
    )


def _from_json(file: Path, settings: Settings, kwargs: dict[str, Any]) -> TokenizerBase:
    pipeline = read_tokenizer_json(file)
    if is_wordpiece(pipeline):
        return load_wordpiece_pipeline(pipeline, settings, kwargs)
    heed_prefix_space(pipeline, settings)
    add_tokens(pipeline, settings)
    return _finish(pipeline, settings, kwargs)


def _from_vocab_json(
    file: Path, settings: Settings, kwargs: dict[str, Any]
) -> TokenizerBase:
    merges = file.with_name('merges.txt')
    if not merges.is_file():
        raise ValueError(
            f'{os.fspath(file)!r} lies there without a merges.txt; fetch that too.'
        )
    pipeline = read_byte_pairs(file, merges, settings)
    add_tokens(pipeline, settings)
    start, end = _stated_ends(settings)
    return _finish(
        pipeline, settings, {'token_start': start, 'token_end': end, **kwargs}
    )


def _finish(pipeline: Any, settings: Settings, kwargs: dict[str, Any]) -> TokenizerBase:
    matches = not settings.options.get('split_special_tokens', False)
    options = {
        'special_tokens': settings.contents(),
        'match_special': matches,
        **kwargs,
    }
    return JsonTokenizer(pipeline, **options)


def _stated_ends(settings: Settings) -> tuple[str | None, str | None]:
    """Around a text, where no file has a template: as two truth values say."""
    options = settings.options
    start = settings.content('bos_token') if options.get('add_bos_token') else None
    end = settings.content('eos_token') if options.get('add_eos_token') else None
    return start, end


def _from_model(
    file: Path, settings: Settings, kwargs: dict[str, Any]
) -> TokenizerBase:
    family = settings.family
    if family not in ('', *_T5, *_ALBERT, *_CPM, *_LLAMA):
        raise ValueError(
            f'How {family!r} uses {os.fspath(file)!r} is not known, only {_T5},'
            f' {_ALBERT}, {_CPM} and {_LLAMA}; bring its tokenizer.json, or choose the'
            ' ends of SpTokenizer yourself.'
        )
    bare = SpTokenizer(file, token_start=None, token_end=None)
    extra = further_pieces(bare, settings, sentinels=family in _T5)
    special = settings.contents()
    settings.default(bos_token='<s>', eos_token='</s>')
    start, end = _stated_ends(settings)
    options: dict[str, Any] = {'token_start': start, 'token_end': end}
    if family in _T5:
        options['token_end'] = settings.content('eos_token')
    elif family in _CPM:
        options['pre_tokenize'] = cpm_words
    elif family in _ALBERT or not (family or settings.options):
        if bare.token_to_id('[CLS]') != bare._token_unk_id:
            options |= {'token_start': '[CLS]', 'token_end': '[SEP]'}
    if family in _ALBERT:
        options['do_lower_case'] = _albert_case(settings)
    options |= {'extra_tokens': extra, 'special_tokens': special}
    return SpTokenizer(file, **{**options, **kwargs})


def _albert_case(settings: Settings) -> bool:
    if settings.options.get('keep_accents'):
        raise ValueError(
            f'{os.fspath(settings.path)!r} says keep_accents=true, which SpTokenizer'
            ' does not have; pass do_lower_case=None for the text as it is.'
        )
    return bool(settings.options.get('do_lower_case', True))


_LOADERS: dict[str, Loader] = {
    'tokenizer.json': _from_json,
    'vocab.txt': load_wordpiece,
    'vocab.json': _from_vocab_json,
    'spiece.model': _from_model,
    'tokenizer.model': _from_model,
    'sentencepiece.model': _from_model,
}
_SUFFIXES: dict[str, Loader] = {
    '.json': _from_json,
    '.txt': load_wordpiece,
    '.model': _from_model,
}
