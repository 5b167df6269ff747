"""Ids, against the plain way, transformers, and what bert4keras does."""

import pickle
import time

import hostile
import pytest
from hostile import VOCABULARY

from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers import save_vocab

SURROGATES = ['\ud800', 'a\udc00b', '我\ud83d爱']


class Plain(Tokenizer):
    """Overriding a step turns the tables off."""

    def _tokenize(self, text, pre_tokenize=True):
        return super()._tokenize(text, pre_tokenize)


@pytest.mark.parametrize('lower', [True, False])
@pytest.mark.parametrize('split', [None, lambda text: list(text[::1]), str.split])
def test_tables_equal_the_plain_way(lower, split):
    options = {'do_lower_case': lower, 'pre_tokenize': split}
    fast = Tokenizer(VOCABULARY, user_words=['天安门', 'bert'], **options)
    slow = Plain(VOCABULARY, user_words=['天安门', 'bert'], **options)
    assert slow._lookup is None
    for text in hostile.texts(300) + SURROGATES:
        assert fast.encode(text) == slow.encode(text), ascii(text)


@pytest.mark.parametrize('lower', [True, False])
def test_ids_equal_transformers(tmp_path, lower):
    transformers = pytest.importorskip('transformers')
    vocab_path = tmp_path / 'vocab.txt'
    save_vocab(vocab_path, VOCABULARY)
    peer = transformers.BertTokenizer(vocab=str(vocab_path), do_lower_case=lower)
    ours = Tokenizer(vocab_path, do_lower_case=lower)
    texts = hostile.texts(4000)
    expected = [e.ids for e in peer._tokenizer.encode_batch(texts)]
    specials = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
    wrong = [
        ascii(text)
        for text, ids in zip(texts, expected, strict=True)
        if not any(s in text for s in specials) and ours.encode(text)[0] != ids
    ]
    assert not wrong
    matching = Tokenizer(vocab_path, do_lower_case=lower, match_special=True)
    pair = '我[MASK]京x[SEP]', 'A[UNK][CLS]b'
    for text in [*hostile.TEXTS, *pair]:
        assert matching.encode(text)[0] == peer(text)['input_ids'], ascii(text)
    together = peer(*pair)
    assert matching.encode(*pair) == (
        together['input_ids'],
        together['token_type_ids'],
    )


def test_specials_in_user_text_are_characters():
    safe = Tokenizer(VOCABULARY)
    assert safe.tokenize('[新]') == ['[CLS]', '[', '新', ']', '[SEP]']
    assert safe._token_mask_id not in safe.encode('a[MASK]b')[0]
    matching = Tokenizer(VOCABULARY, match_special=True)
    assert matching.tokenize('a[MASK]b')[1:-1] == ['a', '[MASK]', 'b']
    assert matching.rematch('a [MASK][北') == [[], [0], [], [8], [9], []]


def test_an_unknown_word_stays_whole():
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True)
    tokens = tokenizer.tokenize('爱Ωmega')
    assert tokens == ['[CLS]', '爱', 'ωmega', '[SEP]']
    assert tokenizer.encode('爱Ωmega')[0][2] == tokenizer._token_unk_id
    assert tokenizer.rematch('爱Ωmega')[2] == [1, 2, 3, 4, 5]


def test_word_maxlen():
    short, long = Tokenizer(VOCABULARY), Tokenizer(VOCABULARY, word_maxlen=200)
    assert len(short.encode('a' * 100)[0]) == 102
    assert len(short.encode('a' * 101)[0]) == 3
    assert len(long.encode('a' * 200)[0]) == 202


def test_words_of_pre_tokenize_stay_whole():
    words = ['我', '北京', '天安', '门']
    tokenizer = Tokenizer(VOCABULARY, pre_tokenize=lambda text: words)
    assert tokenizer.tokenize('x')[1:-1] == ['我', '北京', '天', '安', '门']


def test_user_words():
    words = ['北京', '北京天安门', 'bert', '没有的词']
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True, user_words=words)
    tokens = tokenizer.tokenize('我爱北京天安门，北京BERT alberta [MASK] 没有')
    assert tokens[1:9] == ['我', '爱', '北京天安门', '，', '北京', 'bert', 'a', '##l']
    assert '[MASK]' not in tokens
    assert '没有的词' not in tokens
    assert tokenizer.rematch('去北京 BERT')[2:4] == [[1, 2], [4, 5, 6, 7]]


def test_the_vocabulary_as_user_words():
    tokenizer = Tokenizer(VOCABULARY, user_words=VOCABULARY)
    tokens = tokenizer.tokenize('##a[MASK]')
    assert tokens[1:-1] == ['#', '#', 'a', '[', 'M', '##A', '##S', '##K', ']']
    assert tokenizer.tokenize('北京天安门')[1:-1] == ['北京天安门']


