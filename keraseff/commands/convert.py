"""`python -m keraseff convert SRC DST`: the same weights in another format."""

import dataclasses
import sys
from functools import partial
from pathlib import Path

from keraseff.checkpoints import Checkpoint
from keraseff.checkpoints import open_checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints import write_tensorflow
from keraseff.checkpoints.base import DIALECTS
from keraseff.checkpoints.base import Stored
from keraseff.checkpoints.mapped import value_dtype
from keraseff.checkpoints.safetensors_writer import is_float
from keraseff.checkpoints.safetensors_writer import parse_size
from keraseff.checkpoints.safetensors_writer import shard_files
from keraseff.commands.output import Progress
from keraseff.commands.output import human_size
from keraseff.commands.output import paint
from keraseff.commands.output import plain

SUMMARY = 'write the weights of a checkpoint in another format'
DESCRIPTION = """\
Writes the weights of SRC in another format, tensor by tensor, in bounded memory:
TensorFlow to safetensors under Hugging Face's names and back, .bin and .h5 to
safetensors, one file to several and back. Nothing is computed; numbers stay the same
unless --dtype says otherwise.

DST decides what is written:
  NAME.safetensors   one file (several with --max-shard-size), Hugging Face's names
  NAME.ckpt          a TensorFlow checkpoint, Google's names
  anything else      a folder: model.safetensors, or with --dialect tensorflow
                     bert_model.ckpt; its config and vocabulary go along"""
EPILOG = """\
exit code: 0 written, 2 a file cannot be read or written; then none has changed

examples:
  python -m keraseff convert chinese_L-12_H-768_A-12 out/bert-base-chinese
  python -m keraseff convert pytorch_model.bin model.safetensors --dtype float16
  python -m keraseff convert qwen qwen-sharded --max-shard-size 2GB"""
_DTYPES = 'float32', 'float16', 'bfloat16'
_NO_WRITER = '.bin', '.pt', '.pth', '.h5', '.keras', '.json', '.index'


def add_arguments(parser):
    """The arguments of this command."""
    add = parser.add_argument
    add('source', metavar='SRC', help='a checkpoint, as for inspect')
    add('target', metavar='DST', help='a file, a prefix or a folder to write')
    add('--model', metavar='NAME', help='its family, instead of finding out')
    add('--config', metavar='FILE', help='its config, instead of the one beside it')
    add('--dtype', choices=_DTYPES, help='of floating-point tensors; as they are')
    add(
        '--dialect',
        choices=DIALECTS,
        help="whose names to write: Google's or Hugging Face's",
    )
    add(
        '--max-shard-size',
        metavar='SIZE',
        type=parse_size,
        help='several safetensors files, each at most that large: 2GB, 500MB',
    )
    add('--drop', action='store_true', help='leave out tensors without another name')
    add('--force', action='store_true', help='overwrite what is there')
    add('--quiet', action='store_true', help='no progress, no summary')


@dataclasses.dataclass
class Target:
    """What will be written.

    Attributes:
        path: the weights: a `.safetensors` file, or a prefix.
        folder: the folder to fill with config and vocabulary, or None.
        dialect: whose names the weights get.
        safetensors: their format, else TensorFlow's.
    """

    path: Path
    folder: Path | None
    dialect: str
    safetensors: bool


def run(options):
    """Write the checkpoint; 0."""
    from keraseff.commands.beside import plan_companions
    from keraseff.commands.checkpoint import open_subject

    target = find_target(options.target, options.dialect)
    subject = open_subject(options.source, options.model, options.config)
    if options.max_shard_size and not target.safetensors:
        raise ValueError(
            '--max-shard-size is for safetensors; TensorFlow has one file.'
        )
    subject.checkpoint.check_complete()
    tensors, transformer = rename(subject, target.dialect, options.drop)
    companions = plan_companions(subject, target, transformer, options.dtype)
    before = _check_free(subject.checkpoint, target, companions, options.force)
    progress = Progress(_size(tensors), 'converting')
    try:
        watched = _watched(tensors, options.dtype, progress)
        _write(watched, target, options.max_shard_size)
    finally:
        progress.close()
    for companion in companions:
        companion.write()
    for path in set(before) - set(written_files(target)):
        path.unlink(missing_ok=True)
    if not options.quiet:
        print(_summary(subject, target, tensors, companions))
        _note_left_out(subject.checkpoint, transformer)
    return 0


def find_target(text, dialect=None):
    """Read DST: which format goes where.

    Raises:
        ValueError: a format that is not written, or a dialect that it cannot have.
    """
    path = Path(text)
    if path.suffix in _NO_WRITER:
        raise ValueError(
            f'{text}: {path.suffix} files are read, not written; name a folder, a '
            '.safetensors file or a .ckpt prefix.'
        )
    if path.suffix == '.safetensors':
        return Target(path, None, dialect or 'huggingface', True)
    if path.suffix == '.ckpt' and not path.is_dir():
        if dialect == 'huggingface':
            raise ValueError(
                f"{text}: TensorFlow checkpoints have TensorFlow's names; leave out "
                '--dialect, or name a .safetensors file.'
            )
        return Target(path, None, 'tensorflow', False)
    if dialect == 'tensorflow':
        return Target(path / 'bert_model.ckpt', path, 'tensorflow', False)
    return Target(path / 'model.safetensors', path, 'huggingface', True)


