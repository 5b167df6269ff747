"""What every tokenizer does with tokens once it has them: specials, pairs, lengths."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar('Item')
Text = str | Sequence[str]
Encoded = tuple[list[int], list[int]]


class TokenizerBase:
    """The part of a tokenizer that does not depend on how it cuts words.

    A subclass has `_tokenize`, `token_to_id`, `id_to_token` and `decode`.

    Args:
        token_start: put before every text; None for nothing.
        token_end: put behind every text; None for nothing.
        pre_tokenize: text -> words, run first, such as `jieba.lcut`.
        token_translate: {token: the token to use in its place}.
    """

    def __init__(
        self,
        token_start: str | None = '[CLS]',
        token_end: str | None = '[SEP]',
        pre_tokenize: Callable[[str], Iterable[str]] | None = None,
        token_translate: Mapping[str, str] | None = None,
    ) -> None:
        self._token_pad = '[PAD]'
        self._token_unk = '[UNK]'
        self._token_mask = '[MASK]'
        self._token_start = token_start
        self._token_end = token_end
        self._pre_tokenize = pre_tokenize
        self._token_translate = dict(token_translate or {})
        self._token_translate_inv = {v: k for k, v in self._token_translate.items()}

    def tokenize(self, text: str, maxlen: int | None = None) -> list[str]:
        """The tokens of a text, between the start and the end token.

        Args:
            maxlen: at most so many tokens, both specials counted; the right end of the
                text is cut.

        Raises:
            ValueError: `maxlen` is too small for the specials.
        """
        tokens = self._finish(self._tokenize(_text(text)))
        if maxlen is None:
            return tokens
        return self._truncate(maxlen, 'right', False, tokens)[0]

    def encode(
        self,
        first_text: Text,
        second_text: Text | None = None,
        maxlen: int | None = None,
        pattern: str = 'S*E*E',
        truncate_from: str | int = 'right',
    ) -> Encoded:
        """The token ids and the segment ids (0, then 1) of a text or of a pair.

        Args:
            first_text: a text, or its tokens as `tokenize` gives them.
            second_text: likewise; None for a single text.
            maxlen: at most so many ids; the longer of the two texts is cut first.
            pattern: 'S*E*E' leaves out the second start token, anything else keeps it.
            truncate_from: 'right', 'left', or the index at which tokens are taken out.

        Raises:
            ValueError: `maxlen` is too small for the specials.
        """
        drops_start = pattern == 'S*E*E'
        sequences = [self._ids(first_text)]
        if second_text is not None:
            sequences.append(self._ids(second_text))
        if maxlen is not None:
            sequences = self._truncate(maxlen, truncate_from, drops_start, *sequences)
        ids = sequences[0]
        segments = [0] * len(ids)
        if second_text is not None:
            first_kept = int(drops_start and self._token_start is not None)
            second = sequences[1][first_kept:]
            ids = ids + second
            segments += [1] * len(second)
        return ids, segments

    def encode_batch(
        self,
        texts: Iterable[Text],
        second_texts: Iterable[Text] | None = None,
        maxlen: int | None = None,
        pattern: str = 'S*E*E',
        truncate_from: str | int = 'right',
    ) -> tuple[list[list[int]], list[list[int]]]:
        """`encode` for many texts: all their token ids, and all their segment ids.

        Raises:
            ValueError: there are not as many second texts as texts.
        """
        texts = list(texts)
        seconds = [None] * len(texts) if second_texts is None else list(second_texts)
        if len(seconds) != len(texts):
            raise ValueError(
                f'{len(texts)} texts came with {len(seconds)} second texts; pass one'
                ' second text for each, or second_texts=None.'
            )
        rows = [
            self.encode(first, second, maxlen, pattern, truncate_from)
            for first, second in zip(texts, seconds, strict=True)
        ]
        return [ids for ids, _ in rows], [segments for _, segments in rows]

    def tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """`token_to_id` of each."""
        return [self.token_to_id(token) for token in tokens]

    def ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """`id_to_token` of each."""
        return [self.id_to_token(i) for i in ids]

    def token_to_id(self, token: str) -> int:
        """The id of a token."""
        raise NotImplementedError

    def id_to_token(self, i: int) -> str:
        """The token of an id."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """A text that reads well, from token ids."""
        raise NotImplementedError

    def _tokenize(self, text: str) -> list[str]:
        """The tokens of a text, without specials and before translation."""
        raise NotImplementedError

    def _ids(self, text: Text) -> list[int]:
        """The ids of a text, specials included, or of tokens."""
        tokens = self.tokenize(text) if isinstance(text, str) else _tokens(text)
        return self.tokens_to_ids(tokens)

    def _finish(self, tokens: list[str]) -> list[str]:
        """Translated, between the start and the end token."""
        translated = [self._token_translate.get(token, token) for token in tokens]
        return self._surround(translated, self._token_start, self._token_end)

    @staticmethod
    def _surround(
        items: list[Item], start: Item | None, end: Item | None
    ) -> list[Item]:
        if start is not None:
            items.insert(0, start)
        if end is not None:
            items.append(end)
        return items

    def _truncate(
        self,
        maxlen: int,
        truncate_from: str | int,
        drops_start: bool,
        *sequences: list[Item],
    ) -> list[list[Item]]:
        """Shortens one or two sequences, the longer first, to `maxlen` together."""
        start, end = self._token_start is not None, self._token_end is not None
        unseen = int(len(sequences) > 1 and drops_start and start)
        specials = len(sequences) * (start + end) - unseen
        if maxlen < specials:
            raise ValueError(
                f'maxlen={maxlen} has no room for the {specials} special tokens; use'
                f' {specials + 1} or more.'
            )
        if truncate_from == 'right':
            index = -int(end) - 1
        elif truncate_from == 'left':
            index = int(start)
        elif isinstance(truncate_from, str):
            raise ValueError(
                f"truncate_from={truncate_from!r} is not known; use 'right', 'left' or"
                ' the index at which tokens are taken out.'
            )
        else:
            index = truncate_from
        excess = _share([len(s) for s in sequences], maxlen + unseen)
        return [_take_out(s, index, n) for s, n in zip(sequences, excess, strict=True)]


def _share(lengths: list[int], maxlen: int) -> list[int]:
    """How much to take from each: always from the longest, from the first if equal."""
    excess = max(sum(lengths) - maxlen, 0)
    if len(lengths) == 1:
        return [excess]
    first, second = lengths
    lead = min(abs(first - second), excess)
    ahead = (lead, 0) if first > second else (0, lead)
    both = excess - lead
    return [ahead[0] + (both + 1) // 2, ahead[1] + both // 2]


def _take_out(items: list[Item], index: int, count: int) -> list[Item]:
    """`items` after `count` times `items.pop(index)`."""
    if not count:
        return items
    if index >= 0:
        left, right = index, len(items) - index - count
    else:
        left, right = len(items) + index + 1 - count, -index - 1
    if left < 0 or right < 0:
        raise ValueError(
            f'Cannot take {count} of {len(items)} tokens out at index {index}; use a'
            ' larger maxlen or another truncate_from.'
        )
    return items[:left] + items[len(items) - right :]


def _text(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f'A text must be a str; got {type(text).__name__}. Decode bytes and'
            ' replace missing values first.'
        )
    return text


def _tokens(tokens: Sequence[str]) -> list[str]:
    if isinstance(tokens, list | tuple):
        return list(tokens)
    raise TypeError(
        f'Expected a str, or a list of tokens; got {type(tokens).__name__}.'
    )
