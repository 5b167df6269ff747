import itertools

import numpy as np
import pytest

from keraseff.data.pretraining import MixedRows
from keraseff.data.pretraining import PackedRows
from keraseff.data.pretraining import two_parts

CLS, SEP = 1, 2


def text(d, p):
    return ''.join(chr(1000 + 97 * d + i * p) for i in range(4 + (d * 7 + p) % 23))


DOCUMENTS = [[text(d, p) for p in range(1 + d % 4)] for d in range(40)]


def encode(document):
    """A token a character; every third begins a word."""
    return [
        ([ord(c) for c in text], [int(i % 3 == 0) for i in range(len(text))])
        for text in document
    ]


def packed(length=20, shuffle=1, documents=DOCUMENTS, **options):
    def read():
        return iter(documents)

    return PackedRows(read, encode, length, CLS, SEP, shuffle, **options)


def draw(rows, count, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rows.draw(rng) for _ in range(count)])


def stream(documents):
    """All tokens and the [SEP]s between pieces, the slow way."""
    return [t for d in documents for text in d for t in [*map(ord, text), SEP]]


@pytest.mark.parametrize('length', [4, 20, 128])
def test_no_token_is_lost_nor_padded(length):
    rows = packed(length)
    found = draw(rows, 60)[:, 0]
    assert found.shape == (60, length)
    assert (found[:, 0] == CLS).all()
    assert (found[:, -1] == SEP).all()
    expected = iter(itertools.cycle(stream(DOCUMENTS)))
    for row in found[:, 1:-1].tolist():
        inner = list(itertools.islice(expected, length - 2))
        assert row == inner
        following = next(expected)  # what is left out only if the row's own end says it
        if following != SEP:
            expected = itertools.chain([following], expected)


def test_where_words_begin():
    ids, _, starts = np.swapaxes(draw(packed(), 50), 0, 1)
    assert (starts[:, :2] == 1).all()
    assert (starts[ids == SEP] == 1).all()
    places = {
        (ord(c), i % 3 == 0) for d in DOCUMENTS for t in d for i, c in enumerate(t)
    }
    inner = zip(ids[:, 2:-1].ravel(), starts[:, 2:-1].ravel(), strict=True)
    assert all(token == SEP or (token, bool(s)) in places for token, s in inner)


def test_segments_begin_behind_a_separator():
    ids, segments, _ = np.swapaxes(draw(packed(), 400), 0, 1)
    (several,) = np.nonzero((ids[:, :-1] == SEP).any(axis=1))
    single = np.setdiff1d(np.arange(400), several)
    assert not segments[single].any()
    two = segments[several].any(axis=1)
    assert two.mean() == pytest.approx(0.5, abs=0.08)
    for row, segment in zip(ids[several][two], segments[several][two], strict=True):
        begin = int(np.argmax(segment))
        assert row[begin - 1] == SEP
        assert (segment == (np.arange(len(row)) >= begin)).all()


def test_shuffling_loses_no_row():
    plain = [tuple(row[0]) for row in draw(packed(), 216)]
    rows = packed(shuffle=16)
    shuffled = [tuple(row[0]) for row in draw(rows, 200)]
    waiting = [tuple(row) for row in rows.state()['waiting'][:, 0]]
    assert shuffled != plain[:200]
    assert sorted(shuffled + waiting) == sorted(plain)


def test_several_processes_make_the_same_rows():
    there = packed(shuffle=8, workers=2)
    assert (draw(there, 30) == draw(packed(shuffle=8), 30)).all()


def mixed(seed=0, weights=(3, 1)):
    corpora = [packed(shuffle=8), packed(shuffle=4, documents=DOCUMENTS[:7])]
    return MixedRows(corpora, weights, batch_size=6, seed=seed)


@pytest.mark.parametrize('steps', [0, 1, 23])
def test_it_goes_on_from_its_state(steps, tmp_path):
    whole = mixed()
    for _ in range(steps):
        whole.draw()
    np.savez(tmp_path / 'state.npz', **whole.state())
    expected = [whole.draw() for _ in range(30)]
    other = mixed()
    with np.load(tmp_path / 'state.npz') as state:
        other.restore(state)
    for rows, rng in expected:
        found, generator = other.draw()
        assert (found == rows).all()
        assert generator.random() == rng.random()


def test_the_seed_decides_and_weights_count():
    batches = [mixed(seed) for seed in (0, 0, 1)]
    rows = [np.concatenate([b.draw()[0] for _ in range(100)]) for b in batches]
    assert (rows[0] == rows[1]).all()
    assert (rows[0] != rows[2]).any()
    corpora = batches[0].corpora
    few = stream(DOCUMENTS[:7])
    tokens = corpora[1].passes * len(few)
    assert tokens / (600 * 18) == pytest.approx(0.25, abs=0.06)


def test_what_can_not_be():
    with pytest.raises(ValueError, match='too little text for a row of 20'):
        draw(packed(documents=[]), 1)
    with pytest.raises(ValueError, match='length=3'):
        packed(length=3)
    for weights in ((1,), (1, 0), ()):
        with pytest.raises(ValueError, match='2 corpora need as many positive weights'):
            mixed(weights=weights)
    with pytest.raises(ValueError, match='of 1 corpora, not 2'):
        mixed().restore(MixedRows([packed()], [1], 2).state())


def test_the_parts_of_unilm():
    rows = draw(packed(), 300)
    rng = np.random.default_rng(0)
    ids, segments, starts = rows[:, 0], rows[:, 1], rows[:, 2]
    parts = two_parts(ids, segments, starts, rng)
    there = segments.any(axis=1)
    assert (parts[there] == segments[there]).all()
    begins = np.argmax(parts, axis=1)
    assert (parts == (np.arange(20) >= begins[:, None])).all()
    assert ((begins[~there] >= 5) & (begins[~there] < 15)).all()
    assert np.take_along_axis(starts, begins[:, None], 1)[~there].all()
    assert len(set(begins[~there].tolist())) > 4
