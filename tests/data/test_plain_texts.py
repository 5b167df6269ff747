"""Plain texts: what is read, what is held out, and where pieces come from."""

import numpy as np
import pytest

from keraseff.data import following_pieces
from keraseff.data import hold_out
from keraseff.data import load_texts
from keraseff.data import random_pieces
from keraseff.data.builtin import synthetic_texts


def test_each_file_is_a_text(tmp_path):
    for name, text in {'b': '二 \n', 'a': ' 一\u3000 一', 'c/d': '三'}.items():
        path = tmp_path / f'{name}.txt'
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, 'utf-8')
    (tmp_path / 'notes.md').write_text('no text')
    assert load_texts(tmp_path, least=3) == ['一 一', '二\n', '三']


def test_few_texts_are_cut(tmp_path):
    path = tmp_path / 'one.txt'
    path.write_text('天地玄黄宇宙洪荒日' * 5, 'utf-8')
    texts = load_texts(path, least=4)
    assert len(texts) == 8
    assert {len(text) for text in texts[:-1]} == {6}
    assert ''.join(texts) == '天地玄黄宇宙洪荒日' * 5


def test_what_is_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match='does not exist'):
        load_texts(tmp_path / 'nope')
    with pytest.raises(ValueError, match='holds no text'):
        load_texts(tmp_path)
    (tmp_path / 'x.txt').write_bytes('天'.encode('gbk'))
    with pytest.raises(ValueError, match=r'x\.txt is not UTF-8'):
        load_texts(tmp_path)


def test_two_of_each_twenty_are_held_out():
    train, watch, score = hold_out([chr(0x4E00 + i) for i in range(40)])
    assert [ord(x) - 0x4E00 for x in watch.split('\n')] == [5, 25]
    assert [ord(x) - 0x4E00 for x in score.split('\n')] == [15, 35]
    held = {5, 25, 15, 35}
    rest = [i for i in range(40) if i not in held]
    assert [ord(x) - 0x4E00 for x in train.split('\n')] == rest


def test_targets_are_the_next_tokens():
    ids = np.arange(1000)
    inputs, targets = next(random_pieces(ids, 32, 8))
    assert inputs.shape == targets.shape == (8, 32)
    np.testing.assert_array_equal(targets, inputs + 1)
    assert len(set(inputs[:, 0])) > 4
    inputs, targets = following_pieces(ids, 300, 10)
    np.testing.assert_array_equal(inputs.ravel(), np.arange(900))
    np.testing.assert_array_equal(targets, inputs + 1)
    assert len(following_pieces(ids, 300, 2)[0]) == 2


def test_the_seed_decides_the_pieces():
    ids = np.arange(1000)
    drawn = [next(random_pieces(ids, 16, 4, seed))[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_pieces_that_repeat_have_short_periods():
    inputs, targets = next(random_pieces(np.arange(10**5), 64, 200, repeats=1.0))
    periods = []
    for row in np.concatenate([inputs, targets[:, -1:]], axis=1):
        same = [p for p in range(1, 65) if (row[p:] == row[:-p]).all()]
        periods.append(same[0])
    assert 4 <= min(periods) < 8
    assert 24 < max(periods) <= 33
    assert np.median(periods) < 16
    halves = next(random_pieces(np.arange(10**5), 64, 400, repeats=0.5))[0]
    share = np.mean((halves[:, 33:] < halves[:, :1] + 33).all(axis=1))
    assert 0.4 < share < 0.6


def test_too_short_a_text_is_refused():
    ids = np.arange(10)
    assert next(random_pieces(ids, 8, 2))[0].shape == (2, 8)
    with pytest.raises(ValueError, match='10 tokens are too few for pieces of 9'):
        next(random_pieces(ids, 9, 2))
    with pytest.raises(ValueError, match='too few for a piece of 10'):
        following_pieces(ids, 10, 1)


def test_synthetic_texts_are_whole_sentences_dealt_out():
    pytest.importorskip('jieba')
    texts = synthetic_texts(20, 3, 4)
    assert len(texts) == 4
    assert texts == synthetic_texts(20, 3, 4)
    assert texts != synthetic_texts(20, 4, 4)
    assert sum(map(len, texts)) == sum(map(len, synthetic_texts(20, 3, 5)))
