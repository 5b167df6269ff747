"""What lies beside a vocabulary and says how it is to be used."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

_GENERAL = 'PreTrainedTokenizer', 'TokenizersBackend', 'PythonBackend'


@dataclass
class Settings:
    """`tokenizer_config.json` and its kin, in transformers' order of precedence.

    Args:
        path: their directory.
        options: `tokenizer_config.json` as it is.
        model_type: as in `config.json`, '' without.
        special: {'eos_token': {'content': '</s>'}, …}.
        extra_special: further special tokens.
        added: {id: {'content': token, 'lstrip': …}}: tokens with stated ids.
    """

    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    model_type: str = ''
    special: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra_special: list[dict[str, Any]] = field(default_factory=list)
    added: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The tokenizer's class by transformers' name without 'Fast', else ''."""
        name = str(self.options.get('tokenizer_class') or '').removesuffix('Fast')
        return '' if name in _GENERAL else name

    @property
    def family(self) -> str:
        """The tokenizer's class, or the model's type where that says nothing."""
        return self.kind or self.model_type

    def content(self, name: str) -> str | None:
        """The special token of a name, None where there is none."""
        token = self.special.get(name)
        return None if token is None else token['content']

    def contents(self) -> dict[str, str]:
        """{name: special token}."""
        return {name: token['content'] for name, token in self.special.items()}

    def default(self, **tokens: str) -> None:
        """Sets special tokens that no file names (a null is a name for none)."""
        for name, content in tokens.items():
            if name not in self.special and name not in self.options:
                self.special[name] = {'content': content}


def read_settings(path: Path) -> Settings:
    """Reads what there is of the files in a directory.

    Raises:
        ValueError: a file is damaged.
    """
    settings = Settings(path, options=read_json(path / 'tokenizer_config.json'))
    model_type = read_json(path / 'config.json').get('model_type')
    settings.model_type = model_type if isinstance(model_type, str) else ''
    try:
        _read_tokens(settings)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'The special or added tokens in {os.fspath(path)!r} cannot be read'
            f' ({type(error).__name__}: {error}); fetch its tokenizer_config.json,'
            ' special_tokens_map.json and added_tokens.json again.'
        ) from error
    return settings


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, {} where there is no such file.

    Raises:
        ValueError: the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{os.fspath(path)!r} is not JSON ({error}).') from error
    if not isinstance(content, dict):
        raise ValueError(
            f'{os.fspath(path)!r} holds a {type(content).__name__}; expected an object.'
        )
    return content


def _read_tokens(settings: Settings) -> None:
    options = settings.options
    stated = options.get('added_tokens_decoder')
    tokens = dict(options)
    if stated is None:
        tokens.update(read_json(settings.path / 'special_tokens_map.json'))
    for name, value in tokens.items():
        # `add_bos_token` and the like are truth values.
        if name.endswith('_token') and isinstance(value, str | Mapping):
            settings.special[name] = _token(value)
    extra = tokens.get('additional_special_tokens') or []
    extra = tokens.get('extra_special_tokens') or extra
    if isinstance(extra, Mapping):
        settings.special.update({name: _token(v) for name, v in extra.items()})
    else:
        settings.extra_special = [_token(value) for value in extra]
    if stated is not None:
        settings.added = {int(i): _token(token) for i, token in stated.items()}
        return
    specials = [*settings.special.values(), *settings.extra_special]
    named = {token['content'] for token in specials}
    for token, i in read_json(settings.path / 'added_tokens.json').items():
        special = token in named
        settings.added[int(i)] = {'content': token, 'special': special}


def _token(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {'content': value}
    known = ('content', 'single_word', 'lstrip', 'rstrip', 'normalized', 'special')
    token = {name: value[name] for name in known if name in value}
    if not isinstance(token['content'], str):
        raise TypeError(f'a token must be a str, got {token["content"]!r}')
    return token
