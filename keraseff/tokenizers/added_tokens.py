"""Special and added tokens, told to a pipeline of the package tokenizers."""

from typing import Any

from keraseff.tokenizers.json_tokenizer import import_tokenizers
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
                f'{str(settings.path)!r} says that {token["content"]!r} is token {i},'
                f' but after its vocabulary comes {found}; its files do not belong'
                ' together.'
            )


def _added(token: dict[str, Any]) -> Any:
    return import_tokenizers().AddedToken(**token)
