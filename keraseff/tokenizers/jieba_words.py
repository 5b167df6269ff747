"""Words cut by jieba, as the tokenizers of two families want them."""

_SIGNS = str.maketrans(' \n', '\u2582\u2583')


def roformer_words(text: str) -> list[str]:
    """The words of a text by jieba's dictionary alone, as RoFormer was trained."""
    import jieba

    return jieba.lcut(text, HMM=False)


def cpm_words(text: str) -> list[str]:
    """jieba's words with signs for spaces and line ends, as CPM was trained."""
    import jieba

    return [word.translate(_SIGNS) for word in jieba.lcut(text)]
