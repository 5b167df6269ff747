"""SentencePiece: against the package itself, transformers, and ALBERT's own steps."""

import pickle
import random
import sys
import unicodedata

import hostile
import pytest
import trained

from keraseff.tokenizers import SpTokenizer
from keraseff.tokenizers.jieba_words import cpm_words

sp = pytest.importorskip('sentencepiece')
TEXTS = trained.lines() + hostile.texts(300)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sentencepiece')
    trained.sentencepiece(folder / 't5.model', **trained.T5)
    trained.sentencepiece(folder / 'albert.model', **trained.ALBERT)
    trained.sentencepiece(folder / 'bytes.model', None, 'bpe', 2000, byte_fallback=True)
    trained.sentencepiece(
        folder / 'cpm.model',
        [' '.join(cpm_words(text)) for text in trained.lines()],
        control_symbols='<cls>,<sep>,<eod>',
        user_defined_symbols=['\u2582', '\u2583'],
    )
    return folder


@pytest.fixture(scope='module')
def t5(folder):
    return SpTokenizer(folder / 't5.model', token_start=None, token_end='</s>')


@pytest.fixture(scope='module')
def albert(folder):
    return SpTokenizer(folder / 'albert.model', do_lower_case=True)


@pytest.mark.parametrize('model', ['t5', 'albert', 'bytes', 'cpm'])
def test_ids_equal_the_package(folder, model):
    peer = sp.SentencePieceProcessor(model_file=str(folder / f'{model}.model'))
    mine = SpTokenizer(folder / f'{model}.model', token_start=None, token_end=None)
    for text in TEXTS:
        ids = peer.encode(text, out_type=int)
        assert mine.encode(text)[0] == ids, ascii(text)
        assert mine.tokens_to_ids(mine.tokenize(text)) == ids, ascii(text)
        assert mine.encode(mine.tokenize(text))[0] == ids
        if peer.unk_id() not in ids:
            assert mine.decode(ids) == peer.decode(ids)
    rows = [mine.encode(text, maxlen=5)[0] for text in TEXTS]
    assert mine.encode_batch(TEXTS, maxlen=5)[0] == rows
    assert pickle.loads(pickle.dumps(mine)).encode_batch(TEXTS, maxlen=5)[0] == rows


def test_specials(t5, albert):
    assert (t5._token_pad_id, t5._token_end_id, t5._token_unk_id) == (0, 1, 2)
    assert t5._token_start_id is None
    assert t5._token_mask_id is None
    assert albert._token_start_id == albert.token_to_id('[CLS]') == 2
    assert (albert._token_pad_id, albert._token_unk_id) == (0, 1)
    assert (albert._token_end_id, albert._token_mask_id) == (3, 4)
    special = [i for i in range(albert._vocab_size) if albert._is_special(i)]
    assert special == [0, 1, 2, 3, 4]
    assert not albert._is_decodable(albert._vocab_size)
    assert albert.encode('x', '我')[1] == [0] * 4 + [1] * 3


def test_specials_in_a_text_are_characters(t5, albert):
    assert t5.encode('a</s>b<pad><unk>')[0].count(1) == 1
    assert albert.encode('[CLS][SEP][MASK]')[0][1:-1].count(3) == 0
    # '</s>' as a run of unknown characters must not become the special token.
    tokens = t5._visible(['\u2581', '</s>'])
    assert t5.tokens_to_ids(tokens)[1] == 2


def test_ids_past_the_model(t5):
    ids = t5.encode('导师任职于')[0]
    assert t5.id_to_token(t5._vocab_size) == ''
    assert t5.decode([*ids, t5._vocab_size, t5._vocab_size + 100]) == t5.decode(ids)
    assert t5.decode([0, *ids, 0, 2]) == '导师任职于'
    with pytest.raises(ValueError, match='negative'):
        t5.id_to_token(-1)


def test_the_ends_must_be_pieces(folder):
    with pytest.raises(ValueError, match=r"token_start='\[CLS\]' is not in .*t5.model"):
        SpTokenizer(folder / 't5.model')
    mine = SpTokenizer(folder / 'albert.model')
    assert mine.tokenize('x')[0] == '[CLS]'
    assert mine.tokenize('x')[-1] == '[SEP]'


def test_rematch_equals_the_surfaces(folder):
    """The package's own surfaces tile the text; spaces at their ends do not count."""
    for model in 't5', 'bytes':
        peer = sp.SentencePieceProcessor(model_file=str(folder / f'{model}.model'))
        mine = SpTokenizer(
            folder / f'{model}.model', token_start=None, token_end='</s>'
        )
        for text in TEXTS:
            pieces = peer.encode(text, return_type='proto').pieces
            spans = mine.rematch(text)
            assert spans[-1] == []
            for piece, span in zip(pieces, spans[:-1], strict=True):
                if '\ufffd' in piece.surface or not piece.surface:
                    continue
                shown = ''.join(text[i] for i in span)
                assert shown == (piece.surface.strip() or piece.surface), ascii(text)


def test_rematch_of_a_cut_text(t5):
    text = '导师布拉图西，任职于 the quick fox 。' * 3
    whole = t5.rematch(text)
    for cut in 'right', 'left', 5:
        ids = t5.encode(text, maxlen=11, truncate_from=cut)[0]
        spans = t5.rematch(text, t5.ids_to_tokens(ids))
        assert len(spans) == 11
        assert all(span in whole for span in spans)
    with pytest.raises(ValueError, match='not what `tokenize` gives'):
        t5.rematch('another', t5.tokenize(text))


