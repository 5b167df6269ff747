"""`python -m keraseff inspect PATH`: what a checkpoint is, and what would not fit."""

import dataclasses
import json
import math
import time
from collections import Counter
from pathlib import Path

from keraseff.checkpoints import CheckpointError
from keraseff.commands.output import columns
from keraseff.commands.output import human_count
from keraseff.commands.output import human_size
from keraseff.commands.output import paint
from keraseff.commands.output import plain

SUMMARY = 'say what a checkpoint is: family, config, parameters, what would not fit'
DESCRIPTION = """\
Says of a checkpoint which family it is of, its configuration, its parameters, and what
would not fit. Names and shapes alone are read, no weight, so it is fast on large files.

PATH is a folder, a .safetensors, .bin, .h5 or index.json file, or the prefix of a
TensorFlow checkpoint."""
EPILOG = """\
exit code: 0 everything fits, 1 something does not, 2 a file cannot be read

examples:
  python -m keraseff inspect chinese_L-12_H-768_A-12
  python -m keraseff inspect out/model.safetensors --model roformer --tensors"""

_KINDS = {
    'TensorFlowCheckpoint': 'TensorFlow checkpoint',
    'SafetensorsCheckpoint': 'safetensors',
    'ShardedCheckpoint': 'sharded, by an index',
    'TorchCheckpoint': 'PyTorch (torch.save)',
    'KerasH5Checkpoint': 'Keras HDF5 of transformers',
}
_TIED = 'tie_word_embeddings=True'
_REQUIRED = 'num_hidden_layers', 'num_attention_heads', 'hidden_act'
_SHOWN = 12


def add_arguments(parser):
    """The arguments of this command."""
    parser.add_argument('path', metavar='PATH', help='the checkpoint')
    parser.add_argument(
        '--model', metavar='NAME', help='take it for this family instead of finding out'
    )
    parser.add_argument(
        '--config', metavar='FILE', help='the config, instead of the one beside it'
    )
    parser.add_argument(
        '--tensors', action='store_true', help='list every tensor, its shape and dtype'
    )
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(options):
    """Print the report; 0 if everything fits, else 1."""
    began = time.perf_counter()
    report = make_report(options.path, options.model, options.config)
    if options.tensors:
        report['all_tensors'] = _listing(report['subject'].checkpoint)
    report['seconds'] = round(time.perf_counter() - began, 2)
    report.pop('subject')
    if options.json:
        print(json.dumps(report, indent=2, default=str))
    else:
        print('\n'.join(_lines(report)))
    return 0 if report['fits'] else 1


def make_report(path, model=None, config=None):
    """What there is to say of a checkpoint, as a dict.

    Raises:
        CheckpointError, ValueError, OSError: a file cannot be read.
    """
    from keraseff.commands.checkpoint import open_subject
    from keraseff.models.fitting import infer_options
    from keraseff.models.recognition import likeliest
    from keraseff.models.recognition import looks_like

    subject = open_subject(path, model, config)
    checkpoint, chosen = subject.checkpoint, subject.chosen
    report = {'path': str(path), 'subject': subject, **_describe_files(checkpoint)}
    report |= _describe_tensors(checkpoint, chosen)
    ties = [name for each in likeliest(subject.found) for name in each.names]
    report |= {
        'family': chosen.name if chosen else None,
        'names': chosen.names if chosen else [],
        'told_by': subject.why,
        'candidates': [[each.name, round(each.score, 3)] for each in subject.found],
        'equally_likely': ties if chosen and chosen.name in ties else [],
        'config_file': subject.config_path and str(subject.config_path),
        'config': _known(subject),
        'config_others': len(subject.options) - len(_known(subject)),
        'by_shapes': infer_options(checkpoint, chosen) if chosen else {},
    }
    report |= _judge(subject)
    better = looks_like(checkpoint, chosen.family) if chosen else ''
    report['hint'] = better or report.get('hint', '')
    return report


def _known(subject):
    """What the config says that a model of the family heeds."""
    if subject.chosen is None:
        return subject.options
    family = subject.chosen.family
    fields = {field.name for field in dataclasses.fields(family.config_class)}
    known = fields | set(family.aliases) | {'model_type', 'architectures'}
    return {key: value for key, value in subject.options.items() if key in known}


def _describe_files(checkpoint):
    sizes = {path: path.stat().st_size for path in checkpoint.files() if path.is_file()}
    report = {
        'format': _KINDS.get(type(checkpoint).__name__, type(checkpoint).__name__),
        'dialect': checkpoint.dialect,
        'files': len(checkpoint.files()),
        'bytes': sum(sizes.values()),
        'weights': 'complete',
    }
    try:
        checkpoint.check_complete()
    except CheckpointError as error:
        report['weights'] = str(error)
    return report


def _describe_tensors(checkpoint, chosen):
    from keraseff.models.loading import IGNORED

    leftovers = [
        name
        for name in checkpoint
        if IGNORED.search(name) and not (chosen and name in chosen.rows)
    ]
    count = {name: math.prod(checkpoint.shape(name)) for name in checkpoint}
    kinds = Counter()
    for name in set(checkpoint) - set(leftovers):
        kinds[checkpoint.dtype(name).name] += count[name]
    return {
        'tensors': len(checkpoint) - len(leftovers),
        'leftovers': len(leftovers),
        'parameters': sum(kinds.values()),
        'dtypes': dict(kinds.most_common()),
    }


