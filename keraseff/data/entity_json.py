"""Readers and writers of entity files that are JSON: an array, or an object a line."""

import json
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keraseff.data.entity_lines import Raw
from keraseff.data.entity_lines import Row
from keraseff.data.files import parse_json
from keraseff.data.files import read_lines


def json_records(path: Path) -> Iterator[tuple[str, dict]]:
    """FILE:LINE and object, from JSON lines or from one JSON array of objects."""
    lines = read_lines(path)
    for number, line in lines:
        if line.lstrip().startswith('['):
            rest = '\n'.join(text for _, text in lines)
            yield from _array_records(path, number, f'{line}\n{rest}')
        elif line.strip():
            where = f'{path}:{number}'
            yield where, _an_object(parse_json(line, where), where)


def _array_records(path: Path, number: int, text: str) -> Iterator[tuple[str, dict]]:
    # item by item, to know the line on which each begins
    decoder, i = json.JSONDecoder(), text.index('[') + 1
    while True:
        while i < len(text) and text[i] in ' \t\r\n,':
            number += text[i] == '\n'
            i += 1
        if text[i : i + 1] == ']':
            return
        where = f'{path}:{number}'
        try:
            item, end = decoder.raw_decode(text, i)
        except json.JSONDecodeError as error:
            raise ValueError(
                f'{where}: the JSON array can not be read from here: {error.msg}'
            ) from error
        yield where, _an_object(item, where)
        number += text.count('\n', i, end)
        i = end


def _an_object(item: Any, where: str) -> dict:
    if not isinstance(item, dict):
        raise ValueError(f'{where}: expected a JSON object, got {str(item)[:40]!r}')
    return item


def _need(item: dict, keys: Sequence[str], where: str) -> Any:
    for key in keys:
        if key in item:
            return item[key]
    raise ValueError(f'{where}: no {" or ".join(map(repr, keys))} in {list(item)}')


def _inclusive(end: Any, where: str) -> int:
    if not isinstance(end, int):
        raise ValueError(f'{where}: {end!r} is not a whole number')
    return end + 1


def read_cluener(path: Path) -> Iterator[Raw]:
    """CLUENER2020: {"text", "label": {type: {words: [[start, end inclusive], …]}}}."""
    for where, item in json_records(path):
        spans = []
        label = item.get('label') or {}
        try:
            for kind, words in label.items():
                for name, places in words.items():
                    for start, end in places:
                        spans.append((start, _inclusive(end, where), kind, name))
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f'{where}: label must be {{type: {{words: [[start, end]]}}}}, '
                f'not {str(label)[:60]}'
            ) from error
        yield Raw(where, _need(item, ['text'], where), spans)


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
    extra = _end_convention(path, records)
    for where, item in records:
        spans = []
        for entity in item.get('entities') or []:
            start, end, kind, name = _cmeee_entity(entity, where)
            spans.append((start, end + extra, kind, name))
        yield Raw(where, _need(item, ['text'], where), spans)


def _cmeee_entity(entity: dict, where: str) -> tuple:
    end = _inclusive(_need(entity, ['end_idx'], where), where) - 1
    start = _inclusive(_need(entity, ['start_idx'], where), where) - 1
    return start, end, _need(entity, ['type'], where), entity.get('entity')


def _end_convention(path: Path, records: list[tuple[str, dict]]) -> int:
    """What to add to end_idx: 1 if it is inclusive, 0 if exclusive."""
    wrong: dict[int, list[str]] = {1: [], 0: []}
    named = unnamed = 0
    for where, item in records:
        for entity in item.get('entities') or []:
            start, end, _, name = _cmeee_entity(entity, where)
            if name is None:
                unnamed += 1
                continue
            named += 1
            for extra, places in wrong.items():
                if item['text'][start : end + extra] != name:
                    places.append(f'{where}: {name!r} at {start}, {end}')
    if unnamed and not named:
        raise ValueError(
            f'{path}: no "entity" says which words are meant, so nothing tells '
            f'whether end_idx is inclusive; add the words or convert to doccano'
        )
    extra = min(wrong, key=lambda key: len(wrong[key]))
    if wrong[extra]:
        raise ValueError(
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
        spans = item.get('label', item.get('labels', item.get('entities'))) or []
        text = _need(item, ['text', 'data'], where)
        yield Raw(where, text, [_doccano_span(span, where) for span in spans])


def _doccano_span(span: Any, where: str) -> tuple:
    if isinstance(span, dict):
        start = _need(span, ['start_offset', 'start'], where)
        end = _need(span, ['end_offset', 'end'], where)
        return start, end, _need(span, ['label', 'type'], where), span.get('text')
    if not isinstance(span, list) or len(span) != 3:
        raise ValueError(f'{where}: expected [start, end, type], got {span!r}')
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
        data = _need(item, ['data'], where)
        texts = [data['text']] if 'text' in data else list(data.values())
        texts = [text for text in texts if isinstance(text, str)]
        if len(texts) != 1:
            raise ValueError(f'{where}: no "text" among the data {list(data)}')
        spans = []
        for result in _results(item):
            value = result.get('value', {})
            for kind in value.get('labels', []):
                start, end = value.get('start'), value.get('end')
                spans.append((start, end, kind, value.get('text')))
        yield Raw(where, texts[0], spans)


def _results(item: dict) -> list[dict]:
    annotations = item.get('annotations', item.get('completions')) or []
    for annotation in annotations or item.get('predictions') or []:
        if not annotation.get('was_cancelled'):
            return annotation.get('result') or []
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
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_plain_number)
