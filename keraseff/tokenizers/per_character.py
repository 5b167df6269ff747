"""One token a character: for models that learn their embeddings from little text."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence

from keraseff.tokenizers.base import TokenizerBase

SPECIALS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]')


def _folded(character: str) -> str:
    small = character.lower()
    return small if len(small) == 1 else character


class CharacterTokenizer(TokenizerBase):
    """Every character of the text is a token, small letters for capital ones.

    Args:
        tokens: the vocabulary, in the order of the ids; begins with `SPECIALS`.

    Raises ValueError for a vocabulary that begins otherwise.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        super().__init__()
        self.tokens = list(tokens)
        if tuple(self.tokens[:4]) != SPECIALS:
            raise ValueError(f'tokens must begin with {SPECIALS}, got {tokens[:4]}')
        self._token_dict = {token: i for i, token in enumerate(self.tokens)}

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], least: int = 2, known: Iterable[str] = ()
    ) -> 'CharacterTokenizer':
        """With the characters that occur `least` times or are `known` beforehand.

        The rest become [UNK], which is thereby trained.
        """
        counts = Counter(_folded(character) for text in texts for character in text)
        frequent = {character for character, count in counts.items() if count >= least}
        return cls([*SPECIALS, *sorted(frequent.union(known))])

    def token_to_id(self, token: str) -> int:
        """The id of a token, that of [UNK] for an unknown one."""
        return self._token_dict.get(token, self._token_dict[self._token_unk])

    def id_to_token(self, i: int) -> str:
        """The token of an id."""
        return self.tokens[i]

    def decode(self, ids: Iterable[int]) -> str:
        """The characters of the ids, specials left out."""
        return ''.join(t for t in self.ids_to_tokens(ids) if t not in SPECIALS)

    def rematch(
        self, text: str, tokens: Sequence[str] | None = None
    ) -> list[list[int]]:
        """For each token its character's index, in a list; specials give []."""
        count = len(text) if tokens is None else min(len(tokens) - 2, len(text))
        return [[], *([i] for i in range(count)), []]

    def _tokenize(self, text: str) -> list[str]:
        return [_folded(character) for character in text]
