"""BERT's tokenizer: words at spaces, ideographs and punctuation, then WordPiece."""

import os
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keraseff.tokenizers.alignment import align
from keraseff.tokenizers.base import Text
from keraseff.tokenizers.base import TokenizerBase
from keraseff.tokenizers.characters import fold
from keraseff.tokenizers.characters import is_control
from keraseff.tokenizers.characters import is_ideograph
from keraseff.tokenizers.characters import is_punctuation
from keraseff.tokenizers.characters import is_space
from keraseff.tokenizers.characters import split_words
from keraseff.tokenizers.pieces import cut_word
from keraseff.tokenizers.pieces import one_of
from keraseff.tokenizers.pieces import words_between
from keraseff.tokenizers.readable import cjk_punctuation
from keraseff.tokenizers.readable import join_tokens
from keraseff.tokenizers.tables import SPACES
from keraseff.tokenizers.tables import Cache
from keraseff.tokenizers.tables import is_simple
from keraseff.tokenizers.tables import split_runs
from keraseff.tokenizers.user_words import UserWords
from keraseff.tokenizers.vocab import is_redundant
from keraseff.tokenizers.vocab import is_special
from keraseff.tokenizers.vocab import load_vocab
from keraseff.tokenizers.vocab import stem

_STEPS = (
    'tokenize', '_tokenize', '_word_piece_tokenize', 'token_to_id', 'tokens_to_ids',
)  # fmt: skip


