import numpy as np
import pytest

from keraseff.decoding import confidence
from keraseff.decoding import entity_scores
from keraseff.decoding import flatten_spans
from keraseff.decoding import matrix_to_spans
from keraseff.decoding import merge_windows
from keraseff.decoding import scores_to_entities
from keraseff.decoding import tune_thresholds


def slow_spans(scores, threshold, mask):
    found = []
    n = scores.shape[1]
    for i in range(n):
        for j in range(i, n):
            for t in range(len(scores)):
                if scores[t, i, j] > threshold[t] and mask[i] and mask[j]:
                    found.append((t, i, j + 1, scores[t, i, j]))
    return found


def test_equals_three_loops(rng):
    scores = rng.normal(size=(3, 12, 12))
    scores[:, 3, 3] = -np.inf
    mask = rng.random(12) < 0.7
    threshold = [0.0, 0.5, -0.3]
    assert matrix_to_spans(scores, threshold, mask) == slow_spans(
        scores, threshold, mask
    )
    assert matrix_to_spans(scores) == slow_spans(scores, [0] * 3, [True] * 12)
    with pytest.raises(ValueError, match=r'\(types, n, n\)'):
        matrix_to_spans(scores[0])


def test_tokens_become_characters_of_the_text():
    text = ' I♥北京'
    mapping = [[], [1], [2], [3], [4], []]  # [CLS] I ♥ 北 京 [SEP]
    scores = np.full((2, 16, 16), -1.0)  # padded
    scores[0, 3, 4] = 2.5
    scores[0, 0, 5] = scores[0, 0, 4] = 9.0  # on [CLS] and [SEP]: never
    scores[0, 7, 9] = scores[0, 3, 7] = 9.0  # in the padding: never
    scores[1, 1, 1] = 0.5
    found = scores_to_entities(scores, mapping, ['place', 'person'], text_length=5)
    assert found == [(1, 2, 'person', 0.5), (3, 5, 'place', 2.5)]
    assert text[3:5] == '北京'
    limits = {'person': 0.6}
    only = scores_to_entities(scores, mapping, ['place', 'person'], limits)
    assert [e[2] for e in only] == ['place']
    with pytest.raises(ValueError, match='beyond the 4 characters'):
        scores_to_entities(scores, mapping, ['place', 'person'], text_length=4)
    with pytest.raises(ValueError, match='1 types for 2'):
        scores_to_entities(scores, mapping, ['place'])


def test_two_tokens_of_one_character_give_one_entity():
    # 'Ⅷ' taken apart by normalisation: several tokens, one character
    scores = np.full((1, 3, 3), -1.0)
    scores[0, 0, 0], scores[0, 0, 1] = 1.0, 2.0
    mapping = [[0], [0], [1]]
    assert scores_to_entities(scores, mapping, ['x']) == [(0, 1, 'x', 2.0)]


def test_confidence_is_the_sigmoid():
    x = np.array([-800.0, -1, 0, 2, 800])
    expected = [0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-2)), 1]
    np.testing.assert_allclose(confidence(x), expected, atol=1e-15)
    assert isinstance(confidence(0.3), float)


def test_flat_spans_by_score_then_length():
    spans = [(0, 4, 'o', 1.0), (0, 2, 'l', 2.0), (2, 4, 'p', 0.5), (5, 6, 'p', 0.1)]
    assert flatten_spans(spans) == [spans[1], spans[2], spans[3]]
    assert flatten_spans([(0, 2, 'l'), (0, 4, 'o'), (4, 5, 'p')]) == [
        (0, 4, 'o'),
        (4, 5, 'p'),
    ]
    assert flatten_spans([(0, 2, 'l', 1.0), (0, 4, 'o', 1.0)]) == [(0, 4, 'o', 1.0)]


def test_flat_spans_never_overlap(rng):
    spans = []
    for start, length, score in rng.integers((0, 1, 0), (30, 6, 5), (60, 3)).tolist():
        spans.append((start, start + length, 'x', score))
    kept = flatten_spans(spans)
    assert all(a[1] <= b[0] for a, b in zip(kept, kept[1:], strict=False))
    for span in spans:  # nothing more could have been kept
        assert any(span[0] < k[1] and k[0] < span[1] for k in kept)


