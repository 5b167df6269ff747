"""The tokenizers that a `tokenizer.json` describes: GPT-2's, Qwen's, LLaMA's, …"""

import json
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

_SURROGATES = re.compile('[\ud800-\udfff]')
_USUAL = {
    'pad_token': ('[PAD]', '<pad>'),
    'unk_token': ('[UNK]', '<unk>'),
    'mask_token': ('[MASK]', '<mask>'),
}


class JsonTokenizer(TokenizerBase):
    """What a `tokenizer.json` describes, run by the package tokenizers.

    One class for byte-level BPE (GPT-2, Qwen, LLaMA-3), BPE with byte fallback
    (LLaMA-2), Unigram (T5, mT5) and any other pipeline, because the file itself says
    how it normalises, splits, cuts and surrounds a text. Ids equal transformers'. A
    pair is put together by `pattern`, as everywhere: 'S*ES*E' is what transformers does
    for LLaMA-3, 'S*E*E' what it does for the others.

    Args:
        source: the path of the file, or a `tokenizers.Tokenizer`, whose own padding
            and truncation are switched off.
        special_tokens: {'pad_token': '<pad>', 'eos_token': …}: names as in
            `tokenizer_config.json`. They must be in the vocabulary; `load_tokenizer`
            reads them from the directory.
        match_special: takes special tokens that are written in a text for the tokens,
            as transformers does. Say False for text that users write, else anyone can
            end a turn of a chat.
        **kwargs: `token_start` and `token_end`, by default those that the file puts
            around a text, and `token_translate`; see `TokenizerBase`.

    Raises:
        ImportError: the package tokenizers is not installed.
        ValueError: the file is damaged, or surrounds texts by more than one token on a
            side.

    https://huggingface.co/docs/tokenizers
    """

    def __init__(
        self,
        source: Any,
        special_tokens: Mapping[str, str] | None = None,
        match_special: bool = True,
        **kwargs: Any,
    ) -> None:
        if isinstance(source, str | os.PathLike):
            source = read_tokenizer_json(source)
        if not {'token_start', 'token_end'} <= kwargs.keys():
            start, end = ends_of(source.post_processor)
            kwargs = {'token_start': start, 'token_end': end, **kwargs}
        super().__init__(**kwargs)
        if self._pre_tokenize is not None:
            raise ValueError(
                'pre_tokenize does not go with a tokenizer.json, which says itself how'
                ' texts are split; leave it out.'
            )
        source.no_padding()
        source.no_truncation()
        source.encode_special_tokens = not match_special
        self._model = source
        # The package shows an added token as its normalised form.
        added = source.get_added_tokens_decoder()
        self._added = {i: token.content for i, token in added.items()}
        self._vocab_size = max(source.get_vocab().values(), default=-1) + 1
        self.special_tokens = dict(special_tokens or {})
        self._set_special_ids()

    def token_to_id(self, token: str) -> int:
        """The id of a token, that of the unknown token where there is none."""
        i = self._model.token_to_id(token)
        if i is None:
            i = self._token_unk_id
        if i is None:
            raise ValueError(
                f'{token!r} is not one of the {self._vocab_size} tokens, and there is'
                ' no unknown token; take tokens from `tokenize`.'
            )
        return i

    def id_to_token(self, i: int) -> str:
        """The token of an id; '' past the vocabulary, whose matrix may be padded."""
        if i < 0:
            raise ValueError(f'id {i} is negative; ids begin at 0.')
        return self._added.get(i) or self._model.id_to_token(i) or ''

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, special tokens left out.

        Nothing is tidied up, so a byte-level tokenizer gives every text back as it was
        (after its own normalisation). Half a character becomes U+FFFD.
        """
        translate = self._token_translate_inv
        if translate:
            tokens = [translate.get(t, t) for t in self.ids_to_tokens(ids)]
            ids = [self._model.token_to_id(token) for token in tokens if token]
        kept = [i for i in ids if i is not None and i < self._vocab_size]
        return self._model.decode(kept, skip_special_tokens=True)

    def rematch(
        self, text: str, tokens: Sequence[str] | None = None
    ) -> list[list[int]]:
        """For each token, the indices in `text` of the characters it came from.

        Specials around the text give []. The tokens that share a character, as bytes
        of an emoji do, all have its index. White space at the ends of a token does not
        count, unless the token is nothing else.

        Args:
            tokens: what `tokenize(text)` returned, perhaps truncated; None to do it
                here.

        Raises:
            ValueError: the tokens are not this text's.
        """
        found = self._encode(text)
        spans = [
            without_spaces(text, range(first, last)) for first, last in found.offsets
        ]
        translate = self._token_translate
        shown = [translate.get(token, token) for token in self._tokens(found)]
        ends = self._token_start, self._token_end
        if tokens is None:
            tokens = self._surround(list(shown), *ends)
        return pick(spans, shown, tokens, ends)

    def encode_batch(
        self,
        texts: Iterable[Text],
        second_texts: Iterable[Text] | None = None,
        maxlen: int | None = None,
        pattern: str = 'S*E*E',
        truncate_from: str | int = 'right',
    ) -> tuple[list[list[int]], list[list[int]]]:
        """`encode` for many texts, on all cores: all token ids, and all segment ids."""
        texts = list(texts)
        plain = second_texts is None and not self._token_translate
        if not plain or not all(isinstance(text, str) for text in texts):
            return super().encode_batch(
                texts, second_texts, maxlen, pattern, truncate_from
            )
        texts = [_SURROGATES.sub('\ufffd', text) for text in texts]
        found = self._model.encode_batch_fast(texts, add_special_tokens=False)
        ends = self._token_start_id, self._token_end_id
        rows = [self._surround(encoding.ids, *ends) for encoding in found]
        if maxlen is not None:
            cut = self._truncate
            rows = [cut(maxlen, truncate_from, False, row)[0] for row in rows]
        return rows, [[0] * len(row) for row in rows]

    def _ids(self, text: Text) -> list[int]:
        if not isinstance(text, str) or self._token_translate:
            return super()._ids(text)
        ids = self._encode(text).ids
        return self._surround(ids, self._token_start_id, self._token_end_id)

    def _tokenize(self, text: str) -> list[str]:
        return self._tokens(self._encode(text))

    def _tokens(self, encoding: Any) -> list[str]:
        known, unknown = self.id_to_token, self._token_unk_id
        pairs = zip(encoding.tokens, encoding.ids, strict=True)
        return [token if i == unknown else known(i) for token, i in pairs]

    def _encode(self, text: str) -> Any:
        text = _SURROGATES.sub('\ufffd', text)
        return self._model.encode(text, add_special_tokens=False)

    def _set_special_ids(self) -> None:
        known = self._model.token_to_id
        unknown = getattr(self._model.model, 'unk_token', None)
        if unknown is not None:
            self.special_tokens.setdefault('unk_token', unknown)
        for name, usual in _USUAL.items():
            found = next((token for token in usual if known(token) is not None), None)
            if found is not None:
                self.special_tokens.setdefault(name, found)
        for name, token in self.special_tokens.items():
            if known(token) is None:
                raise ValueError(
                    f'{name}={token!r} is not in the vocabulary of {self._vocab_size}'
                    ' tokens; leave it out, or use the tokenizer it belongs to.'
                )
        for name in 'pad', 'unk', 'mask':
            token = self.special_tokens.get(f'{name}_token')
            setattr(self, f'_token_{name}', token)
            setattr(self, f'_token_{name}_id', None if token is None else known(token))
        for name in 'token_start', 'token_end':
            token = getattr(self, f'_{name}')
            i = None if token is None else known(token)
            if i is None and token is not None:
                raise ValueError(
                    f'{name}={token!r} is not in the vocabulary of {self._vocab_size}'
                    f' tokens; pass one of them, or {name}=None.'
                )
            setattr(self, f'_{name}_id', i)


def read_tokenizer_json(path: str | os.PathLike[str]) -> Any:
    """The `tokenizers.Tokenizer` of a file.

    Raises:
        ImportError: the package tokenizers is not installed.
        ValueError: the file is damaged.
    """
    rust = import_tokenizers()
    buffer = Path(path).read_bytes()
    try:
        return rust.Tokenizer.from_buffer(buffer)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the package panics outside of Exception
        raise ValueError(
            f'{os.fspath(path)!r} is not a tokenizer.json, or a damaged one ({error});'
            ' fetch it again.'
        ) from error


def import_tokenizers() -> Any:
    """The package tokenizers."""
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            'This tokenizer needs the package tokenizers: pip install tokenizers'
        ) from error
    return tokenizers


def ends_of(post_processor: Any) -> tuple[str | None, str | None]:
    """The tokens that a post-processor puts before and behind a text."""
    if post_processor is None:
        return None, None
    before, behind = _around(json.loads(post_processor.__getstate__()))
    if len(before) > 1 or len(behind) > 1:
        raise ValueError(
            f'The file puts {before} before a text and {behind} behind it; only one'
            ' token on a side is possible. Pass token_start and token_end.'
        )
    return (before or [None])[0], (behind or [None])[0]


def _around(state: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    kind = state.get('type')
    if kind == 'ByteLevel':
        return [], []
    if kind in ('BertProcessing', 'RobertaProcessing'):
        return [state['cls'][0]], [state['sep'][0]]
    if kind == 'TemplateProcessing':
        before, behind = [], []
        side = before
        for piece in state['single']:
            if 'Sequence' in piece:
                side = behind
                continue
            name = piece['SpecialToken']['id']
            if name not in state['special_tokens']:
                raise ValueError(
                    f'The template uses {name!r}, which it does not define.'
                )
            side += state['special_tokens'][name]['tokens']
        return before, behind
    if kind == 'Sequence':
        before, behind = [], []
        for inner in state['processors']:
            left, right = _around(inner)
            before, behind = left + before, behind + right
        return before, behind
    raise ValueError(
        f'The post-processor {kind!r} is not known; pass token_start and token_end.'
    )
