"""Byte-level byte-pair encoding, slowly: one merge at a time, the best first."""

import regex

GPT2_WORDS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


def byte_letters():
    """A visible character for each byte: itself where it is visible, else the next
    one from U+0100."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, spare = {}, 256
    for byte in range(256):
        if byte in visible:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(spare)
            spare += 1
    return letters


LETTERS = byte_letters()


def merge_word(word, ranks):
    """Joins the pair of lowest rank, the leftmost first, while there is one."""
    parts = list(word)
    while True:
        pairs = [
            (ranks[a, b], i)
            for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False))
            if (a, b) in ranks
        ]
        if not pairs:
            return parts
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def tokenize(text, vocabulary, merges, words=GPT2_WORDS, whole=False, specials=()):
    """The tokens of a text.

    Args:
        merges: pairs, the most important first.
        words: how a text is split before.
        whole: a word that is in the vocabulary stays whole, whatever the merges.
        specials: tokens found in the text first.
    """
    ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
    tokens = []
    for part in split_at(text, specials):
        if part in specials:
            tokens.append(part)
            continue
        for word in regex.findall(words, part):
            written = ''.join(LETTERS[byte] for byte in word.encode())
            if whole and written in vocabulary:
                tokens.append(written)
            else:
                tokens += merge_word(written, ranks)
    return tokens


def split_at(text, specials):
    """A text cut before and behind each special token."""
    parts = [text]
    for special in specials:
        cut = []
        for part in parts:
            if part in specials:
                cut.append(part)
                continue
            pieces = part.split(special)
            for i, piece in enumerate(pieces):
                cut += [special] * (i > 0) + [piece]
        parts = cut
    return [part for part in parts if part]


def token_bytes(token):
    """The bytes that a token stands for."""
    bytes_of = {letter: byte for byte, letter in LETTERS.items()}
    return bytes(bytes_of[letter] for letter in token)
