"""Strings made uniform, and long ones cut without loss."""

import random
import unicodedata

import pytest

from keraseff.text.normalize import lowercase_and_normalize
from keraseff.text.normalize import sliding_windows
from keraseff.text.normalize import strQ2B
from keraseff.text.normalize import text_segmentate


def test_full_width_to_half_width():
    wide = ''.join(chr(code) for code in range(0xFF01, 0xFF5F))
    assert strQ2B(wide) == unicodedata.normalize('NFKC', wide)
    assert strQ2B('ＢＥＲＴ\u3000模型，１') == 'BERT 模型,1'
    assert strQ2B('。“…ｱ') == '。“…ｱ'


def test_lowercase_and_normalize():
    assert lowercase_and_normalize('ÀÉîö Ñ中國 Ç') == 'aeio n中國 c'
    assert lowercase_and_normalize('İΣ') == 'iς'


def test_segments_are_short_and_complete():
    rng = random.Random(0)
    for _ in range(200):
        parts = ['甲' * rng.randint(1, 9) for _ in range(15)]
        text = ''.join(part + rng.choice('。。，，，\n') for part in parts).strip()
        pieces = text_segmentate(text, 20, '\n。，')
        assert ''.join(pieces).replace('\n', '') == text.replace('\n', '')
        for piece in pieces:
            assert len(piece) <= 20


def test_strong_separators_come_first():
    text = '一二三，四五。六七，八。九十'
    assert text_segmentate(text, 100, '。，') == [text]
    assert text_segmentate(text, 8, '。，') == ['一二三，四五。', '六七，八。九十']
    assert text_segmentate(text, 5, '。，') == [
        '一二三，',
        '四五。',
        '六七，八。',
        '九十',
    ]
    stripped = text_segmentate(text, 5, '。，', strips='，。')
    assert stripped == ['一二三', '四五', '六七，八', '九十']
    assert text_segmentate('没有分隔符', 2, '。') == ['没有分隔符']
    assert text_segmentate('  ', 2) == ['']


def test_windows_cover_and_overlap():
    rng = random.Random(0)
    for _ in range(500):
        length = rng.randint(0, 120)
        text = ''.join(rng.choices('甲乙丙丁。\n', [5, 5, 5, 5, 1, 1], k=length))
        maxlen = rng.randint(1, 30)
        overlap = rng.randrange(maxlen)
        windows = sliding_windows(text, maxlen, overlap)
        covered = set()
        for start, piece in windows:
            assert piece == text[start : start + len(piece)]
            assert 0 < len(piece) <= maxlen
            covered.update(range(start, start + len(piece)))
        assert covered == set(range(length))
        for (a, first), (b, _) in zip(windows, windows[1:], strict=False):
            assert a < b
            assert a + len(first) - b == overlap


def test_windows_end_behind_sentences():
    text = '甲' * 7 + '。' + '乙' * 6 + '？' + '丙' * 9
    assert sliding_windows(text, 9) == [(0, text[:8]), (8, text[8:15]), (15, text[15:])]
    far = '甲。' + '乙' * 12
    assert sliding_windows(far, 9, 2) == [(0, far[:9]), (7, far[7:])]
    assert sliding_windows('', 5) == []


@pytest.mark.parametrize(('maxlen', 'overlap'), [(5, 5), (5, 6), (5, -1), (0, 0)])
def test_windows_without_progress(maxlen, overlap):
    with pytest.raises(ValueError, match='no way forward'):
        sliding_windows('文本', maxlen, overlap)
