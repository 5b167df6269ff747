"""Dialogues whose turns are marked by tokens for the speakers, as in CDial-GPT."""

from collections.abc import Sequence

from keraseff.tokenizers.base import Encoded
from keraseff.tokenizers.base import TokenizerBase

Turn = list[int]


def encode_dialogue(
    tokenizer: TokenizerBase,
    utterances: Sequence[str],
    maxlen: int | None = None,
    prompt: bool = False,
    speakers: Sequence[str] = ('[speaker1]', '[speaker2]'),
) -> Encoded:
    """The token ids and the segment ids of a dialogue, as CDial-GPT reads it.

        [CLS] [speaker1] u1 [speaker2] u2 … [speaker2] un [SEP]

    A segment id is the token id of who speaks, that of [CLS] the id of [CLS]. The
    first utterance is always the first speaker's, also of what is left of a longer
    dialogue.

    Args:
        tokenizer: over a vocabulary with the speakers' tokens; CDial-GPT's is
            `Tokenizer('vocab.txt', do_lower_case=True)`.
        utterances: from the oldest to the newest.
        maxlen: at most so many ids. The oldest two utterances go first, again and
            again, so that everyone keeps his token; then the beginning of the oldest,
            then the end of the newest.
        prompt: instead of [SEP], ends with the token of who speaks next, for a model
            to go on from.
        speakers: the tokens of the two.

    Raises:
        ValueError: there is no utterance, the tokenizer lacks one of the tokens, or
            `maxlen` is too small for them.

    Wang et al. 2020, https://arxiv.org/abs/2008.03946
    """
    if isinstance(utterances, str) or not utterances:
        raise ValueError(
            f'Expected a list of one utterance or more; got {utterances!r}.'
        )
    ids = [_special_id(tokenizer, token) for token in speakers]
    start = _special_id(tokenizer, tokenizer._token_start)
    end = [] if prompt else [_special_id(tokenizer, tokenizer._token_end)]
    turns = [_bare_ids(tokenizer, utterance) for utterance in utterances]
    if prompt:
        turns.append([])
    if maxlen is not None:
        turns = _shorten(turns, maxlen - 1 - len(end))
    token_ids, segment_ids = [start], [start]
    for i, turn in enumerate(turns):
        speaker = ids[i % 2]
        last = end if i + 1 == len(turns) else []
        token_ids += [speaker, *turn, *last]
        segment_ids += [speaker] * (1 + len(turn) + len(last))
    return token_ids, segment_ids


def _shorten(turns: list[Turn], room: int) -> list[Turn]:
    """The newest turns, each with its speaker's token, that fit into `room` ids."""
    excess = sum(1 + len(turn) for turn in turns) - room
    while excess > 0 and len(turns) > 2:
        excess -= sum(1 + len(turn) for turn in turns[:2])
        turns = turns[2:]
    if excess <= 0:
        return turns
    oldest, newest = (turns[0], turns[1]) if len(turns) == 2 else ([], turns[0])
    cut = min(excess, len(oldest))
    excess -= cut
    if excess > len(newest):
        raise ValueError(
            f'maxlen has no room for the special tokens; use {excess - len(newest)}'
            ' more.'
        )
    newest = newest[: len(newest) - excess]
    return [oldest[cut:], newest] if len(turns) == 2 else [newest]


def _bare_ids(tokenizer: TokenizerBase, utterance: str) -> Turn:
    ids = tokenizer.encode(utterance)[0]
    first = int(tokenizer._token_start is not None)
    return ids[first : len(ids) - int(tokenizer._token_end is not None)]


def _special_id(tokenizer: TokenizerBase, token: str | None) -> int:
    if token is not None:
        i = tokenizer.token_to_id(token)
        if i != getattr(tokenizer, '_token_unk_id', None):
            return i
    raise ValueError(
        f'The tokenizer has no token {token!r}; a dialogue needs its start, end and'
        " speakers' tokens. Is this the vocabulary of CDial-GPT?"
    )
