import numpy as np
import pytest

from keraseff.data.masking import Masker

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIALS = PAD, UNK, CLS, SEP, MASK
SIZE, LENGTH = 60, 40


@pytest.fixture(scope='module')
def rows():
    """(ids, starts): words of one to four tokens, a [SEP] in the middle of most."""
    rng = np.random.default_rng(1)
    ids = rng.integers(5, SIZE, (1500, LENGTH), dtype='int32')
    starts = rng.random(ids.shape) < 0.6
    ids[:, 0], ids[:, -1] = CLS, SEP
    ids[::2, 21] = SEP
    ids[::3, 7] = UNK
    starts[:, [0, -1]] = True
    return ids, starts


def words(ids, starts):
    """Sets of positions, the slow way."""
    found, inside = [], False
    for i, token in enumerate(ids):
        if token in SPECIALS:
            inside = False
        elif starts[i] or not inside:
            found.append({i})
            inside = True
        else:
            found[-1].add(i)
    return found


@pytest.fixture(scope='module', params=[1, 3])
def masked(request, rows):
    masker = Masker(MASK, SIZE, SPECIALS, ngrams=request.param)
    return masker(*rows, np.random.default_rng(0)), request.param


def test_the_share_is_met_to_a_token_or_a_word(masked, rows):
    masked, _ = masked
    usual = ~np.isin(rows[0], SPECIALS)
    budgets = np.round(0.15 * usual.sum(axis=1))
    counts = masked.weights.sum(axis=1)
    assert (counts <= budgets).all()
    assert (counts >= budgets - 2).all()
    assert counts.sum() / budgets.sum() > 0.98
    assert masked.places.shape == (len(counts), round(0.15 * LENGTH))


def test_labels_are_what_stood_there_and_the_rest_is_as_it_was(masked, rows):
    masked, _ = masked
    ids = rows[0]
    assert (masked.labels == np.take_along_axis(ids, masked.places, 1)).all()
    chosen = masked.weights > 0
    assert not np.isin(masked.labels[chosen], SPECIALS).any()
    at = np.zeros(ids.shape, bool)
    for row, places, kept in zip(at, masked.places, chosen, strict=True):
        assert (np.diff(places[kept]) > 0).all()
        row[places[kept]] = True
    assert (masked.ids[~at] == ids[~at]).all()


def test_eighty_ten_ten(masked, rows):
    masked, _ = masked
    chosen = masked.weights > 0
    seen = np.take_along_axis(masked.ids, masked.places, 1)[chosen]
    labels = masked.labels[chosen]
    others = (seen != MASK) & (seen != labels)
    assert np.mean(seen == MASK) == pytest.approx(0.8, abs=0.015)
    assert np.mean(seen == labels) == pytest.approx(0.1, abs=0.01)
    assert np.mean(others) == pytest.approx(0.1, abs=0.01)
    # any token but specials, each as often
    counts = np.bincount(seen[others], minlength=SIZE)
    assert not counts[list(SPECIALS)].any()
    assert counts[5:].min() > 0.3 * counts[5:].mean() > 0


def test_a_word_is_masked_whole_or_not_at_all(masked, rows):
    masked, _ = masked
    for ids, starts, places, weights in zip(
        *rows, masked.places, masked.weights, strict=True
    ):
        chosen = set(places[weights > 0].tolist())
        for word in words(ids, starts):
            assert word <= chosen or not word & chosen


def test_every_word_is_as_likely(rows):
    """One word in a row of words of one token: each place about as often."""
    ids = np.full((4000, 12), 9, 'int32')
    ids[:, 0], ids[:, -1] = CLS, SEP
    masker = Masker(MASK, SIZE, SPECIALS)
    masked = masker(ids, np.ones_like(ids), np.random.default_rng(3))
    counts = np.bincount(masked.places[masked.weights > 0], minlength=12)
    assert counts[[0, -1]].sum() == 0
    assert counts[1:-1] == pytest.approx(np.full(10, counts.sum() / 10), rel=0.12)


def test_runs_of_words_have_the_usual_lengths():
    """In long rows, where runs seldom meet: 1, 1/2, 1/3 of 11/6."""
    ids = np.full((300, 402), 9, 'int32')
    ids[:, 0], ids[:, -1] = CLS, SEP
    masker = Masker(MASK, SIZE, SPECIALS, rate=0.02, ngrams=3)
    masked = masker(ids, np.ones_like(ids), np.random.default_rng(4))
    lengths = []
    for places, weights in zip(masked.places, masked.weights, strict=True):
        places = places[weights > 0]
        lengths += map(len, np.split(places, np.nonzero(np.diff(places) > 1)[0] + 1))
    shares = np.bincount(lengths, minlength=4)[1:4] / len(lengths)
    assert shares == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.05)


def test_the_seed_decides(rows):
    masker = Masker(MASK, SIZE, SPECIALS)
    first = masker(*rows, np.random.default_rng(5))
    again = masker(*rows, np.random.default_rng(5))
    other = masker(*rows, np.random.default_rng(6))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first.places != other.places).any()


def test_a_row_of_specials_alone_has_nothing_to_find():
    ids = np.full((1, 8), SEP, 'int32')
    masked = Masker(MASK, SIZE, SPECIALS)(ids, ids > 0, np.random.default_rng(0))
    assert (masked.ids == ids).all()
    assert not masked.weights.any()


@pytest.mark.parametrize('options', [{'rate': 0.0}, {'rate': 1.5}, {'ngrams': 0}])
def test_impossible_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Masker(MASK, SIZE, SPECIALS, **options)
