"""Readers and writers of entity files that are JSON: an array, or an object a line.

Lists that are null or missing count as empty; anything else of the wrong kind is a
BadRow.
"""

import json
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keraseff.data.entity_lines import Raw
from keraseff.data.entity_lines import Row
from keraseff.data.lines import BadRow
from keraseff.data.lines import brief
from keraseff.data.lines import json_problem
from keraseff.data.lines import parse_json
from keraseff.data.lines import read_lines


def json_records(path: Path) -> Iterator[tuple[str, dict]]:
    """FILE:LINE and object, from JSON lines or from one JSON array of objects."""
    lines, first = read_lines(path), True
    for number, line in lines:
        if first and line.lstrip().startswith('['):
            rest = '\n'.join(text for _, text in lines)
            yield from _array_records(path, number, f'{line}\n{rest}')
        elif line.strip():
            where = f'{path}:{number}'
            yield where, _the_dict(parse_json(line, where), 'a row', where)
            first = False


def _array_records(path: Path, number: int, text: str) -> Iterator[tuple[str, dict]]:
    # item by item, to know the line on which each begins
    decoder, i = json.JSONDecoder(), text.index('[') + 1
    while True:
        while i < len(text) and text[i] in ' \t\r\n,':
            number += text[i] == '\n'
            i += 1
        where = f'{path}:{number}'
        if text[i : i + 1] == ']':
            if rest := text[i + 1 :].strip():
                raise BadRow(f'{where}: after the JSON array comes {rest[:40]!r}')
            return
        try:
            item, end = decoder.raw_decode(text, i)
        except (ValueError, RecursionError) as error:
            problem = getattr(error, 'msg', None) or json_problem(error)
            raise BadRow(
                f'{where}: the JSON array can not be read from here: {problem}'
            ) from error
        yield where, _the_dict(item, 'a row', where)
        number += text.count('\n', i, end)
        i = end


def _the_dict(value: Any, name: str, where: str) -> dict:
    if not isinstance(value, dict):
        raise BadRow(f'{where}: {name} must be a JSON object, got {brief(value)}')
    return value


def _the_list(value: Any, name: str, where: str) -> list:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow(f'{where}: {name} must be a list, got {brief(value)}')
    return value


def _the_text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f'{where}: the text is {brief(value)}, not a string')
    return value


def _need(item: dict, keys: Sequence[str], where: str) -> Any:
    for key in keys:
        if key in item:
            return item[key]
    wanted = ' or '.join(map(repr, keys))
    raise BadRow(f'{where}: no {wanted} among {brief(list(item))}')


def _whole(number: Any, where: str) -> int:
    if type(number) is not int:  # True is an int too
        raise BadRow(f'{where}: {brief(number)} is not a whole number')
    return number


def read_cluener(path: Path) -> Iterator[Raw]:
    """CLUENER2020: {"text", "label": {type: {words: [[start, end inclusive], …]}}}."""
    for where, item in json_records(path):
        spans = []
        for kind, name, place in _cluener_places(item.get('label'), where):
            start, end = (_whole(number, where) for number in place)
            spans.append((start, end + 1, kind, name))
        yield Raw(where, _need(item, ['text'], where), spans)


def _cluener_places(label: Any, where: str) -> Iterator[tuple[str, str, list]]:
    label = {} if label is None else label
    kinds = label.items() if isinstance(label, dict) else [(None, label)]
    for kind, words in kinds:
        for name, places in words.items() if isinstance(words, dict) else [('', 0)]:
            for place in places if isinstance(places, list) else [places]:
                if not isinstance(place, list) or len(place) != 2:
                    raise BadRow(
                        f'{where}: label must be {{type: {{words: [[start, end]]}}}}, '
                        f'not {brief(label)}'
                    )
                yield kind, name, place


def write_cluener(rows: Iterable[Row]) -> Iterator[str]:
    """As read, with `id` (the row's number from 0), which the CLUE server asks for."""
    for i, (text, entities) in enumerate(rows):
        label: dict[str, dict[str, list]] = {}
        for start, end, kind, *_ in entities:
            places = label.setdefault(kind, {}).setdefault(text[start:end], [])
            places.append([start, end - 1])
        yield _dump({'id': i, 'text': text, 'label': label}) + '\n'


def read_cmeee_json(path: Path) -> Iterator[Raw]:
    """CMeEE / CBLUE: {"text", "entities": [{start_idx, end_idx, type, entity}]}.

    Whether ends are inclusive (first edition) or not (V2 as some convert it) is
    decided for the whole file, from the words in `entity`; ValueError if neither fits.
    """
    records = list(json_records(path))
    rows = [_cmeee_row(where, item) for where, item in records]
    extra = _end_convention(rows)
    for where, text, spans in rows:
        moved = [(start, end + extra, kind, name) for start, end, kind, name in spans]
        yield Raw(where, text, moved)


def _cmeee_row(where: str, item: dict) -> Raw:
    text = _the_text(_need(item, ['text'], where), where)
    found = _the_list(item.get('entities'), 'entities', where)
    return Raw(where, text, [_cmeee_entity(entity, where) for entity in found])


def _cmeee_entity(entity: Any, where: str) -> tuple:
    _the_dict(entity, 'an entity', where)
    start = _whole(_need(entity, ['start_idx'], where), where)
    end = _whole(_need(entity, ['end_idx'], where), where)
    name = entity.get('entity')
    if name is not None and not isinstance(name, str):
        raise BadRow(f'{where}: entity must be the words meant, got {brief(name)}')
    return start, end, _need(entity, ['type'], where), name