class Tokenizer(TokenizerBase):
    """BERT's tokenizer, in Python and fast; ids equal transformers' `BertTokenizer`.

    A word of which a part is not in the vocabulary stays whole as a token, with the id
    of [UNK], so that `rematch` finds it. '[MASK]' and the like *written in a text* are
    ordinary characters, unless `match_special`.

    Args:
        token_dict: {token: id}, or the path of a vocabulary file.
        do_lower_case: also takes accents off. Say True for a vocabulary without
            capitals, as Google's Chinese one is.
        word_maxlen: a word of more characters is unknown. 100 as in transformers;
            bert4keras has 200.
        user_words: words that are kept whole, the longest first, where they are in the
            vocabulary. They come before `pre_tokenize`. Single characters, specials and
            '##' pieces do not count, so the whole vocabulary of a WoBERT will do.
        match_special: takes '[CLS]', '[MASK]', … in a text for the special tokens, as
            transformers does. Not for text that users write.
        **kwargs: `token_start`, `token_end`, `pre_tokenize`, `token_translate`; see
            `TokenizerBase`. Of the words that `pre_tokenize` returns those in the
            vocabulary are kept whole (WoBERT), the others are cut into pieces.

    Raises:
        ValueError: the vocabulary lacks the start or the end token.
    """

    def __init__(
        self,
        token_dict: Mapping[str, int] | str | os.PathLike[str],
        do_lower_case: bool = False,
        word_maxlen: int = 100,
        user_words: Iterable[str] | None = None,
        match_special: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(token_dict, str | os.PathLike):
            token_dict = load_vocab(token_dict)
        self._do_lower_case = do_lower_case
        self._word_maxlen = word_maxlen
        self._token_dict = dict(token_dict)
        self._token_dict_inv = {i: token for token, i in self._token_dict.items()}
        self._vocab_size = max(self._token_dict_inv, default=-1) + 1
        self._set_special_ids()
        words = {self._normalize(word) for word in user_words or ()}
        words = {word for word in words & self._token_dict.keys() if len(word) > 1}
        words = {w for w in words if w[:2] != '##' and not is_special(w)}
        self._user_words = UserWords(words) if words else None
        self._specials = self._written_specials() if match_special else None
        self._set_tables()

    def token_to_id(self, token: str) -> int:
        """The id of a token, that of [UNK] where the vocabulary has none."""
        i = self._token_dict.get(token, self._token_unk_id)
        if i is None:
            raise ValueError(
                f'{token!r} is not in the vocabulary, nor is {self._token_unk!r}; add'
                ' one of them.'
            )
        return i

    def id_to_token(self, i: int) -> str:
        """The token of an id; [UNK] for a gap in the vocabulary."""
        token = self._token_dict_inv.get(i)
        if token is None and not 0 <= i < self._vocab_size:
            raise ValueError(
                f'id {i} is outside the vocabulary of {self._vocab_size}; is this the'
                ' vocabulary of the model?'
            )
        return self._token_unk if token is None else token

    def decode(self, ids: Iterable[int], tokens: Sequence[str] | None = None) -> str:
        """A text that reads well: no spaces within Chinese, punctuation attached.

        Specials, [UNK] among them, are left out.

        Args:
            tokens: used in place of `ids` when given.
        """
        if tokens is None:
            tokens = self.ids_to_tokens(ids)
        translate = self._token_translate_inv
        tokens = [translate.get(token, token) for token in tokens]
        return join_tokens([t for t in tokens if t and not is_special(t)])

    def rematch(
        self, text: str, tokens: Sequence[str] | None = None
    ) -> list[list[int]]:
        """For each token, the indices in `text` of the characters it came from.

        Specials give []. Characters that were taken away (spaces, controls, accents)
        belong to no token. Two tokens share a character only where that one was itself
        cut, as a Hangul syllable into letters.

        Args:
            tokens: what `tokenize(text)` returned, perhaps truncated; None to do it
                here.

        Raises:
            ValueError: a token does not occur in the text after the ones before it.
        """
        source = self._tokenize(text)
        if tokens is None:
            tokens = self._finish(source)
        words = words_between(self._specials, text, self._do_lower_case)
        ends = self._token_start, self._token_end
        return align(words, source, tokens, self._token_translate, ends)

    def encode_batch(
        self,
        texts: Iterable[Text],
        second_texts: Iterable[Text] | None = None,
        maxlen: int | None = None,
        pattern: str = 'S*E*E',
        truncate_from: str | int = 'right',
    ) -> tuple[list[list[int]], list[list[int]]]:
        """`encode` for many texts: all their token ids, and all their segment ids."""
        if second_texts is not None:
            return super().encode_batch(
                texts, second_texts, maxlen, pattern, truncate_from
            )
        rows = [self._ids(text) for text in texts]
        if maxlen is not None:
            cut = self._truncate
            rows = [cut(maxlen, truncate_from, False, row)[0] for row in rows]
        return rows, [[0] * len(row) for row in rows]

    # Tokens: the plain way.

    def _tokenize(self, text: str, pre_tokenize: bool = True) -> list[str]:
        tokens: list[str] = []
        for piece, whole in self._pieces(text) if pre_tokenize else [(text, False)]:
            if whole:
                tokens.append(piece)
                continue
            for word, _ in split_words(piece, self._do_lower_case):
                tokens.extend(self._word_piece_tokenize(word))
        return tokens

    def _pieces(self, text: str) -> Iterable[tuple[str, bool]]:
        """Cuts a text into pieces: (piece, whether it is a token as it stands)."""
        if self._specials is None:
            yield from self._chosen_words(text)
            return
        for i, part in enumerate(self._specials.split(text)):
            if i % 2:
                yield part, True
            else:
                yield from self._chosen_words(part)

    def _chosen_words(self, text: str) -> Iterable[tuple[str, bool]]:
        if self._user_words is None and self._pre_tokenize is None:
            yield text, False
            return
        text = self._normalize(text)
        pieces = self._user_words.split(text) if self._user_words else [(text, False)]
        for piece, whole in pieces:
            if whole or self._pre_tokenize is None:
                yield piece, whole
            else:
                for word in self._pre_tokenize(piece):
                    yield word, word in self._token_dict

    def _normalize(self, text: str) -> str:
        if not self._do_lower_case:
            return text
        return text.lower() if is_simple(text) else fold(text)[0]

    def _word_piece_tokenize(self, word: str) -> list[str]:
        return cut_word(word, self._token_dict, self._word_maxlen)

    # Ids: the same by tables.

    def _set_tables(self) -> None:
        self._lookup: Callable[[str], list[int]] | None
        changed = any(
            getattr(type(self), name) is not getattr(Tokenizer, name) for name in _STEPS
        )
        pieces = self._user_words or self._pre_tokenize or self._specials
        self._lookup = self._piece_ids if pieces else self._plain_ids
        if changed:
            self._lookup = None
        self._single = Cache(self._translated_id).__getitem__
        self._runs = Cache(self._run_ids)

    def _ids(self, text: Text) -> list[int]:
        if self._lookup is None or not isinstance(text, str):
            return super()._ids(text)
        return self._surround(
            self._lookup(text), self._token_start_id, self._token_end_id
        )

    def _plain_ids(self, text: str) -> list[int]:
        parts = split_runs(text)
        ids = list(map(self._single, parts[0]))
        for i in range(1, len(parts), 2):
            ids += self._runs[parts[i]]
            ids += map(self._single, parts[i + 1])
        return ids

    def _piece_ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece, whole in self._pieces(text):
            ids += (self._translated_id(piece),) if whole else self._plain_ids(piece)
        return ids

    def _run_ids(self, run: str) -> tuple[int, ...]:
        words = SPACES.split(run)
        if len(words) > 1:
            return tuple(i for word in words if word for i in self._runs[word])
        tokens = self._tokenize(run, pre_tokenize=False)
        return tuple(self._translated_id(token) for token in tokens)

    def _translated_id(self, token: str) -> int:
        return self.token_to_id(self._token_translate.get(token, token))

    # Construction and pickling.

    def _set_special_ids(self) -> None:
        get = self._token_dict.get
        self._token_pad_id = get(self._token_pad)
        self._token_unk_id = get(self._token_unk)
        self._token_mask_id = get(self._token_mask)
        for name in 'token_start', 'token_end':
            token = getattr(self, '_' + name)
            if token is not None and token not in self._token_dict:
                raise ValueError(
                    f'{name}={token!r} is not in the vocabulary of'
                    f' {len(self._token_dict)} tokens; add it, or pass {name}=None.'
                )
        self._token_start_id = get(self._token_start)
        self._token_end_id = get(self._token_end)

    def _written_specials(self) -> re.Pattern[str] | None:
        tokens = {self._token_pad, self._token_unk, self._token_mask}
        tokens |= {'[CLS]', '[SEP]', self._token_start, self._token_end}
        return one_of(token for token in tokens if token in self._token_dict)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for table in '_lookup', '_single', '_runs':
            del state[table]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_tables()

    # bert4keras' names for what is said of characters and tokens.

    stem = staticmethod(stem)
    _is_space = staticmethod(is_space)
    _is_punctuation = staticmethod(is_punctuation)
    _is_cjk_character = staticmethod(is_ideograph)
    _is_redundant = staticmethod(is_redundant)
    _is_control = staticmethod(is_control)
    _is_special = staticmethod(is_special)
    _cjk_punctuation = staticmethod(cjk_punctuation)
