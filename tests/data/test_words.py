import pytest

from keraseff.data.words import WordPieces
from keraseff.data.words import encoded
from keraseff.tokenizers import CharacterTokenizer
from keraseff.tokenizers import Tokenizer

TOKENS = (
    '[PAD] [UNK] [CLS] [SEP] [MASK] 我 们 在 北 京 大 学 , 。 un ##aff ##able cafe 2'
)
VOCAB = {token: i for i, token in enumerate(TOKENS.split())}


@pytest.fixture(scope='module')
def tokenizer():
    return Tokenizer(VOCAB, do_lower_case=True)


def read(text, tokenizer, cut=None):
    """The words as strings of tokens."""
    ids, starts = WordPieces(tokenizer, cut).piece(text)
    assert ids == tokenizer.encode(text)[0][1:-1]
    words = []
    for token, start in zip(tokenizer.ids_to_tokens(ids), starts, strict=True):
        if start:
            words.append(token)
        else:
            words[-1] += token
    return words


def test_words_are_those_of_jieba(tokenizer):
    words = read('我们在北京大学。', tokenizer)
    assert words == ['我们', '在', '北京大学', '。']
    assert read('', tokenizer) == []


def test_a_foreign_word_stays_whole(tokenizer):
    text = '我们 unaffable,2'
    assert read(text, tokenizer) == ['我们', 'un##aff##able', ',', '2']
    # a cut within it, and one within what the tokenizer makes a single token
    for cut in (list, lambda _: ['我们', ' una', 'ffable', ',', '2']):
        words = read(text, tokenizer, cut)
        assert words[-3:] == ['un##aff##able', ',', '2']
    assert read('Café我们', tokenizer, list) == ['cafe', '我', '们']


def test_unknown_runs_do_not_unsettle_the_rest(tokenizer):
    # the tokenizer makes one [UNK] of what jieba cuts
    words = read('我们⊙∀⊙北京大学', tokenizer, lambda t: ['我们', *'⊙∀⊙', '北京大学'])
    assert words[0] == '我们'
    assert words[-1] == '北京大学'


def test_documents_lose_their_empty_texts(tokenizer):
    pieces = WordPieces(tokenizer)(['我们', ' ', '', '。'])
    assert [len(ids) for ids, _ in pieces] == [2, 1]


def test_another_tokenizer():
    tokenizer = CharacterTokenizer.from_texts(['我们在北京'], least=1)
    ids, starts = WordPieces(tokenizer).piece('我们在北京')
    assert starts == [1, 0, 1, 1, 0]
    assert tokenizer.decode(ids) == '我们在北京'


def test_several_processes_give_the_same_in_order(tokenizer):
    documents = [['我们'] * (i % 5) + ['北京大学。'] for i in range(200)]
    encode = WordPieces(tokenizer, list)
    expected = [encode(document) for document in documents]
    assert list(encoded(documents, encode)) == expected
    assert list(encoded(documents, encode, 2, 'spawn')) == expected
