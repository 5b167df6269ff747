"""Which family a checkpoint belongs to, told by the names of its tensors."""

import dataclasses
import functools
import re
from typing import NamedTuple

from keraseff.checkpoints import expand
from keraseff.models.loading import IGNORED
from keraseff.models.loading import parse_slot

# What a file of the family may do without: heads, and maps between unequal sizes.
_OPTIONAL = re.compile(r'(^|-)(Pooler|NSP|MLM|LM|Discriminator|Generator|Mapping)[-/]')
# What it has only where an option, off by default, says so.
_SWITCHED = {
    'attention_bias': r'Attention/\w+/bias$',
    'mlp_bias': r'FeedForward/\w+/bias$',
}
# Below this share of explained tensors a file is of no family at all.
LEAST_SCORE = 0.3
_TITLES = {
    'albert_unshared': 'an ALBERT',
    'albert_zh': 'an ALBERT of albert_zh',
    'electra': 'an ELECTRA',
    'gau_alpha': 'a GAU-α',
    'gpt2': 'a GPT-2',
    'gpt2_ml': 'a GPT2-ML',
    'llama': 'a LLaMA',
    'mt5': 'an mT5',
    'mt5.1.1_decoder': 'an mT5 decoder',
    'mt5.1.1_encoder': 'an mT5 encoder',
    'roformer': 'a RoFormer',
    'roformer_v2': 'a RoFormerV2',
    't5.1.1': 'a T5.1.1',
    't5.1.1_decoder': 'a T5.1.1 decoder',
    't5.1.1_encoder': 'a T5.1.1 encoder',
}
_INDEX = re.compile(r'\{i(?::(0?\d*d?))?\}')
_DIGITS = re.compile(r'\d+')
_MANY_DIGITS = 8
# No family's name is longer; taking such a one apart would cost time.
_LONGEST = 256


class Row(NamedTuple):
    """What of the model a tensor holds.

    Attributes:
        left: 'Layer/variable', with \\0 for the number of the layer.
        layer: that number, or None.
        turned, parts: see `loading.Slot`.
    """

    left: str
    layer: int | None
    turned: bool
    parts: int


@dataclasses.dataclass(frozen=True)
class Recognised:
    """A family that a checkpoint may be of.

    Attributes:
        names: what `build_transformer_model` calls it: the first of them, and its
            other names; families that read such files alike come as one each.
        family: the class.
        score: tensors explained / (explained + unexplained + missing), 0 to 1.
        rows: {tensor: [Row, ...]} of those explained.
        unexplained: tensors that its table does not have, leftovers of training aside.
        missing: how many tensors it wants that are not there, heads aside.
    """

    names: tuple
    family: type
    score: float
    rows: dict = dataclasses.field(repr=False)
    unexplained: tuple
    missing: int

    @property
    def name(self):
        """The first of its names."""
        return self.names[0]


def families():
    """{class: its names in `MODELS`}, in the order of `MODELS`."""
    from keraseff.models import MODELS  # which imports what imports this

    found = {}
    for name, family in MODELS.items():
        if getattr(family, 'names', None):  # some are plain builders
            found.setdefault(family, []).append(name)
    return {family: tuple(names) for family, names in found.items()}


def recognise(checkpoint, known=None, least=LEAST_SCORE):
    """The families that a checkpoint may be of, the likeliest first.

    Args:
        checkpoint: a `Checkpoint`; only its names and dialect are looked at.
        known: {class: names} instead of those in `MODELS`.
        least: leaves out families that score less.

    Returns:
        A list of `Recognised`, sorted by score; equal scores mean that the names alone
        do not tell (BERT without positions, NEZHA and RoFormer in TensorFlow's names).
    """
    tensors = [_Tensor(name) for name in sorted(checkpoint)]
    found = []
    for family, titles in (families() if known is None else known).items():
        if checkpoint.dialect in family.names:
            found.append(_judge(tensors, family, titles, checkpoint.dialect))
    found = [each for each in found if each.score >= least]
    return sorted(found, key=lambda each: -each.score)


def likeliest(found):
    """Those that share the best score of a list that `recognise` gave."""
    return [each for each in found if each.score == found[0].score]


def describe_family(name):
    """A family's name in a sentence: 'an ALBERT checkpoint'."""
    if name in _TITLES:
        return f'{_TITLES[name]} checkpoint'
    known = {alias: family for family, names in families().items() for alias in names}
    title = known[name].__name__ if name in known else name
    title = title.replace('_', ' ')
    article = 'an' if title[0] in 'AEIO' or title.startswith('mT5') else 'a'
    return f'{article} {title} checkpoint'


