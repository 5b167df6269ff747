"""What every example shares: its options, the directory it continues in, its score.

parser = experiment.Parser(__doc__, real={'epochs': 10}, bare={'epochs': 3})
parser.add_argument('--learning-rate', type=float, help='at its highest')

def main(args, folder): ...

if __name__ == '__main__':
    experiment.run(main, parser.parse_args)
"""

import argparse
import json
import os
import sys
import tempfile
from functools import cache
from functools import partial
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow's news of GPUs

import keras

from keraseff.callbacks import RunDirectory
from keraseff.data import atomic_write
from keraseff.training.distribution import distribution
from keraseff.training.distribution import processes

# The small pretrained model, the default with --data where a model can begin with it.
SHIPPED = Path(__file__).resolve().parents[1] / 'weights' / 'roformer_small'
TEXTS = 'a text, or a directory of them, of which each tenth is held out'
SYNTHETIC = 'data: synthetic (templates, and names of the jieba dictionary)'


def at_least(least):
    """The type of an option: a whole number from `least` on."""

    def number(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f'{text!r} is no number from {least} on')
        return int(text)

    return number


class Parser(argparse.ArgumentParser):
    """The options that every example has; those of its own are added to it.

    Args:
        doc: the docstring of the script, of which `--help` shows the first line.
        real: {name: default} with `--data`.
        bare: {name: default} without; by default as `real`.
        pretrained: {name: default} with `--config`, and otherwise as `real`; without
            it there are no options `--config`, `--checkpoint` and `--vocab`.
        data: what `--data` is; None, and there is no such option.

    An option that is added once more takes the place of the old one, so as to say more
    of it.  `--help` shows the defaults.
    """

    def __init__(self, doc, real=None, bare=None, pretrained=None, data=TEXTS):
        super().__init__(description=doc.split('\n')[0], conflict_handler='resolve')
        self.real, self.pretrained = real or {}, pretrained
        self.bare = self.real | (bare or {})
        option = self.add_argument
        if data:
            option('--data', help=data)
        if pretrained is not None:
            option('--config', help='of a model to fine-tune: a file or its directory')
            option('--checkpoint', help='its weights (those beside --config)')
            option('--vocab', help='its vocabulary (vocab.txt beside --config)')
        option('--epochs', type=at_least(0), help='passes over the data')
        option('--batch-size', type=at_least(1), help='rows of a step')
        option('--limit', type=at_least(1), help='use only the first so many texts')
        option('--seed', type=int, default=0, help='of all that is random')
        ways = 'none', 'data', 'model'
        about = 'over devices and machines: batches, or matrices too'
        option('--distribute', choices=ways, default='none', help=about)
        option('--output', help='directory to keep, and continue from')

    def add_argument(self, *names, **keywords):
        """As that of argparse; defaults are in `--help` by themselves."""
        action = super().add_argument(*names, **keywords)
        if action.default is None:
            action.help += self._shown(action.dest)
        elif action.default != argparse.SUPPRESS and action.nargs != 0:
            action.help += ' (%(default)s)'
        return action

    def _shown(self, name):
        found = {'': self.real.get(name), 'bare ': self.bare.get(name)}
        if self.pretrained:
            found['with --config '] = self.pretrained.get(name)
        if found[''] == found['bare ']:
            del found['bare ']
        shown = (f'{when}{x}' for when, x in found.items() if x is not None)
        return f' ({"; ".join(shown)})'.replace(' ()', '').replace('%', '%%')

    def parse_args(self, words=None):
        """The settings, none missing that has a default; `bare`: nothing to read."""
        args = super().parse_args(words)
        config, data = getattr(args, 'config', None), getattr(args, 'data', None)
        args.bare = not (config or data)
        defaults = self.bare if args.bare else self.real
        if config:
            defaults = self.real | self.pretrained
        for name, value in defaults.items():
            if getattr(args, name) is None:
                setattr(args, name, value)
        return args

    def parse_with_shipped(self, words, options):
        """As `parse_args`; the model in weights/ is --config, if it is there.

        Args:
            options: words that go well with it; those of `words` come later, and win.
        """
        if not SHIPPED.is_dir():
            return self.parse_args(words)
        return self.parse_args([*options, *words, '--config', str(SHIPPED)])