def rename(subject, dialect, drop):
    """The tensors under the names of a dialect, and the `Transformer` that names them.

    Where the dialect is the source's own, that is the source itself, of whatever
    family, and None.
    """
    from keraseff.models.conversion import convert_names
    from keraseff.models.fitting import check_options
    from keraseff.models.fitting import guess_options
    from keraseff.models.recognition import LEAST_SCORE

    source, chosen = subject.checkpoint, subject.chosen
    if subject.why == '--model' and chosen.score < LEAST_SCORE:
        raise ValueError(
            f'{source.path}: its tensors are not those of --model {chosen.name}; leave '
            'it out.'
        )
    if dialect == source.dialect:
        return _copied(source, drop), None
    if chosen is None or not chosen.rows:
        raise ValueError(
            f'{source.path}: its tensors are of no family that keraseff knows, so they '
            f'have no names in {dialect}; pass --model, or --dialect {source.dialect} '
            'to keep their names.'
        )
    options = subject.options or guess_options(source, chosen)
    try:
        check_options(options)
        transformer = chosen.family(options)
    except (ValueError, TypeError) as error:
        raise ValueError(f'{subject.config_path}: {error}') from error
    tensors, lost = convert_names(source, transformer, dialect)
    if not drop:
        _refuse_loss(source, lost, f'have no name in {dialect}')
    return tensors, transformer


def _copied(source, drop):
    """A checkpoint without what is no array of numbers: TensorFlow's strings."""
    from keraseff.models.loading import IGNORED

    odd = [name for name in source if source.dtype(name).hasobject]
    if not drop:
        lost = [name for name in odd if not IGNORED.search(name)]
        _refuse_loss(source, lost, 'are of a kind that cannot be written')
    kept = {
        name: Stored(
            source.shape(name), source.dtype(name), partial(_get, source, name)
        )
        for name in source
        if name not in set(odd)
    }
    return Checkpoint(source.path, source.dialect, kept)


def _get(source, name):
    return source[name].view()


def _refuse_loss(source, lost, why):
    if lost:
        some = ', '.join(lost[:5]) + (f' and {len(lost) - 5} more' * (len(lost) > 5))
        raise ValueError(
            f'{source.path}: these tensors {why}: {some}. Pass --drop to leave them '
            'out.'
        )


def written_files(target):
    """The files of weights that there are under a target's name."""
    if not target.safetensors:
        files = [f'{target.path}.index', f'{target.path}.data-00000-of-00001']
        return [Path(file) for file in files if Path(file).exists()]
    index = target.path.with_name(f'{target.path.name}.index.json')
    if not index.is_file():
        return [path for path in (target.path,) if path.exists()]
    return open_checkpoint(index).files()


def _check_free(source, target, companions, force):
    """Refuse to write over what is there, and always over what is being read.

    Returns the files of weights that will be replaced.
    """
    weights = shard_files(target.path) if target.safetensors else written_files(target)
    taken = weights + [item.path for item in companions if item.path.exists()]
    reading = {file.resolve() for file in source.files()}
    for path in taken:
        if path.resolve() in reading:
            raise ValueError(
                f'{path} is read and cannot be written; choose another DST.'
            )
    if taken and not force:
        raise ValueError(f'{taken[0]} exists already; pass --force to overwrite it.')
    return weights


def _size(tensors):
    return sum(_bytes(tensors, name) for name in tensors)


def _bytes(tensors, name):
    count = tensors.dtype(name).itemsize
    for side in tensors.shape(name):
        count *= side
    return count


def _watched(tensors, dtype, progress):
    """The same checkpoint, cast, which tells the bar of every tensor that is read."""
    stored = {}
    for name in tensors:
        kind = tensors.dtype(name)
        if dtype is not None and is_float(kind):
            kind = value_dtype(dtype)

        def read(name=name, kind=kind):
            progress.add(_bytes(tensors, name))
            return tensors[name].astype(kind, copy=False).view()

        stored[name] = Stored(tensors.shape(name), kind, read)
    return Checkpoint(tensors.path, tensors.dialect, stored)


def _write(tensors, target, max_shard_size):
    if not target.safetensors:
        write_tensorflow(target.path, tensors)
        return
    notes = {'format': 'pt'} if target.dialect == 'huggingface' else None
    write_safetensors(target.path, tensors, notes, max_shard_size=max_shard_size)


def _note_left_out(source, transformer):
    from keraseff.models.conversion import left_out

    names = left_out(source, transformer) if transformer else []
    if names:
        shown = ', '.join(names[:3]) + (
            f' and {len(names) - 3} more' * (len(names) > 3)
        )
        print(f'note: left out, as of another model: {plain(shown)}', file=sys.stderr)


def _summary(subject, target, tensors, companions):
    written = written_files(target)
    size = human_size(sum(path.stat().st_size for path in written))
    names = [path.name for path in written] + [item.path.name for item in companions]
    shown = ', '.join(names[:6]) + (f' and {len(names) - 6} more' * (len(names) > 6))
    known = subject.chosen and subject.chosen.rows
    family = f'{subject.chosen.name}, ' if known else ''
    text = f'{family}{len(tensors)} tensors, {target.dialect} names, {size}'
    lines = [
        f'{paint("written", "good")} {target.folder or target.path}: {plain(text)}'
    ]
    lines.append(f'  {plain(shown)}')
    if target.folder and not any(
        i.path.name.endswith('onfig.json') for i in companions
    ):
        print(
            'note: no config lay beside the weights, and the number of attention heads '
            'cannot be known from them; write config.json, or pass --config.',
            file=sys.stderr,
        )
    return '\n'.join(lines)