def test_windows_are_put_together():
    # text of 14; windows 0-8 and 5-14; the entity 6-10 is cut by the first
    first = (0, [(1, 3, 'p', 1.0), (6, 8, 'o', 0.4)])
    second = (5, [(1, 5, 'o', 2.0), (7, 9, 'l', 0.3)])
    together = merge_windows([first, second], [8, 9])
    assert together == [(1, 3, 'p', 1.0), (6, 10, 'o', 2.0), (12, 14, 'l', 0.3)]
    # without lengths nothing is known of borders
    assert (6, 8, 'o', 0.4) in merge_windows([first, second])


def test_a_span_of_two_windows_counts_once_with_its_best_score():
    windows = [(0, [(5, 7, 'p', 1.0)]), (4, [(1, 3, 'p', 3.0)])]
    assert merge_windows(windows, [9, 9]) == [(5, 7, 'p', 3.0)]
    assert merge_windows([(0, [(5, 7, 'p')]), (4, [(1, 3, 'p')])]) == [(5, 7, 'p')]


def test_a_span_cut_on_both_sides_of_the_only_view_is_kept():
    # windows 0-4 and 2-6: 1-4 touches the border, but the second misses its start
    assert merge_windows([(0, [(1, 4, 'p', 1.0)]), (2, [])], [4, 4]) == [
        (1, 4, 'p', 1.0)
    ]
    with pytest.raises(ValueError, match='1 lengths for 2'):
        merge_windows([(0, []), (2, [])], [4])


def test_windows_equal_the_whole(rng):
    """Oracle spans, cut to windows as a model would see them, come back whole."""
    for _ in range(30):
        whole = set()
        for start, length in rng.integers((0, 1), (55, 5), (12, 2)).tolist():
            whole.add((start, start + length, 'x', 1.0))
        offsets = range(0, 50, 10)
        windows, lengths = [], []
        for offset in offsets:
            seen = set()
            for start, end, kind, score in whole:
                a, b = max(start - offset, 0), min(end - offset, 20)
                if a < b:
                    seen.add((a, b, kind, score))
            windows.append((offset, sorted(seen)))
            lengths.append(20)
        assert merge_windows(windows, lengths) == sorted(whole)


def f1(gold, scored, limits):
    kept = [[e[:3] for e in s if e[3] > limits[e[2]]] for s in scored]
    return entity_scores(gold, kept)['types']


def test_thresholds_are_the_best_there_are(rng):
    gold, scored = [], []
    for _ in range(40):
        truth = {(i, i + 1, 'ab'[i % 2]) for i in rng.integers(0, 20, 4).tolist()}
        guesses = {(i, i + 1, 'ab'[i % 2]) for i in rng.integers(0, 20, 6).tolist()}
        gold.append(sorted(truth))
        scored.append(
            [(*g, rng.normal() + 2 * (g in truth)) for g in sorted(truth | guesses)]
        )
    tuned = tune_thresholds(gold, scored)
    best = f1(gold, scored, tuned)
    for limit in np.linspace(-3, 5, 161):
        other = f1(gold, scored, {'a': limit, 'b': limit})
        for kind in 'ab':
            assert best[kind]['f1'] >= other.get(kind, {'f1': 0})['f1'] - 1e-12


def test_thresholds_where_there_is_nothing_to_choose():
    gold = [[(0, 1, 'a')], [(2, 3, 'c')]]
    scored = [[(0, 1, 'a', 3.0), (4, 5, 'b', 2.0)], []]
    tuned = tune_thresholds(gold, scored, types=['a', 'b', 'c'], default=0.1)
    assert tuned == {'a': 0.1, 'b': 0.1, 'c': 0.1}
    ties = tune_thresholds([[(0, 1, 'a')]], [[(0, 1, 'a', 1.0), (1, 2, 'a', 1.0)]])
    assert ties == {'a': 0.0}