def looks_like(checkpoint, transformer):
    """What to add to an error: which other family a checkpoint looks like.

    Args:
        checkpoint: an open `Checkpoint`, or anything `open_checkpoint` made.
        transformer: the `Transformer` (or its class) that it did not fit.

    Returns:
        'this looks like an ALBERT checkpoint; pass model='albert'', or '' where the
        family asked for explains the file as well as any other.
    """
    family = transformer if isinstance(transformer, type) else type(transformer)
    found = recognise(checkpoint)
    if not found:
        return ''
    own = recognise(checkpoint, {family: ('asked',)}, least=0.0)
    asked = own[0].score if own else 0.0
    best = likeliest(found)
    if best[0].score < 0.8 or best[0].score <= asked:
        return ''
    kinds = ' or '.join(dict.fromkeys(describe_family(e.name) for e in best[:4]))
    options = ' or '.join(f'model={each.name!r}' for each in best[:4])
    return f'this looks like {kinds}; pass {options}'


def candidates(family, tensor):
    """The names that a tensor may go by in a file, the likeliest first.

    Args:
        family: a subclass of `Transformer`, or an instance.
        tensor: its name in the family's table.
    """
    names = [*family.alternatives.get(tensor, ()), tensor]
    for prefix in family.model_prefixes:
        names += [name[len(prefix) :] for name in names if name.startswith(prefix)]
    return names


def _judge(tensors, family, titles, dialect):
    table = _table(family, dialect)
    ignored = re.compile(family.ignored) if family.ignored else None
    rows, unexplained = {}, []
    for tensor in tensors:
        found = table.find(tensor)
        if found:
            rows[tensor.name] = found
        elif not tensor.leftover and not (ignored and ignored.search(tensor.name)):
            unexplained.append(tensor.name)
    missing = table.count_missing(rows)
    total = len(rows) + len(unexplained) + missing
    score = len(rows) / total if total else 0.0
    return Recognised(titles, family, score, rows, tuple(unexplained), missing)


@functools.lru_cache(64)
def _table(family, dialect):
    return _Table(family, dialect)


class _Tensor:
    """A tensor's name, taken apart once for all families."""

    def __init__(self, name):
        self.name = name
        short = len(name) <= _LONGEST
        self.leftover = short and bool(IGNORED.search(name))
        self.opened = list(_opened(name)) if short else []


class _Table:
    """A family's table, looked through from the tensors' side, layers left open."""

    def __init__(self, family, dialect):
        self.switches = _switches(family)
        self.lefts = set()
        self.plain = {}
        self.indexed = {}
        table = {
            _INDEX.sub(_open, left): _INDEX.sub(_open, right)
            for left, right in family.names[dialect].items()
        }
        for left, right in expand(table, 1, shared=True).items():
            left = re.sub('\0.*?\1', '\0', left)
            self.lefts.add(left)
            slot = parse_slot(left, right, dialect)
            row = Row(left, None, slot.turned, slot.parts)
            for name in candidates(family, slot.tensor):
                self._add(row, name)

    def _add(self, row, tensor):
        formats = re.findall('\0(.*?)\1', tensor)
        key = re.sub('\0.*?\1', '\0', tensor)
        if formats:
            self.indexed.setdefault(key, (formats[0], []))[1].append(row)
        else:
            self.plain.setdefault(key, []).append(row)

    def find(self, tensor):
        """The rows of a tensor; none where the family has no such tensor."""
        if tensor.name in self.plain:
            return self.plain[tensor.name]
        for key, digits in tensor.opened:
            form, rows = self.indexed.get(key, ('', ()))
            if rows and format(int(digits), form) == digits:
                return [row._replace(layer=int(digits)) for row in rows]
        return []

    def count_missing(self, rows):
        """How many tensors are wanted and not there, for the layers that are seen."""
        seen = {}
        for found in rows.values():
            for row in found:
                seen.setdefault(row.left, set()).add(row.layer)
        layers = {}
        for left, indices in seen.items():
            layers.setdefault(left.split('\0')[0], set()).update(indices)
        off = [p for p in self.switches if not any(p.search(left) for left in seen)]
        count = 0
        for left in self.lefts:
            if any(pattern.search(left) for pattern in (_OPTIONAL, *off)):
                continue
            wanted = layers.get(left.split('\0')[0], {None})
            if '\0' in left and None in seen.get(left, ()):
                continue  # one tensor for all layers, as in ALBERT
            count += len(wanted - seen.get(left, set()))
        return count


def _switches(family):
    """Patterns of left names that a file of the family has all of, or none."""
    fields = {field.name for field in dataclasses.fields(family.config_class)}
    return [re.compile(pattern) for key, pattern in _SWITCHED.items() if key in fields]


def _open(match):
    """A layer index, marked so that `expand` leaves it alone."""
    return f'\0{match.group(1) or ""}\1'


def _opened(name):
    """The name with each of its numbers, or all that are equal, left open."""
    runs = list(_DIGITS.finditer(name))[:_MANY_DIGITS]
    for run in runs:
        if len(run.group()) < 20:
            yield f'{name[: run.start()]}\0{name[run.end() :]}', run.group()
    for digits in {run.group() for run in runs}:
        if len(digits) < 20 and len([r for r in runs if r.group() == digits]) > 1:
            yield re.sub(rf'(?<!\d){digits}(?!\d)', '\0', name), digits
