"""Tokens back to a text as people write it."""

import re
from collections.abc import Sequence

from keraseff.tokenizers.characters import is_ideograph
from keraseff.tokenizers.characters import is_punctuation

CJK_PUNCTUATION = (
    '＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､\u3000、〃〈〉《》'
    '「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏﹑﹔·！？｡。'
)
_TIGHT = frozenset('+-/=&_\\^~*|<>@`')
_OPENING = frozenset('([{$#')
_QUOTES = frozenset('"\'')
_CONTRACTED = frozenset(('re', 'm', 's', 't', 've', 'd', 'll'))
_KANA_OR_WIDE = re.compile('[\u3040-\u30ff\uff00-\uffef]')


def cjk_punctuation() -> str:
    """The punctuation that Chinese sets without spaces."""
    return CJK_PUNCTUATION


def join_tokens(tokens: Sequence[str]) -> str:
    """Joins tokens: no spaces next to Chinese, one between other words.

    '##' pieces are attached; '(' and quotes to what they open, ',' and the like to what
    comes before; numbers such as 3.14, 12:30 and 1,000 are put together.
    """
    text, tight = '', True
    inside: set[str] = set()
    for i, token in enumerate(tokens):
        if token[:2] == '##' and len(token) > 2:
            text, tight = text + token[2:], False
            continue
        following = tokens[i + 1] if i + 1 < len(tokens) else ''
        before, after = _sides(token, text, following, inside)
        gap = not (tight or before or _is_chinese(text[-1:]) or _is_chinese(token[0]))
        text += ' ' + token if gap else token
        tight = after
    return text


def _sides(
    token: str, text: str, following: str, inside: set[str]
) -> tuple[bool, bool]:
    """Whether a token attaches to what stands before it, and to what follows."""
    if len(token) > 1 or not is_punctuation(token):
        return False, False
    if token == "'" and following in _CONTRACTED and text[-1:].isalnum():
        return True, True
    if token in _QUOTES:
        closes = token in inside
        inside.symmetric_difference_update(token)
        return closes, not closes
    if token in _TIGHT:
        return True, True
    if token in _OPENING:
        return False, True
    return True, _within_number(token, text, following)


def _within_number(token: str, text: str, following: str) -> bool:
    if not (text[-1:].isdigit() and following.isdigit()):
        return False
    return token in '.:' or (token == ',' and len(following) == 3)


def _is_chinese(ch: str) -> bool:
    """Whether `ch` is written without a space beside it."""
    return bool(ch) and (
        is_ideograph(ch) or ch in CJK_PUNCTUATION or bool(_KANA_OR_WIDE.match(ch))
    )