def is_shipped(config):
    """Whether `--config` names the model in weights/."""
    places = SHIPPED, SHIPPED / 'config.json'
    return bool(config) and Path(config).resolve() in places


def make_folder(folder):
    if folder.is_file():
        raise ValueError(f'--output {folder} is a file, not a directory')
    folder.mkdir(parents=True, exist_ok=True)


def run(main, settings):
    """Call `main(args, folder)`; what is wrong with a file is said in one sentence.

    The folder is that of `--output`, or one that is taken away at the end.
    """
    global _record
    args = settings()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = Path(args.output or scratch)
            with distribution(args.distribute):
                keras.utils.set_random_seed(args.seed)
                index, count = processes()
                folder = folder / f'process-{index}' if count > 1 else folder
                make_folder(folder)
                make = partial(make_record, args, folder)
                _record = cache(make) if args.output else None
                main(args, folder)
        except (ValueError, OSError) as error:
            # Set this to see where.
            if os.environ.get('KERASEFF_TRACEBACK'):
                raise
            sys.exit(str(error))


# --- what a run was, so that it can be repeated ---

_record = None  # of a run with --output: a function that gives its RunDirectory


def make_record(args, folder):
    """That of `folder/record`; which settings may change is for the scripts to say."""
    settings = vars(args)
    return RunDirectory(folder / 'record', settings, args.seed, ignored=settings)


def record(*trainings):
    """Note that the run begins; callbacks, for the metrics of trainings by folder."""
    if _record is None:
        return []
    run = _record()
    return [run.training(path.relative_to(run.path.parent)) for path in trainings]


def print_score(name, value):
    """The last line of an example, which its test compares with the floor."""
    print(f'{name} {value:.4f}')


# --- training that goes on after a stop ---


def warm_cosine(highest, steps, warm_up=20, last=0.02):
    """A rate that rises over one part in `warm_up`, then falls to `last` of itself."""
    rising = max(1, steps // warm_up)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        max(1, steps - rising),
        last,
        warmup_target=highest,
        warmup_steps=rising,
    )


def compiler(args):
    """`jit_compile`: under TensorFlow XLA compiles for longer than a bare run takes."""
    return False if args.bare and keras.config.backend() == 'tensorflow' else 'auto'


def fit(model, batches, steps, args, evaluator, callbacks=()):
    """Train for the epochs that are still to do.

    Args:
        batches: a function of a seed that returns the batches; after each continuation
            it gets another seed, for another order.
        steps: of an epoch.
        evaluator: a `keraseff.callbacks.Evaluator`, whose folder holds the state.
    """
    done = evaluator.resume(model)
    if done:
        ended = 'nothing is left to train' if done >= args.epochs else 'going on'
        print(f'{evaluator.path}: {done} of {args.epochs} epochs are done, {ended}')
    if done < args.epochs:
        model.fit(
            batches(args.seed + done),
            steps_per_epoch=steps,
            initial_epoch=done,
            epochs=args.epochs,
            callbacks=[*callbacks, evaluator, *record(evaluator.path)],
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 2,
        )


# --- tables that are filled row by row ---


def write_json(path, what):
    with atomic_write(path) as file:
        json.dump(what, file, ensure_ascii=False)


def begin(path, about):
    """Write what a directory is about; refuse one that is about something else."""
    if path.exists() and json.loads(path.read_text('utf-8')) != about:
        raise ValueError(f'{path} is not {about}; use another --output')
    write_json(path, about)
    record()


def choose(flag, names, known):
    """The entries of a table that an option names, joined by commas; or all."""
    names = names.split(',') if names else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f'{flag} {unknown[0]} is none of: {", ".join(known)}')
    return {name: known[name] for name in names}


class Rows(dict):
    """{name: row}, and a file of them, in which are the rows of earlier runs too.

    `about` tells the experiment; a file that has another's is refused.
    """

    def __init__(self, path, about):
        super().__init__()
        self.path, self.about = path, about
        if path.exists():
            kept = json.loads(path.read_text('utf-8'))
            if kept['about'] != about:
                raise ValueError(f'{path} is of {kept["about"]}; use another --output')
            self.update(kept['rows'])

    def fill(self, names, make):
        """(name, row) one by one; `make(name)` makes those that are not there."""
        record()
        for name in names:
            if name not in self:
                self[name] = make(name)
                write_json(self.path, {'about': self.about, 'rows': self})
            yield name, self[name]