def _end_convention(rows: list[Raw]) -> int:
    """What to add to end_idx: 1 if it is inclusive, 0 if exclusive."""
    wrong: dict[int, list[str]] = {1: [], 0: []}
    named, unnamed = 0, None
    for where, text, spans in rows:
        for start, end, _, name in spans:
            if name is None:
                unnamed = unnamed or where
                continue
            named += 1
            for extra, places in wrong.items():
                if text[start : end + extra] != name:
                    at = f'{brief(start)}, {brief(end)}'
                    places.append(f'{where}: {brief(name)} at {at}')
    if unnamed and not named:
        raise BadRow(
            f'{unnamed}: no "entity" says which words are meant, so nothing tells '
            f'whether end_idx is inclusive; add the words or convert to doccano'
        )
    extra = min(wrong, key=lambda key: len(wrong[key]))
    if wrong[extra]:
        raise BadRow(
            f'{wrong[extra][0]} is neither that nor anything else consistent: of '
            f'{named} entities {len(wrong[1])} disagree when ends are inclusive, '
            f'{len(wrong[0])} when exclusive'
        )
    return extra


def write_cmeee_json(rows: Iterable[Row]) -> Iterator[str]:
    """A JSON array, ends inclusive, with the words, and the score if there is one."""
    items = []
    for text, entities in rows:
        found = []
        for start, end, kind, *score in entities:
            words = text[start:end]
            entity = {'start_idx': start, 'end_idx': end - 1, 'type': kind}
            found.append(entity | {'entity': words} | _score(score))
        items.append({'text': text, 'entities': found})
    yield _dump(items, indent=1) + '\n'


def read_doccano(path: Path) -> Iterator[Raw]:
    """doccano: {"text", "label": [[start, end, type]]}, ends exclusive.

    Also `labels`, `data` for the text, and `entities` as objects {start_offset,
    end_offset, label}.
    """
    for where, item in json_records(path):
        spans = item.get('label', item.get('labels', item.get('entities')))
        spans = _the_list(spans, 'label', where)
        text = _need(item, ['text', 'data'], where)
        yield Raw(where, text, [_doccano_span(span, where) for span in spans])


def _doccano_span(span: Any, where: str) -> tuple:
    if isinstance(span, dict):
        start = _need(span, ['start_offset', 'start'], where)
        end = _need(span, ['end_offset', 'end'], where)
        return start, end, _need(span, ['label', 'type'], where), span.get('text')
    if not isinstance(span, list) or len(span) != 3:
        raise BadRow(f'{where}: expected [start, end, type], got {brief(span)}')
    return *span, None


def write_doccano(rows: Iterable[Row]) -> Iterator[str]:
    """JSON lines; scores, if there are any, in a list `scores` beside `label`."""
    for text, entities in rows:
        item = {'text': text, 'label': [list(e[:3]) for e in entities]}
        if any(len(entity) > 3 for entity in entities):
            item['scores'] = [e[3] if len(e) > 3 else None for e in entities]
        yield _dump(item) + '\n'


def read_label_studio(path: Path) -> Iterator[Raw]:
    """Label Studio: tasks with `data`, `annotations` and `result`, ends exclusive.

    Of several annotators the first who did not cancel counts; a task with nothing but
    `predictions` gives these.
    """
    for where, item in json_records(path):
        data = _the_dict(_need(item, ['data'], where), 'data', where)
        texts = [data['text']] if 'text' in data else list(data.values())
        texts = [text for text in texts if isinstance(text, str)]
        if len(texts) != 1:
            raise BadRow(f'{where}: no "text" among the data {brief(list(data))}')
        spans = []
        for result in _results(item, where):
            # other kinds of results, say relations, have no value or no labels
            value = _the_dict(result.get('value', {}), 'value', where)
            if value.get('labels', []) is None:
                raise BadRow(f'{where}: labels must be a list, got None')
            for kind in _the_list(value.get('labels'), 'labels', where):
                start, end = value.get('start'), value.get('end')
                spans.append((start, end, kind, value.get('text')))
        yield Raw(where, texts[0], spans)


def _results(item: dict, where: str) -> list[dict]:
    annotations = item.get('annotations', item.get('completions'))
    annotations = _the_list(annotations, 'annotations', where)
    predictions = _the_list(item.get('predictions'), 'predictions', where)
    for annotation in annotations or predictions:
        if not _the_dict(annotation, 'an annotation', where).get('was_cancelled'):
            results = _the_list(annotation.get('result'), 'result', where)
            return [_the_dict(result, 'a result', where) for result in results]
    return []


def write_label_studio(rows: Iterable[Row]) -> Iterator[str]:
    """Tasks with `predictions`, ready to import, for a <Labels name="label">."""
    tasks = []
    for text, entities in rows:
        results = []
        for i, (start, end, kind, *score) in enumerate(entities):
            words = {'start': start, 'end': end, 'text': text[start:end]}
            result = {'id': str(i), 'from_name': 'label', 'to_name': 'text'}
            result |= {'type': 'labels', 'value': words | {'labels': [kind]}}
            results.append(result | _score(score))
        prediction = {'model_version': 'keraseff', 'result': results}
        tasks.append({'data': {'text': text}, 'predictions': [prediction]})
    yield _dump(tasks, indent=1) + '\n'


def _score(score: list) -> dict:
    return {'score': score[0]} if score else {}


def _plain_number(value: Any) -> Any:
    if hasattr(value, 'item'):  # numpy's
        return value.item()
    raise TypeError(f'{value!r} can not be written as JSON')


def _dump(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=_plain_number)
    # half of a pair has no UTF-8; json reads it back from its escape
    return re.sub('[\ud800-\udfff]', lambda half: f'\\u{ord(half[0]):04x}', text)
