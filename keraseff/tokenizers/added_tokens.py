"""Special and added tokens that a directory names besides its vocabulary."""

import os
from typing import Any

from keraseff.tokenizers.json_tokenizer import import_tokenizers
from keraseff.tokenizers.sentencepiece import SpTokenizer
from keraseff.tokenizers.settings import Settings


def add_tokens(pipeline: Any, settings: Settings) -> None:
    """Adds what the settings name and the pipeline lacks, as transformers does.

    Tokens of the vocabulary that the settings call special become special: they are
    found in texts whole, and left out by `decode`.

    Raises:
        ValueError: a token would get another id than the settings state.
    """
    known = pipeline.get_added_tokens_decoder()
    have = {repr(token) for token in known.values()}
    contents = {token.content for token in known.values()}
    tokens = [_added(token) for _, token in sorted(settings.added.items())]
    tokens = [token for token in tokens if repr(token) not in have]
    contents.update(token.content for token in tokens)
    named = set(settings.contents().values())
    for token in [*settings.special.values(), *settings.extra_special]:
        if token['content'] not in contents:
            contents.add(token['content'])
            tokens.append(_added({'special': True, **token}))
    for token in tokens:
        token.special = token.special or token.content in named
    pipeline.add_tokens(tokens)
    for i, token in sorted(settings.added.items()):
        found = pipeline.token_to_id(token['content'])
        if found != i:
            raise ValueError(
                f'{os.fspath(settings.path)!r} says that {token["content"]!r} is token'
                f' {i}, but after its vocabulary comes {found}; its files do not belong'
                ' together.'
            )


def _added(token: dict[str, Any]) -> Any:
    return import_tokenizers().AddedToken(**token)


def further_pieces(
    model: SpTokenizer, settings: Settings, sentinels: bool
) -> dict[str, int]:
    """{token: id} of what a SentencePiece model lacks.

    First T5's <extra_id_0> and so on, the last one first, if there are `sentinels`;
    then the tokens with stated ids, then the special tokens without.

    Raises:
        ValueError: an id belongs to another piece of the model.
    """
    extra = _sentinels(model, settings) if sentinels else {}
    for i, token in settings.added.items():
        content = token['content']
        if model.id_to_token(i) == content:
            continue
        if i < model._vocab_size:
            raise ValueError(
                f'{os.fspath(settings.path)!r} says that {content!r} is token {i},'
                f' which is {model.id_to_token(i)!r} in the model; its files do not'
                ' belong together.'
            )
        extra[content] = i
    for token in [*settings.special.values(), *settings.extra_special]:
        content = token['content']
        unknown = model.token_to_id(content) == model._token_unk_id
        if unknown and content not in extra and content != model._token_unk:
            extra[content] = max([model._vocab_size - 1, *extra.values()]) + 1
    return extra


def _sentinels(model: SpTokenizer, settings: Settings) -> dict[str, int]:
    count = settings.options.get(
        'extra_ids', 0 if settings.model_type == 'mt5' else 100
    )
    if not isinstance(count, int) or not 0 <= count <= 10_000:
        raise ValueError(
            f'{os.fspath(settings.path)!r} says extra_ids={count!r}; expected a number'
            ' from 0 to 10,000.'
        )
    return {f'<extra_id_{count - 1 - k}>': model._vocab_size + k for k in range(count)}
