"""Vocabulary files: one token a line, its id the number of the line."""

import os
import re
import warnings
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from typing import overload

from keraseff.tokenizers.characters import is_ideograph
from keraseff.tokenizers.characters import is_punctuation

TokenDict = dict[str, int]


def stem(token: str) -> str:
    """The token without the leading '##' of a word's later pieces."""
    return token[2:] if token[:2] == '##' else token


def is_special(token: str) -> bool:
    """Whether a token is written like [CLS], which stands for no characters."""
    return token[:1] == '[' and token[-1:] == ']'


def is_redundant(token: str) -> bool:
    """Whether a tokenizer that isolates ideographs and punctuation can never give
    this token: several characters, one of them such."""
    return len(token) > 1 and any(
        is_ideograph(ch) or is_punctuation(ch) for ch in stem(token)
    )


@overload
def load_vocab(
    dict_path: str | os.PathLike[str],
    encoding: str = ...,
    simplified: Literal[False] = ...,
    startswith: Sequence[str] | None = ...,
) -> TokenDict: ...


@overload
def load_vocab(
    dict_path: str | os.PathLike[str],
    encoding: str = ...,
    *,
    simplified: Literal[True],
    startswith: Sequence[str] | None = ...,
) -> tuple[TokenDict, list[int]]: ...


def load_vocab(
    dict_path: str | os.PathLike[str],
    encoding: str = 'utf-8',
    simplified: bool = False,
    startswith: Sequence[str] | None = None,
) -> TokenDict | tuple[TokenDict, list[int]]:
    """Reads a vocabulary file.

    Ids are line numbers, from 0. A repeated token keeps its first id and an empty line
    none, both with a warning; neither moves the ids of the others. What follows the
    first white space in a line is not read.

    Args:
        simplified: leaves out the tokens that are never met (see `is_redundant`).
        startswith: with `simplified`, the tokens that come first, in this order.

    Returns:
        {token: id}; with `simplified`, ({token: new id}, the old id of each new id),
        the second for `keep_tokens` of `build_transformer_model`.

    Raises:
        ValueError: the file has no token, or one of `startswith` is not in it.
    """
    token_dict = _read(dict_path, encoding)
    if not simplified:
        return token_dict
    first = list(dict.fromkeys(startswith or ()))
    absent = [token for token in first if token not in token_dict]
    if absent:
        raise ValueError(
            f'startswith has {absent}, but {os.fspath(dict_path)!r} does not; leave'
            ' them out or use the vocabulary they belong to.'
        )
    rest = sorted(token_dict, key=token_dict.__getitem__)
    rest = [t for t in rest if t not in set(first) and not is_redundant(t)]
    kept = [*first, *rest]
    return {t: i for i, t in enumerate(kept)}, [token_dict[t] for t in kept]


def _read(dict_path: str | os.PathLike[str], encoding: str) -> TokenDict:
    token_dict: TokenDict = {}
    empty, repeated = [], []
    # No newline translation: U+2028 and a lone '\r' are characters, not line ends.
    with open(dict_path, encoding=encoding, newline='\n') as reader:
        for i, line in enumerate(_decoded(reader, dict_path)):
            token = _parse(line.removeprefix('\ufeff') if i == 0 else line)
            if not token:
                empty.append(i + 1)
            elif token in token_dict:
                repeated.append((i + 1, token))
            else:
                token_dict[token] = i
    if not token_dict:
        raise ValueError(f'{os.fspath(dict_path)!r} has no tokens, one a line.')
    _report(os.fspath(dict_path), empty, repeated)
    return token_dict


def _decoded(reader: Iterable[str], dict_path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines; an error in their encoding names the file."""
    try:
        yield from reader
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{os.fspath(dict_path)!r} is not a vocabulary in {error.encoding}:'
            f' {error}; pass its encoding.'
        ) from error


def _parse(line: str) -> str:
    fields = line.split(maxsplit=1)
    return fields[0] if fields else line.rstrip('\r\n')


def _report(path: str, empty: list[int], repeated: list[tuple[int, str]]) -> None:
    if empty:
        warnings.warn(
            f'{path!r} has {len(empty)} empty line(s), the first is line {empty[0]}:'
            ' their ids stand for no token.',
            stacklevel=4,
        )
    if repeated:
        line, token = repeated[0]
        warnings.warn(
            f'{path!r} repeats {len(repeated)} token(s), the first is {token!r} in line'
            f' {line}: each keeps its first id.',
            stacklevel=4,
        )


def save_vocab(
    dict_path: str | os.PathLike[str], token_dict: TokenDict, encoding: str = 'utf-8'
) -> None:
    """Writes a vocabulary file, so that `load_vocab` gives the same ids.

    An id that no token has becomes an empty line.

    Raises:
        ValueError: two tokens share an id, an id is negative, or a token has a
            white space, with which it could not be read back.
    """
    tokens = {i: token for token, i in token_dict.items()}
    if len(tokens) < len(token_dict) or min(tokens, default=0) < 0:
        raise ValueError('Ids of a vocabulary must be distinct and not negative.')
    unreadable = [t for t in token_dict if re.search(r'[\r\n]', t) or _parse(t) != t]
    if '' in token_dict or unreadable:
        raise ValueError(
            f'Tokens must be non-empty, without white space; remove {unreadable[:5]}.'
        )
    path = Path(dict_path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with open(temporary, 'w', encoding=encoding, newline='\n') as writer:
            for i in range(max(tokens, default=-1) + 1):
                writer.write(tokens.get(i, '') + '\n')
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
