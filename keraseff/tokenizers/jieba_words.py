"""Words cut by jieba, as the tokenizers of two families want them."""

from keraseff.tokenizers.characters import is_removed
from keraseff.tokenizers.characters import is_space

_SIGNS = str.maketrans(' \n', '\u2582\u2583')


def roformer_words(text: str) -> list[str]:
    """The words of a text by jieba's dictionary alone, as RoFormer was trained."""
    import jieba

    cleaned = (' ' if is_space(ch) else ch for ch in text if not is_removed(ch))
    return jieba.lcut(''.join(cleaned), HMM=False)


def cpm_words(text: str) -> list[str]:
    """jieba's words with signs for spaces and line ends, as CPM was trained."""
    import jieba

    return [word.translate(_SIGNS) for word in jieba.lcut(text)]