def test_user_words_come_before_pre_tokenize():
    seen = []
    tokenizer = Tokenizer(
        VOCABULARY,
        user_words=['天安门'],
        pre_tokenize=lambda text: seen.append(text) or [text],
    )
    assert tokenizer.tokenize('北京天安门') == ['[CLS]', '北京', '天安门', '[SEP]']
    assert seen == ['北京']


def test_token_translate():
    tokenizer = Tokenizer(VOCABULARY, token_translate={'爱': '[unused1]'})
    ids = tokenizer.encode('我爱北')[0]
    assert tokenizer.ids_to_tokens(ids)[1:-1] == ['我', '[unused1]', '北']
    assert tokenizer.rematch('我爱北') == [[], [0], [1], [2], []]
    assert tokenizer.decode(ids) == '我爱北'


def test_batch_equals_one_by_one():
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True)
    texts = hostile.texts(50)
    seconds = texts[::-1]
    for maxlen in None, 4, 9:
        rows = [tokenizer.encode(text, maxlen=maxlen) for text in texts]
        assert tokenizer.encode_batch(texts, maxlen=maxlen) == tuple(
            map(list, zip(*rows, strict=True))
        )
        pairs = zip(texts, seconds, strict=True)
        rows = [tokenizer.encode(a, b, maxlen) for a, b in pairs]
        assert tokenizer.encode_batch(texts, seconds, maxlen) == tuple(
            map(list, zip(*rows, strict=True))
        )
    with pytest.raises(ValueError, match='2 texts came with 1'):
        tokenizer.encode_batch(['a', 'b'], ['c'])


def test_ids_and_tokens():
    tokenizer = Tokenizer({**VOCABULARY, 'far': len(VOCABULARY) + 2})
    assert tokenizer._vocab_size == len(VOCABULARY) + 3
    assert tokenizer.id_to_token(len(VOCABULARY)) == '[UNK]'
    assert tokenizer.tokens_to_ids(['far', 'nowhere']) == [len(VOCABULARY) + 2, 2]
    with pytest.raises(ValueError, match='outside the vocabulary'):
        tokenizer.id_to_token(len(VOCABULARY) + 3)


def test_vocabularies_without_specials():
    with pytest.raises(ValueError, match=r"token_start='\[CLS\]'"):
        Tokenizer({'a': 0})
    bare = Tokenizer({'a': 0}, token_start=None, token_end=None)
    assert bare.encode('a a') == ([0, 0], [0, 0])
    assert bare._token_mask_id is None
    with pytest.raises(ValueError, match='not in the vocabulary'):
        bare.encode('b')


def test_pickle():
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True, user_words=['北京'])
    tokenizer.encode('我爱BERT')
    again = pickle.loads(pickle.dumps(tokenizer))
    for text in hostile.texts(30):
        assert again.encode(text) == tokenizer.encode(text)


def test_not_a_text():
    tokenizer = Tokenizer(VOCABULARY)
    for nothing in None, b'a', 3:
        with pytest.raises(TypeError):
            tokenizer.encode(nothing)


def test_long_texts_take_linear_time():
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True)
    for text in 'ab' * 10_000, '我' * 20_000, 'é ' * 10_000:
        start = time.perf_counter()
        tokenizer.encode(text)
        tokenizer.rematch(text)
        assert time.perf_counter() - start < 10


@pytest.mark.parametrize('lower', [True, False])
def test_a_sample_of_real_texts(data_dir, lower):
    compare_with_transformers(data_dir, lower, every=400)


@pytest.mark.real_data
def test_all_real_texts(data_dir):
    compare_with_transformers(data_dir, lower=True, every=1)


@pytest.mark.real_data
def test_many_real_texts_with_capitals(data_dir):
    compare_with_transformers(data_dir, lower=False, every=5)


def compare_with_transformers(data_dir, lower, every):
    transformers = pytest.importorskip('transformers')
    real_texts = pytest.importorskip('real_texts')
    vocab = data_dir / 'chinese_bert_vocab_config' / 'vocab.txt'
    peer = transformers.BertTokenizer(vocab=str(vocab), do_lower_case=lower)
    ours = Tokenizer(vocab, do_lower_case=lower)
    count = 0
    for batch in real_texts.batches(data_dir, every):
        expected = [e.ids for e in peer._tokenizer.encode_batch(batch)]
        ids, segments = ours.encode_batch(batch)
        count += len(batch)
        for text, row, right in zip(batch, ids, expected, strict=True):
            assert row == right, text
        assert [len(row) for row in segments] == [len(row) for row in ids]
    assert count > 200
