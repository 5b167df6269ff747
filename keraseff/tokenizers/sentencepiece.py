"""SentencePiece's tokenizer, as T5, mT5, ALBERT, CPM and LLaMA use it."""

import os
import re
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keraseff.tokenizers.alignment import pick
from keraseff.tokenizers.alignment import without_spaces
from keraseff.tokenizers.base import Text
from keraseff.tokenizers.base import TokenizerBase
from keraseff.tokenizers.pieces import one_of
from keraseff.tokenizers.preparation import join_words
from keraseff.tokenizers.preparation import prepare_albert

_SURROGATES = re.compile('[\ud800-\udfff]')
_MASKS = '[MASK]', '<mask>'
Found = tuple[list[str], list[tuple[int, int]]]


class SpTokenizer(TokenizerBase):
    """The tokenizer in a SentencePiece model file; ids equal the library's own.

    T5 and mT5: `token_start=None, token_end='</s>'`. ALBERT: `do_lower_case=True`, the
    ends as they are. CPM: `token_start=None, token_end=None, pre_tokenize=cpm_words`
    (of `keraseff.tokenizers.jieba_words`), and `token_translate={'\u2583': '<cls>'}` if
    a line is to end generation. A run of unknown characters is a token as it stands,
    with the unknown id. Specials that are written in a text are ordinary characters.

    Args:
        sp_model_path: the `.model` file.
        do_lower_case: None for the text as it is. True or False prepares it as
            ALBERT's authors do: white space is unified, accents are taken off and
            letter forms unified (NFKD), a comma behind a digit is a token of its own;
            with True, capitals become small letters.
        extra_tokens: {token: id} of tokens that the model does not have, such as the
            <extra_id_0> of T5; they are found in texts.
        special_tokens: {'pad_token': '<pad>', 'mask_token': …}: names as in
            `tokenizer_config.json`, where the model's own are not meant.
        **kwargs: `token_start` ('[CLS]'), `token_end` ('[SEP]'), `pre_tokenize`,
            `token_translate`; see `TokenizerBase`. The words that `pre_tokenize`
            returns are joined with spaces.

    Raises:
        ImportError: the package sentencepiece is not installed.
        ValueError: the file is no SentencePiece model, or lacks the start or end token.

    Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226
    """

    def __init__(
        self,
        sp_model_path: str | os.PathLike[str],
        do_lower_case: bool | None = None,
        extra_tokens: Mapping[str, int] | None = None,
        special_tokens: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sp_model, self._tokens = _load(sp_model_path)
        self._do_lower_case = do_lower_case
        self._model_size = len(self._tokens)
        self._extra = dict(extra_tokens or {})
        self._extra_inv = {i: token for token, i in self._extra.items()}
        if self._extra and min(self._extra_inv) < 0:
            raise ValueError(f'extra_tokens has a negative id: {min(self._extra_inv)}.')
        self._vocab_size = max([self._model_size, *(i + 1 for i in self._extra_inv)])
        self._written = one_of(self._extra)
        # Such pieces never come out of a text; a text that spells one is unknown.
        hidden = filter(self._is_hidden, range(self._model_size))
        self._hidden = frozenset(self._tokens[i] for i in hidden)
        self.special_tokens = dict(special_tokens or {})
        self._set_special_ids(os.fspath(sp_model_path))

    def token_to_id(self, token: str) -> int:
        """The id of a token, the unknown id where the model has none."""
        i = self._extra.get(token)
        return self.sp_model.piece_to_id(token) if i is None else i

    def id_to_token(self, i: int) -> str:
        """The token of an id; '' past the model, whose matrix may be padded."""
        if i < 0:
            raise ValueError(f'id {i} is negative; ids begin at 0.')
        token = self._extra_inv.get(i)
        if token is not None:
            return token
        return self._tokens[i] if i < self._model_size else ''

    def decode(self, ids: Iterable[int]) -> str:
        """A text from token ids: specials, the unknown and ids past the model are left
        out."""
        translate = self._token_translate_inv
        tokens = []
        for i in ids:
            token = self.id_to_token(i)
            if token in translate:
                tokens.append(translate[token])
            elif self._is_decodable(i):
                tokens.append(token)
        return self.sp_model.decode_pieces(tokens)

    def rematch(
        self, text: str, tokens: Sequence[str] | None = None
    ) -> list[list[int]]:
        """For each token, the indices in `text` of the characters it came from.

        Specials and the '▁' that SentencePiece puts in front give []. White space at
        the ends of a token does not count, unless the token is nothing else.

        Args:
            tokens: what `tokenize(text)` returned, perhaps truncated; None to do it
                here.

        Raises:
            ValueError: the tokens are not this text's, or `pre_tokenize` gives words
                of another length in all than the text's.
        """
        source, spans = [], []
        for start, part, is_extra in self._parts(text):
            if is_extra:
                source.append(part)
                spans.append(list(range(start, start + len(part))))
                continue
            prepared, origins = self._prepare(part, exact=True)
            pieces, offsets = self._encode(prepared)
            source += pieces
            for first, last in offsets:
                indices = sorted({start + i for i in origins[first:last] if i >= 0})
                spans.append(without_spaces(text, indices))
        shown = [self._token_translate.get(token, token) for token in source]
        ends = self._token_start, self._token_end
        if tokens is None:
            tokens = self._surround(list(shown), *ends)
        return pick(spans, shown, tokens, ends)

    def _ids(self, text: Text) -> list[int]:
        plain = not self._token_translate and not self._written
        if not plain or self._do_lower_case is not None or not isinstance(text, str):
            return super()._ids(text)
        ids = self.sp_model.encode(self._prepare(text)[0], out_type=int)
        return self._surround(ids, self._token_start_id, self._token_end_id)

    def _tokenize(self, text: str) -> list[str]:
        tokens: list[str] = []
        for _, part, is_extra in self._parts(text):
            if is_extra:
                tokens.append(part)
            elif self._do_lower_case is not None:
                tokens += self._encode(self._prepare(part)[0])[0]
            else:
                pieces = self.sp_model.encode(self._prepare(part)[0], out_type=str)
                tokens += self._visible(pieces)
        return tokens

    def _encode(self, text: str) -> Found:
        """The pieces of a prepared text, and their places in it."""
        found = self.sp_model.encode(text, return_type='offset_mapping')
        pieces, offsets = self._visible(found['pieces']), found['offsets']
        if self._do_lower_case is not None:
            return self._apart(pieces, offsets)
        return pieces, offsets

    def _apart(self, pieces: list[str], offsets: list[tuple[int, int]]) -> Found:
        """ALBERT's rule for a piece such as '\u25811,': its number is cut anew."""
        tokens: list[str] = []
        places: list[tuple[int, int]] = []
        for piece, (first, last) in zip(pieces, offsets, strict=True):
            if len(piece) < 2 or piece[-1] != ',' or not piece[-2].isdigit():
                tokens.append(piece)
                places.append((first, last))
                continue
            number = piece[:-1].replace('\u2581', '')
            parts = self.sp_model.encode(number, out_type=str)
            if piece[0] != '\u2581' and parts[0][0] == '\u2581':
                parts = [part for part in [parts[0][1:], *parts[1:]] if part]
            tokens += [*parts, ',']
            place = last - 1 - len(number)
            for part in parts:
                size = len(part.replace('\u2581', ''))
                places.append((place, place + size))
                place += size
            places.append((last - 1, last))
        return tokens, places

    def _visible(self, pieces: Iterable[str]) -> list[str]:
        return [self._token_unk if p in self._hidden else p for p in pieces]

    def _parts(self, text: str) -> Iterable[tuple[int, str, bool]]:
        """Cuts a text at its extra tokens: (where it begins, part, whether extra)."""
        if self._written is None:
            yield 0, text, False
            return
        start = 0
        for i, part in enumerate(self._written.split(text)):
            if part:
                yield start, part, i % 2 == 1
            start += len(part)

    def _prepare(self, text: str, exact: bool = False) -> tuple[str, Sequence[int]]:
        """What the model reads, and the index of each character's origin or -1."""
        text = _SURROGATES.sub('\ufffd', text)
        origins: Sequence[int] = range(len(text))
        if self._pre_tokenize is not None:
            words = list(self._pre_tokenize(text))
            if exact and sum(map(len, words)) != len(text):
                raise ValueError(
                    f'pre_tokenize made {sum(map(len, words))} characters of'
                    f' {len(text)}; rematch needs one for one.'
                )
            text, origins = join_words(words)
        if self._do_lower_case is not None:
            text, sources = prepare_albert(text, self._do_lower_case)
            origins = [origins[i] for i in sources]
        return text, origins

    # Specials.

    def _set_special_ids(self, path: str) -> None:
        model = self.sp_model
        pad, unknown = model.pad_id(), model.unk_id()
        self._token_unk = self._tokens[unknown]
        named = self.special_tokens.get
        usual = self._tokens[pad] if pad >= 0 else '<pad>'
        self._token_pad = named('pad_token', usual)
        masks = (token for token in _MASKS if token in self._tokens)
        self._token_mask = named('mask_token', next(masks, '[MASK]'))
        for name in 'pad', 'unk', 'mask', 'start', 'end':
            token = getattr(self, f'_token_{name}')
            i = None if token is None else self.token_to_id(token)
            known = i != unknown or name == 'unk'
            if not known and name in ('start', 'end'):
                raise ValueError(
                    f'token_{name}={token!r} is not in {path!r}; pass one of its pieces'
                    f', such as {self._tokens[:4]}, or token_{name}=None.'
                )
            setattr(self, f'_token_{name}_id', i if known else None)

    def _is_hidden(self, i: int) -> bool:
        model = self.sp_model
        return model.is_control(i) or model.is_unknown(i) or model.is_unused(i)

    def _is_special(self, i: int) -> bool:
        """Whether an id stands for no characters of a text."""
        if i in self._extra_inv:
            return True
        ends = self._token_start_id, self._token_end_id
        if i in (self._token_pad_id, self._token_mask_id, *ends):
            return True
        return i < self._model_size and self._is_hidden(i)

    def _is_decodable(self, i: int) -> bool:
        """Whether `decode` writes an id."""
        return i < self._model_size and not self._is_special(i)


def _load(path: str | os.PathLike[str]) -> tuple[Any, list[str]]:
    """SentencePiece's processor, and all its pieces."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ImportError(
            'SpTokenizer needs the package sentencepiece: pip install sentencepiece'
        ) from error
    processor = SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(Path(path).read_bytes())
        pieces = processor.id_to_piece(list(range(processor.get_piece_size())))
    except (RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(
            f'{os.fspath(path)!r} is not a SentencePiece model, or a damaged one'
            f' ({error}); fetch it again.'
        ) from error
    return processor, pieces
