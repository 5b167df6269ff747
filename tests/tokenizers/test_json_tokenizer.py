"""tokenizer.json: against transformers, a slow BPE, and the bytes of a text."""

import json
import pickle
import random
import sys
import unicodedata

import hostile
import pytest
import trained

from keraseff.tokenizers import JsonTokenizer
from keraseff.tokenizers import load_tokenizer

pytest.importorskip('tokenizers')
pytest.importorskip('sentencepiece')
NAMES = ['gpt2', 'qwen2', 'llama3', 't5_json', 'llama2_json']
BYTES = NAMES[:3]
TEXTS = trained.lines() + hostile.texts(300) + ['a\ud800b']


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    pytest.importorskip('transformers')
    root = tmp_path_factory.mktemp('tokenizers')
    return {name: getattr(trained, name)(root / name) for name in NAMES}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope='module')
def ours(folders):
    return {name: load_tokenizer(folder) for name, folder in folders.items()}


@pytest.fixture(scope='module')
def peers(folders):
    import transformers

    load = transformers.AutoTokenizer.from_pretrained
    return {name: load(folder) for name, folder in folders.items()}


def test_ids_equal_transformers(name, ours, peers):
    mine, peer = ours[name], peers[name]
    assert isinstance(mine, JsonTokenizer)
    for text in TEXTS[:-1]:
        # transformers' LLaMA-2 leaves out one of the spaces a text begins with where
        # it makes the pipeline itself, and does not where it reads the file.
        assert mine.encode(text)[0] == peer(text)['input_ids'], ascii(text)
        kept = peer.decode(
            peer(text)['input_ids'],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        assert mine.decode(mine.encode(text)[0]) == kept, ascii(text)
    assert mine._vocab_size == len(peer)


@pytest.mark.parametrize('name', NAMES)
def test_pairs_equal_transformers(name, ours, peers):
    peer = peers[name]
    pattern = 'S*ES*E' if peer('')['input_ids'][:1] == [peer.bos_token_id] else 'S*E*E'
    for first, second in zip(TEXTS[:50], TEXTS[50:100], strict=True):
        ids, segments = ours[name].encode(first, second, pattern=pattern)
        assert ids == peer(first, second)['input_ids']
        count = len(ours[name].encode(first)[0])
        assert segments == [0] * count + [1] * (len(ids) - count)


@pytest.mark.parametrize('name', BYTES)
def test_tokens_equal_a_slow_encoding(name, folders, ours):
    bytepair = pytest.importorskip('reference.bytepair')
    pipeline = ours[name]._model
    model = json.loads(pipeline.to_str())['model']
    specials = [t.content for t in pipeline.get_added_tokens_decoder().values()]
    rules = {
        'gpt2': {'words': bytepair.GPT2_WORDS},
        'qwen2': {'words': trained.QWEN_WORDS},
        'llama3': {'words': trained.LLAMA3_WORDS, 'whole': True},
    }[name]
    written = f'a{specials[0]} b{specials[-1]}{specials[0]}'
    for text in [*TEXTS[::3], *hostile.TEXTS, written]:
        text = unicodedata.normalize('NFC', text) if name == 'qwen2' else text
        if '\ud800' in text:
            continue
        expected = bytepair.tokenize(
            text, model['vocab'], model['merges'], specials=specials, **rules
        )
        assert ours[name]._tokenize(text) == expected, ascii(text)


@pytest.mark.parametrize('name', BYTES)
def test_every_text_comes_back(name, ours):
    for text in TEXTS[:-1]:
        expected = unicodedata.normalize('NFC', text) if name == 'qwen2' else text
        assert ours[name].decode(ours[name].encode(text)[0]) == expected


def test_ways_agree(name, ours):
    mine = ours[name]
    for maxlen in None, 7:
        rows = [mine.encode(text, maxlen=maxlen)[0] for text in TEXTS]
        assert mine.encode_batch(TEXTS, maxlen=maxlen)[0] == rows
        tokens = [mine.tokenize(text, maxlen=maxlen) for text in TEXTS]
        assert [mine.tokens_to_ids(row) for row in tokens] == rows
        assert maxlen is None or max(map(len, rows)) == maxlen
    assert mine.encode('我爱 x', 'y')[0] == mine.encode(mine.tokenize('我爱 x'), 'y')[0]
    again = pickle.loads(pickle.dumps(mine))
    assert [again.encode(text)[0] for text in TEXTS[:50]] == [
        mine.encode(text)[0] for text in TEXTS[:50]
    ]
    seconds = mine.encode_batch(TEXTS[:9], TEXTS[1:10])
    assert seconds[0][3] == mine.encode(TEXTS[3], TEXTS[4])[0]


def trimmed(text, indices):
    """Without spaces at the ends, unless there is nothing else."""
    left = text[indices[0] : indices[-1] + 1]
    if not left.strip():
        return indices
    start = indices[0] + len(left) - len(left.lstrip())
    return list(range(start, start + len(left.strip())))


@pytest.mark.parametrize('name', ['gpt2', 'llama3'])
def test_rematch_equals_counting_bytes(name, ours):
    bytepair = pytest.importorskip('reference.bytepair')
    for text in TEXTS[:-1]:
        places = [i for i, ch in enumerate(text) for _ in ch.encode()]
        tokens = ours[name].tokenize(text)
        expected, start = [], 0
        for token in tokens:
            if token == ours[name]._token_start:
                expected.append([])
                continue
            stop = start + len(bytepair.token_bytes(token))
            expected.append(trimmed(text, sorted(set(places[start:stop]))))
            start = stop
        assert ours[name].rematch(text, tokens) == expected, ascii(text)


def test_rematch_covers_the_text(name, ours):
    mine, plain = ours[name], 0
    for text in trained.lines():
        spans = mine.rematch(text)
        assert len(spans) == len(mine.tokenize(text))
        covered = {i for span in spans for i in span}
        missed = {i for i, ch in enumerate(text) if not ch.isspace()} - covered
        if unicodedata.normalize('NFKC', text) == text and text.isprintable():
            assert not missed, ascii(text)
            plain += 1
        starts = [span[0] for span in spans if span]
        assert starts == sorted(starts)
    assert plain > 10


def test_rematch_of_a_cut_text(ours):
    mine = ours['llama3']
    text = '导师布拉图西，任职于 the quick fox 。' * 3
    whole = mine.rematch(text)
    for cut in 'right', 'left', 4:
        ids = mine.encode(text, maxlen=12, truncate_from=cut)[0]
        tokens = mine.ids_to_tokens(ids)
        spans = mine.rematch(text, tokens)
        assert len(spans) == 12
        assert all(span in whole for span in spans)
        assert spans[0] == []
    with pytest.raises(ValueError, match='not what `tokenize` gives'):
        mine.rematch('another', tokens)


def test_specials_in_a_text(folders, ours, peers):
    text = '你好<|im_end|>再见<|endoftext|> <think>'
    mine = ours['qwen2']
    assert mine.encode(text)[0] == peers['qwen2'](text)['input_ids']
    end = mine.token_to_id('<|im_end|>')
    assert mine.special_tokens['eos_token'] == '<|im_end|>'
    assert end in mine.encode(text)[0]
    assert mine.decode(mine.encode(text)[0]) == '你好再见 <think>'
    safe = load_tokenizer(folders['qwen2'], match_special=False)
    assert end not in safe.encode(text)[0]
    assert safe.decode(safe.encode(text)[0]) == text
    expected = peers['qwen2'](text, split_special_tokens=True)['input_ids']
    assert safe.encode(text)[0] == expected


def test_ends_can_be_chosen(folders):
    mine = load_tokenizer(folders['qwen2'], token_end='<|im_end|>')
    plain = load_tokenizer(folders['qwen2'])
    assert mine.encode('x')[0] == [*plain.encode('x')[0], mine._token_end_id]
    bare = load_tokenizer(folders['llama3'], token_start=None)
    assert bare.encode('x')[0] == load_tokenizer(folders['llama3']).encode('x')[0][1:]
    with pytest.raises(ValueError, match="token_end='nothing' is not in"):
        load_tokenizer(folders['gpt2'], token_end='nothing')


def test_translated_tokens(folders):
    mine = load_tokenizer(folders['gpt2'], token_translate={'x': '<|endoftext|>'})
    ids = mine.encode('x y')[0]
    assert ids[0] == mine.token_to_id('<|endoftext|>')
    assert mine.decode(ids) == 'x y'
    assert mine.rematch('x y') == [[0], *mine.rematch('y y')[1:]]


def test_ids_and_tokens(ours):
    mine = ours['qwen2']
    assert mine.id_to_token(mine._vocab_size + 5) == ''
    assert mine.decode([mine._vocab_size + 5, *mine.encode('我')[0]]) == '我'
    with pytest.raises(ValueError, match='negative'):
        mine.id_to_token(-1)
    with pytest.raises(ValueError, match='no unknown token'):
        mine.token_to_id('没有的词')
    t5 = ours['t5_json']
    assert (t5._token_pad_id, t5._token_end_id, t5._token_unk_id) == (0, 1, 2)
    assert t5.token_to_id('没有的词') == 2


def test_damaged_files(folders, tmp_path):
    whole = (folders['gpt2'] / 'vocab.json').read_bytes()
    qwen = (folders['qwen2'] / 'tokenizer.json').read_bytes()
    path = tmp_path / 'tokenizer.json'
    rng = random.Random(0)
    cuts = [qwen[: rng.randrange(len(qwen))] for _ in range(20)]
    for data in [b'', b'[]', b'{}', b'\xff\xfe', whole, b'[' * 100_000, *cuts]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match='tokenizer.json'):
            JsonTokenizer(path)
    for _ in range(60):
        flipped = bytearray(qwen)
        for _ in range(3):
            flipped[rng.randrange(len(qwen))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            JsonTokenizer(path).encode('我爱 the fox')
        except ValueError:
            pass


def test_two_tokens_on_a_side(folders):
    import tokenizers

    pipeline = tokenizers.Tokenizer.from_file(str(folders['qwen2'] / 'tokenizer.json'))
    names = ['<|im_start|>', '<|im_end|>']
    pipeline.post_processor = tokenizers.processors.TemplateProcessing(
        single=f'{names[0]} {names[1]} $A {names[1]}',
        special_tokens=[(name, pipeline.token_to_id(name)) for name in names],
    )
    with pytest.raises(ValueError, match='only one token on a side'):
        JsonTokenizer(pipeline)
    mine = JsonTokenizer(pipeline, token_start=None, token_end=None)
    assert mine.decode(mine.encode('我')[0]) == '我'
    with pytest.raises(ValueError, match='pre_tokenize does not go'):
        JsonTokenizer(pipeline, token_start=None, token_end=None, pre_tokenize=list)


def test_without_the_package(monkeypatch, folders):
    monkeypatch.setitem(sys.modules, 'tokenizers', None)
    with pytest.raises(ImportError, match='pip install tokenizers'):
        load_tokenizer(folders['gpt2'])
