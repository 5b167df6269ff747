"""CDial-GPT's layout, against the authors' steps written plainly."""

import json
import random

import pytest

from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers import encode_dialogue
from keraseff.tokenizers import load_tokenizer

WORDS = [*'你好吗我很们天气今不错再见', '，', '。']
SPECIALS = ['[CLS]', '[PAD]', '[SEP]', '[UNK]', '[speaker1]', '[speaker2]']
VOCABULARY = {token: i for i, token in enumerate(SPECIALS + WORDS)}
TURNS = ['你好', '你 好 吗', '我很好，', '今天天气不错。', '再见']


@pytest.fixture
def tokenizer():
    return Tokenizer(VOCABULARY, do_lower_case=True)


def slow(tokenizer, utterances, prompt=False):
    """Token by token, as the authors' dataset and their generation put it together."""
    start, end, one, two = tokenizer.tokens_to_ids(
        ['[CLS]', '[SEP]', '[speaker1]', '[speaker2]']
    )
    ids, segments = [start], [start]
    utterances = list(utterances) + [''] * prompt
    speaker = one
    for utterance in utterances:
        ids.append(speaker)
        segments.append(speaker)
        for token in tokenizer.tokenize(utterance)[1:-1]:
            ids.append(tokenizer.token_to_id(token))
            segments.append(speaker)
        speaker = two if speaker == one else one
    if not prompt:
        ids.append(end)
        segments.append(segments[-1])
    return ids, segments


@pytest.mark.parametrize('prompt', [False, True])
def test_layout_equals_the_plain_way(tokenizer, prompt):
    for count in range(1, len(TURNS) + 1):
        turns = TURNS[:count]
        ours = encode_dialogue(tokenizer, turns, prompt=prompt)
        assert ours == slow(tokenizer, turns, prompt)
        assert encode_dialogue(tokenizer, turns, 99, prompt) == ours


def test_layout_by_hand(tokenizer):
    ids, segments = encode_dialogue(tokenizer, ['你好', '再见'])
    tokens = tokenizer.ids_to_tokens(ids)
    assert tokens == [
        '[CLS]', '[speaker1]', '你', '好', '[speaker2]', '再', '见', '[SEP]',
    ]  # fmt: skip
    assert segments == [0, 4, 4, 4, 5, 5, 5, 5]
    ids, segments = encode_dialogue(tokenizer, ['你好'], prompt=True)
    assert (ids[-1], segments[-1]) == (5, 5)


@pytest.mark.parametrize('prompt', [False, True])
def test_the_oldest_turns_go_in_pairs(tokenizer, prompt):
    for count in range(3, len(TURNS) + 1):
        turns = TURNS[:count]
        for maxlen in range(4, 40):
            ids, segments = encode_dialogue(tokenizer, turns, maxlen, prompt)
            assert len(ids) == len(segments) <= maxlen
            kept = [slow(tokenizer, turns[i:], prompt) for i in range(0, count, 2)]
            fits = [row for row in kept if len(row[0]) <= maxlen]
            if fits:
                assert (ids, segments) == fits[0]
            # The last speaker is who he was.
            assert segments[-1] == slow(tokenizer, turns, prompt)[1][-1]


def test_a_pair_that_is_too_long_is_cut(tokenizer):
    turns = ['你好吗', '我很好']
    whole = encode_dialogue(tokenizer, turns)[0]
    assert encode_dialogue(tokenizer, turns, 8)[0] == whole[:2] + whole[4:]
    assert encode_dialogue(tokenizer, turns, 6)[0] == whole[:2] + whole[5:8] + [2]
    assert encode_dialogue(tokenizer, turns, 4)[0] == [0, 4, 5, 2]
    with pytest.raises(ValueError, match='use 1 more'):
        encode_dialogue(tokenizer, turns, 3)
    prompt = encode_dialogue(tokenizer, turns[:1], 4, prompt=True)[0]
    assert prompt == [0, 4, whole[4], 5]


def test_what_is_refused(tokenizer):
    for nothing in [], '你好':
        with pytest.raises(ValueError, match='list of one utterance'):
            encode_dialogue(tokenizer, nothing)
    bare = {token: i for token, i in VOCABULARY.items() if 'speaker' not in token}
    with pytest.raises(ValueError, match=r"no token '\[speaker1\]'"):
        encode_dialogue(Tokenizer(bare), TURNS)
    with pytest.raises(ValueError, match='no token None'):
        encode_dialogue(Tokenizer(VOCABULARY, token_end=None), TURNS)


def test_other_speakers(tokenizer):
    ids, _ = encode_dialogue(tokenizer, ['你', '我'], speakers=('[SEP]', '[CLS]'))
    assert tokenizer.ids_to_tokens(ids)[1::2] == ['[SEP]', '[CLS]', '[SEP]']


def test_real_dialogues(data_dir):
    tokenizer = load_tokenizer(data_dir / 'cdial_gpt' / 'config' / 'cgpt')
    path = data_dir / 'cdial_gpt' / 'data' / 'toy_data.json'
    dialogues = json.loads(path.read_text(encoding='utf-8'))['train'][:300]
    speakers = tokenizer.tokens_to_ids(['[speaker1]', '[speaker2]'])
    assert speakers == [13086, 13087]
    rng = random.Random(0)
    for dialogue in dialogues:
        ids, segments = encode_dialogue(tokenizer, dialogue)
        assert (ids, segments) == slow(tokenizer, dialogue)
        assert set(segments) <= {0, *speakers}
        maxlen = rng.randint(10, 40)
        assert len(encode_dialogue(tokenizer, dialogue, maxlen)[0]) <= maxlen
