"""Tag sequences (BIO, BMES, BIOES) to spans and back."""

from collections.abc import Iterable
from collections.abc import Sequence

# scheme -> prefixes for (first, inner, last, single)
SCHEMES = {
    'BIO': ('B', 'I', 'I', 'B'),
    'BMES': ('B', 'M', 'E', 'S'),
    'BIOES': ('B', 'I', 'E', 'S'),
    'BMEO': ('B', 'M', 'E', 'B'),
}
_FIRST, _INNER, _LAST, _SINGLE = 'BUS', 'IM', 'EL', 'SU'
_PREFIXES = set('BIMELSU')


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix and type of a tag; ('O', '') outside.

    Knows `B-PER`, `B_PER`, `PER-B`, `PER_B` and a bare `B`.
    Raises ValueError for anything else.
    """
    if tag in ('O', 'o'):
        return 'O', ''
    if tag in _PREFIXES:
        return tag, ''
    if len(tag) > 2 and tag[1] in '-_' and tag[0] in _PREFIXES:
        return tag[0], tag[2:]
    if len(tag) > 2 and tag[-2] in '-_' and tag[-1] in _PREFIXES:
        return tag[-1], tag[:-2]
    raise ValueError(
        f'{tag!r} is not a tag; expected O or one like B-PER, B_PER, PER-B with '
        f'one of {"".join(sorted(_PREFIXES))}'
    )


def tags_to_spans(
    tags: Sequence[str], scheme: str = 'BIO', strict: bool = False
) -> list[tuple[int, int, str]]:
    """The spans (start, end, type), half-open, that a tag sequence means.

    Args:
        tags: one tag a token.
        scheme: 'BIO' (also reads IOB1), 'BMES', 'BIOES' or 'BMEO'. Only `strict` asks.
        strict: False reads ill-formed sequences as conlleval does: a piece without a
            beginning begins one, a change of type ends one. True takes only spans that
            the scheme would write: others are left out.

    Source: conlleval.pl of CoNLL-2000, https://www.cnts.ua.ac.be/conll2000/chunking/
    """
    pairs = [split_tag(tag) for tag in tags]
    spans = []
    start, kind, last = 0, None, 'O'
    for i, (prefix, now) in enumerate([*pairs, ('O', '')]):
        inside = kind is not None
        if inside and (_breaks(last, prefix) or now != kind):
            spans.append((start, i, kind))
            inside = False
        if prefix == 'O':
            kind = None
        elif not inside:
            start, kind = i, now
        last = prefix
    if strict:
        spans = [span for span in spans if _well_formed(pairs, span, scheme)]
    return spans


def _breaks(last: str, now: str) -> bool:
    return now == 'O' or now in _FIRST or last in _LAST or last in _SINGLE


def _well_formed(
    pairs: list[tuple[str, str]], span: tuple[int, int, str], scheme: str
) -> bool:
    start, end, _ = span
    return [prefix for prefix, _ in pairs[start:end]] == _pattern(end - start, scheme)


def _pattern(length: int, scheme: str) -> list[str]:
    if scheme not in SCHEMES:
        raise ValueError(f'scheme={scheme!r} is not one of {", ".join(SCHEMES)}')
    first, inner, last, single = SCHEMES[scheme]
    if length == 1:
        return [single]
    return [first, *[inner] * (length - 2), last]


def spans_to_tags(n: int, spans: Iterable[Sequence], scheme: str = 'BIO') -> list[str]:
    """The n tags of spans (start, end, type, ...) that do not overlap.

    Raises ValueError for a span outside of 0..n, an empty one, or two that overlap
    (see `flatten_spans`).
    """
    tags = ['O'] * n
    for start, end, kind, *_ in spans:
        if not 0 <= start < end <= n:
            raise ValueError(f'span ({start}, {end}, {kind!r}) does not fit {n} tokens')
        if tags[start:end] != ['O'] * (end - start):
            raise ValueError(
                f'span ({start}, {end}, {kind!r}) overlaps another; tags can not say '
                f'that: use flatten_spans first'
            )
        tags[start:end] = [f'{p}-{kind}' for p in _pattern(end - start, scheme)]
    return tags
