"""Character vectors from the files that people publish."""

import pickle

import numpy as np
import pytest

from keraseff.data.vectors import load_character_vectors


def write_arrays(folder, vocab, rows):
    (folder / 'vocab.pkl').write_bytes(pickle.dumps(vocab))
    np.savez(folder / 'vectors.npz', embeddings=rows)


def test_pickled_vocabulary_and_array(tmp_path):
    rows = np.arange(12.0).reshape(4, 3)
    write_arrays(tmp_path, {'乙': 0, '甲': 2, '<UNK>': 3}, rows)
    vectors = load_character_vectors(tmp_path)
    assert sorted(vectors) == sorted('甲乙')
    np.testing.assert_array_equal(vectors['甲'], rows[2])
    again = load_character_vectors(tmp_path / 'vectors.npz')
    np.testing.assert_array_equal(again['乙'], rows[0])


def test_text(tmp_path):
    path = tmp_path / 'vectors.txt'
    path.write_text('3 2\n甲 1 -0.5\n词语 3 4\n乙 5 6\n', encoding='utf-8')
    vectors = load_character_vectors(path)
    assert {key: value.tolist() for key, value in vectors.items()} == {
        '甲': [1, -0.5], '乙': [5, 6],
    }  # fmt: skip


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('甲 1 2\n乙 1\n', r':2: 1 values, expected 2'),
        ('甲 1 2\n乙 1 x\n', r':2: .*x'),
        ('词语 1 2\n', 'no vector'),
    ],
)
def test_bad_text(tmp_path, content, message):
    path = tmp_path / 'vectors.txt'
    path.write_text(content, encoding='utf-8')
    with pytest.raises(ValueError, match=message):
        load_character_vectors(path)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ValueError, match='does not exist'):
        load_character_vectors(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='vocab.pkl'):
        load_character_vectors(tmp_path)
    write_arrays(tmp_path, {'甲': 4}, np.zeros((4, 3)))
    with pytest.raises(ValueError, match='does not number the 4 rows'):
        load_character_vectors(tmp_path)


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    write_arrays(tmp_path, {'甲': print}, np.zeros((1, 3)))
    with pytest.raises(ValueError, match='print'):
        load_character_vectors(tmp_path)


def test_the_published_tencent_vectors(data_dir):
    vectors = load_character_vectors(data_dir / 'tencent_char_embedding')
    assert len(vectors) == 4760
    assert {len(v) for v in vectors.values()} == {200}
