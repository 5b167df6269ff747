"""A checkpoint with what lies beside it: its config, and the family it is of."""

import dataclasses
from pathlib import Path

from keraseff.checkpoints import Checkpoint
from keraseff.checkpoints import CheckpointError
from keraseff.checkpoints import open_checkpoint
from keraseff.models import MODELS
from keraseff.models.config import CONFIG_FILES
from keraseff.models.config import read_config
from keraseff.models.recognition import Recognised
from keraseff.models.recognition import families
from keraseff.models.recognition import likeliest
from keraseff.models.recognition import recognise


@dataclasses.dataclass
class Subject:
    """What a command works on.

    Attributes:
        checkpoint: open.
        config_path: the file of its config, or None.
        options: what that holds, under our spellings.
        found: what `recognise` says.
        chosen: the family taken, or None where there is none.
        why: what decided: the option, the config, or the tensors.
    """

    checkpoint: Checkpoint
    config_path: Path | None
    options: dict
    found: list
    chosen: Recognised | None
    why: str

    @property
    def folder(self):
        """Where the checkpoint's files lie."""
        path = Path(self.checkpoint.path)
        return path if path.is_dir() else path.parent


def open_subject(path, model=None, config=None):
    """Open a checkpoint, read the config given or beside it, and find its family.

    Args:
        path: whatever `open_checkpoint` takes, a string.
        model: a name in `MODELS`, or None to find out.
        config: a file, or None to look for one beside the weights.

    Raises:
        CheckpointError: the weights cannot be read.
        ValueError: the config cannot be read, or there is no such model.
    """
    if model is not None and model.lower() not in MODELS:
        names = ', '.join(sorted(MODELS))
        raise ValueError(f'--model {model} is unknown; there are: {names}.')
    checkpoint = open_checkpoint(path)
    if not len(checkpoint):
        raise CheckpointError(path, 'holds no tensors.')
    config_path = Path(config) if config else find_config(checkpoint)
    options = _read(config_path)
    found = recognise(checkpoint)
    chosen, why = _choose(found, checkpoint, model, options)
    return Subject(checkpoint, config_path, options, found, chosen, why)


def find_config(checkpoint):
    """The config beside the weights, or None."""
    path = Path(checkpoint.path)
    folder = path if path.is_dir() else path.parent
    for name in CONFIG_FILES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob('*config*.json'))
    others = [path for path in others if not path.name.startswith(_OTHER_CONFIGS)]
    return others[0] if len(others) == 1 else None


_OTHER_CONFIGS = 'tokenizer', 'generation', 'special', 'preprocessor'


def _read(path):
    if path is None:
        return {}
    try:
        return read_config(path)
    except (RecursionError, OSError) as error:
        raise ValueError(f'{path}: cannot be read: {error}.') from error


def _choose(found, checkpoint, model, options):
    """The family asked for, that which the config names, or the likeliest."""
    asked = str(model or '').lower()
    named = options.get('model_type')
    named = named.lower() if isinstance(named, str) else ''
    for name, why in ((asked, '--model'), (named, 'config.json')):
        if name in MODELS:
            return _of(name, MODELS[name].variant(options), found, checkpoint), why
    best = likeliest(found)
    return (best[0], 'the names of its tensors') if best else (None, '')


def _of(name, family, found, checkpoint):
    """What `recognise` says of one family, under the name it was asked for by."""
    for each in found:
        if each.family is family:
            names = (name, *(other for other in each.names if other != name))
            return dataclasses.replace(each, names=names)
    if checkpoint.dialect in getattr(family, 'names', {}):
        again = recognise(checkpoint, {family: families().get(family, (name,))}, 0.0)
        return again[0]
    return Recognised((name,), family, 0.0, {}, tuple(sorted(checkpoint)), 0)