def _judge(subject):
    """Whether it fits, and what does not."""
    from keraseff.models.fitting import find_misfit
    from keraseff.models.fitting import guess_options
    from keraseff.models.loading import OUTPUT_MATRICES

    chosen = subject.chosen
    if chosen is None:
        reason = 'its tensors are of no family that keraseff knows'
        return {
            'fits': False,
            'problems': [reason],
            'unused': sorted(subject.checkpoint),
        }
    if not chosen.rows:
        other = f'; they are those of {subject.found[0].name}' if subject.found else ''
        reason = f'none of its tensors is called as in {chosen.name}{other}'
        return {'fits': False, 'problems': [reason], 'unused': chosen.unexplained}
    options = subject.options or guess_options(subject.checkpoint, chosen)
    try:
        misfit = find_misfit(subject.checkpoint, chosen, options)
    except Exception as error:  # a config can be wrong in as many ways as there are
        kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
        return {
            'fits': False,
            'problems': [
                f'no {chosen.name} can be built from the config: {kind}{error}'
            ],
            'unused': [],
        }
    problems = [*misfit.differs]
    problems += [f'missing: {text}' for text in misfit.missing]
    untied = [text for text in misfit.missing if text.endswith(OUTPUT_MATRICES)]
    hint = f'pass {_TIED} for files without an output matrix' if untied else ''
    problems += [f'mis-shaped: {text}' for text in misfit.misshaped]
    try:
        subject.checkpoint.check_complete()
    except CheckpointError as error:
        problems.append(f'the weights are not all there: {error}')
    return {
        'fits': not problems,
        'problems': problems,
        'unused': list(misfit.unused),
        'hint': hint,
    }


def _listing(checkpoint):
    return [
        [name, list(checkpoint.shape(name)), checkpoint.dtype(name).name]
        for name in sorted(checkpoint)
    ]


def _lines(report):
    lines = [paint(plain(report['path']), 'bold')]
    files = f'{report["files"]} file{"s" if report["files"] > 1 else ""}'
    size = human_size(report['bytes'])
    rows = [
        ('format', f'{report["format"]}, {report["dialect"]} names, {files}, {size}'),
        ('family', _family_line(report)),
        ('tensors', _tensor_line(report)),
        ('parameters', human_count(report['parameters'])),
        ('dtypes', ', '.join(report['dtypes'])),
    ]
    if report['weights'] != 'complete':
        rows.insert(1, ('weights', paint(plain(report['weights']), 'bad')))
    lines += columns(rows, '  ')
    lines += _config_lines(report)
    lines += _verdict_lines(report)
    if 'all_tensors' in report:
        lines.append(paint('tensors', 'bold'))
        rows = [
            (plain(name), f'{"×".join(map(str, shape)) or "scalar":>16}  {dtype}')
            for name, shape, dtype in report['all_tensors']
        ]
        lines += columns(rows, '  ')
    lines.append(paint(f'({report["seconds"]} s)', 'dim'))
    return lines


def _family_line(report):
    from keraseff.models.recognition import describe_family

    if report['family'] is None:
        return paint('unknown', 'bad')
    text = f'{describe_family(report["family"])}, told by {report["told_by"]}'
    others = [name for name in report['equally_likely'] if name not in report['names']]
    if others:
        text += f'; its tensors have the same names in: {", ".join(others)}'
    return text


def _tensor_line(report):
    text = f'{report["tensors"]:,}'
    if report['leftovers']:
        text += f', and {report["leftovers"]:,} left over by training'
    return text


def _config_lines(report):
    shapes = report['by_shapes']
    if report['config_file'] is None:
        lines = [
            paint('config', 'bold') + ': none beside it; by the shapes of tensors:'
        ]
        lines += columns([(key, str(value)) for key, value in shapes.items()], '  ')
        hidden = [key for key in _REQUIRED if key not in shapes]
        if hidden:
            lines.append(f'  shapes do not show: {", ".join(hidden)}')
        return lines
    name = Path(report['config_file']).name
    rows = [
        (plain(key), plain(json.dumps(value, ensure_ascii=False)))
        for key, value in report['config'].items()
    ]
    others = report['config_others']
    if others:
        rows.append((f'and {others} more', ''))
    return [paint('config', 'bold') + f': {plain(name)}', *columns(rows, '  ')]


def _verdict_lines(report):
    lines = []
    if report['fits']:
        lines.append(paint('fits', 'good') + f': model={report["family"]!r} takes it')
    else:
        lines.append(paint('does not fit', 'bad'))
        lines += _few([f'  {plain(text)}' for text in report['problems']])
    if report['hint']:
        lines.append(f'  {report["hint"]}')
    if report['unused']:
        lines.append(paint('tensors that no layer takes', 'warn'))
        lines += _few([f'  {plain(name)}' for name in report['unused']])
    return lines


def _few(lines):
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f'  and {more} more']