def test_cpm(folder):
    pytest.importorskip('jieba')
    mine = SpTokenizer(
        folder / 'cpm.model',
        token_start=None,
        token_end=None,
        pre_tokenize=cpm_words,
        token_translate={'\u2583': '<cls>'},
    )
    peer = sp.SentencePieceProcessor(model_file=str(folder / 'cpm.model'))
    line = mine.token_to_id('<cls>')
    for text in ['美国的首都是 华盛顿\n中国的首都是', *TEXTS[:60]]:
        if not text.strip():
            continue
        words = ' '.join(cpm_words(text))
        expected = peer.encode(words, out_type=str)
        tokens = mine.tokenize(text)
        assert tokens == ['<cls>' if t == '\u2583' else t for t in expected]
        assert mine.encode(text)[0].count(line) == tokens.count('<cls>')
    text = '教育部 的\n导师'
    spans, tokens = mine.rematch(text), mine.tokenize(text)
    shown = [''.join(text[i] for i in span) for span in spans]
    bare = [token.replace('\u2581', '') for token in tokens]
    written = {'\u2582': ' ', '<cls>': '\n'}
    assert shown == [written.get(token, token) for token in bare]
    assert '<cls>' in tokens
    assert '\u2583' in mine.decode(mine.encode(text)[0])


def test_pre_tokenize_may_drop_characters(folder):
    mine = SpTokenizer(
        folder / 't5.model', token_start=None, token_end=None, pre_tokenize=str.split
    )
    assert mine.tokenize('任职 于') == mine.tokenize('任职  于')
    with pytest.raises(ValueError, match='one for one'):
        mine.rematch('任职 于')


def slow_albert(model, text):
    """The steps of ALBERT's authors, one after another."""
    text = unicodedata.normalize('NFKD', ' '.join(text.split()))
    text = ''.join(ch for ch in text if not unicodedata.combining(ch)).lower()
    tokens = []
    for piece in model.encode(text, out_type=str):
        if piece[-1:] != ',' or not piece[-2:-1].isdigit():
            tokens.append(piece)
            continue
        number = model.encode(piece.strip('\u2581')[:-1], out_type=str)
        if not piece.startswith('\u2581'):
            number[0] = number[0].removeprefix('\u2581')
        tokens += [*filter(None, number), ',']
    return tokens


def test_albert(folder, albert):
    commas = ['1,000', 'x 12,', '在12,5日', '2,,3', '９，８,', 'and 3.5,a', 'ΑΣ ÉTÉ']
    numbers = [*trained.lines(), *(f'{i}, x{i},' for i in range(100))] * 2
    path = trained.sentencepiece(
        folder / 'commas.model',
        numbers,
        user_defined_symbols=['12,', 'x5,', '\u25817,', '30,'],
        **trained.ALBERT,
    )
    albert = SpTokenizer(path, do_lower_case=True)
    assert any(t[-1] == ',' and t[-2:-1].isdigit() for t in albert._tokens)
    for text in commas + TEXTS:
        expected = slow_albert(albert.sp_model, text)
        assert albert.tokenize(text)[1:-1] == expected, ascii(text)
        ids = [albert.sp_model.piece_to_id(token) for token in expected]
        assert albert.encode(text)[0][1:-1] == ids
        spans = albert.rematch(text)
        starts = [span[0] for span in spans if span]
        assert starts == sorted(starts)
        assert len(spans) == len(expected) + 2
    text = 'x 12, ÉTÉ'
    shown = [''.join(text[i] for i in span) for span in albert.rematch(text)]
    assert ''.join(shown).replace(' ', '') == 'x12,ÉTÉ'
    assert shown.count(',') == 1


def test_extra_tokens(folder):
    mine = SpTokenizer(
        folder / 't5.model',
        token_start=None,
        token_end='</s>',
        extra_tokens={'<extra_id_0>': 1299, '<extra_id_1>': 1298, '<extra': 1297},
    )
    text = '导师<extra_id_0>于 <extra_id_1>'
    tokens = mine.tokenize(text)
    assert mine.encode(text)[0][-2:] == [1298, 1]
    assert tokens[tokens.index('<extra_id_0>') + 1 :][:2] == ['\u2581', '于']
    assert mine._vocab_size == 1300
    assert mine.decode(mine.encode(text)[0]) == '导师 于'
    assert mine.id_to_token(1299) == '<extra_id_0>'
    span = mine.rematch(text)[tokens.index('<extra_id_1>')]
    assert text[span[0] : span[-1] + 1] == '<extra_id_1>'


def test_damaged_models(folder, tmp_path):
    whole = (folder / 't5.model').read_bytes()
    rng = random.Random(0)
    path = tmp_path / 'damaged.model'
    cuts = [whole[: rng.randrange(len(whole))] for _ in range(20)]
    for data in [b'', b'PK\x03\x04', b'\x0a\xff\xff\xff\xff\x0f', *cuts]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match='damaged.model'):
            SpTokenizer(path, token_start=None, token_end=None)
    for _ in range(60):
        flipped = bytearray(whole)
        for _ in range(rng.choice([1, 5, 50])):
            flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            mine = SpTokenizer(path, token_start=None, token_end=None)
        except ValueError:
            continue
        mine.decode(mine.encode('导师任职于 fox')[0])


def test_lone_surrogates(t5):
    assert t5.encode('a\ud800b')[0] == t5.encode('a\ufffdb')[0]


def test_without_the_package(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, 'sentencepiece', None)
    with pytest.raises(ImportError, match='pip install sentencepiece'):
        SpTokenizer(folder / 't5.model')
