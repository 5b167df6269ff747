"""A step and an epoch of fine-tuning, beside transformers, keras-hub and bert4keras.

    python benchmarks/fine_tuning.py --data cluener2020
    python benchmarks/fine_tuning.py --data cluener2020 --size base --texts 200

Each contender has a process of its own, and they take turns, step by step and epoch by
epoch; the median of the steps and the best epoch count.  All have the same numbers of
weights, rows in the same order, dropout of 0.1 and Adam.  Compiling is not counted.
One of ours multiplies in bfloat16, all others in float32.

A step is of --batch-size texts of --length tokens, none of them padding.  An epoch is
of texts as long as those of --data (otherwise of a synthetic corpus):
  bucketed  batches of like length        ours
  batch     to the longest of each batch  ours, transformers (run_ner.py), bert4keras
  fixed     all to --maxlen               transformers (run_glue.py), keras-hub: as
                                          their own scripts and preprocessors pad
Heads: classification of the first token (15 classes), ner of each token (31).

bert4keras needs an environment with legacy Keras, named by --bert4keras-python:
    python -m venv old && old/bin/pip install tf-keras==2.21.0 tensorflow==2.21.0 six
    old/bin/pip install --no-deps bert4keras==0.11.5
What cannot be imported is left out, and said so.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from keraseff.data import load_split
from keraseff.data.builtin import train_dev

SIZES = {
    'small': {'hidden_size': 312, 'num_hidden_layers': 4, 'intermediate_size': 1200},
    'base': {'hidden_size': 768, 'num_hidden_layers': 12, 'intermediate_size': 3072},
}
BATCHES = {'small': (16, 16), 'base': (4, 8)}  # of a step, of an epoch
KERAS = 'torch', 'tensorflow', 'jax'


class Contender(NamedTuple):
    """Who takes part: a module and class of `contenders`, a backend, ways to pad."""

    module: str
    name: str
    backend: str
    paddings: tuple
    dtype: str = 'float32'


CONTENDERS = {
    'transformers': Contender(
        'transformers_torch', 'Transformers', 'torch', ('fixed', 'batch')
    ),
    **{
        f'keraseff {backend}': Contender(
            'keras_models', 'Ours', backend, ('batch', 'bucketed')
        )
        for backend in KERAS
    },
    'keraseff torch bfloat16': Contender(
        'keras_models', 'Ours', 'torch', ('bucketed',), 'mixed_bfloat16'
    ),
    **{
        f'keras-hub {backend}': Contender(
            'keras_models', 'KerasHub', backend, ('fixed',)
        )
        for backend in KERAS
    },
    'bert4keras': Contender(
        'bert4keras_original', 'Bert4keras', 'tensorflow', ('batch',)
    ),
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--data', help='corpus whose lengths an epoch has, such as CLUENER')
    add(
        '--size',
        choices=SIZES,
        default='small',
        help='4 × 312, or BERT-base (%(default)s)',
    )
    add('--heads', nargs='+', default=['classification', 'ner'],
        choices=['classification', 'ner'], help='(both)')  # fmt: skip
    add('--contenders', nargs='+', default=list(CONTENDERS), choices=CONTENDERS,
        metavar='NAME', help=f'of: {", ".join(CONTENDERS)} (all)')  # fmt: skip
    add('--bert4keras-python', help="its environment's bin/python")
    add('--vocabulary', type=int, default=21128, help='(%(default)s)')
    add('--batch-size', type=int, help='of a step (small 16, base 4)')
    add('--epoch-batch-size', type=int, help='of an epoch (small 16, base 8)')
    add('--length', type=int, default=128, help='tokens, of a step (%(default)s)')
    add('--maxlen', type=int, default=128, help='of fixed padding (%(default)s)')
    add('--texts', type=int, default=1600, help='of an epoch (%(default)s)')
    add('--steps', type=int, default=9, help='of each (%(default)s)')
    add('--epochs', type=int, default=2, help='of each, 0 for none (%(default)s)')
    add('--together', type=int, default=4,
        help='contenders in memory, the first one always (%(default)s)')  # fmt: skip
    add('--threads', type=int, default=os.cpu_count(), help='of each (%(default)s)')
    add('--output', help='file for the figures, JSON')
    return parser


class Process:
    """A contender at work."""

    def __init__(self, spec, folder, python):
        file = folder / f'{spec["label"]}.json'
        file.write_text(json.dumps(spec), encoding='utf-8')
        worker = Path(__file__).parent / 'contenders' / 'worker.py'
        threads = str(spec['threads'])
        environment = os.environ | {
            'KERAS_BACKEND': spec['backend'],
            'OMP_NUM_THREADS': threads,
            'MKL_NUM_THREADS': threads,
            'TF_NUM_INTRAOP_THREADS': threads,
            'THREADS': threads,
            'TF_KERAS': '1',  # bert4keras'
            'TF_USE_LEGACY_KERAS': '1' if python != sys.executable else '0',
        }
        self.errors = (folder / f'{spec["label"]}.log').open('w+')
        self.process = subprocess.Popen(
            [python, worker, spec['module'], spec['name'], file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment,
        )

    def answer(self):
        """What it says next; None when it has ended."""
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, order):
        """Its answer to 'step' or 'epoch'."""
        self.process.stdin.write(f'{order}\n')
        self.process.stdin.flush()
        return self.answer()

    def why(self):
        """The last line that it wrote before it ended."""
        self.process.wait()
        self.errors.seek(0)
        lines = [line for line in self.errors.read().split('\n') if line.strip()]
        return lines[-1] if lines else f'exit {self.process.returncode}'

    def end(self):
        """Let it go."""
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def text_lengths(args):
    """Tokens of the texts of an epoch, with the two that stand around them."""
    rows = load_split(args.data).train if args.data else train_dev(args.texts)[0]
    return [min(len(text) + 2, args.maxlen) for text, _ in rows[: args.texts]]


def spec(args, label, padding, task, lengths):
    """All that a contender's process must know."""
    contender = CONTENDERS[label]
    config = SIZES[args.size] | {
        'vocab_size': args.vocabulary,
        'num_attention_heads': 12,
        'max_position_embeddings': 512,
        'type_vocab_size': 2,
        'hidden_act': 'gelu',
        'hidden_dropout_prob': 0.1,
        'attention_probs_dropout_prob': 0.1,
        'initializer_range': 0.02,
    }
    of_step, of_epoch = BATCHES[args.size]
    return contender._asdict() | {
        'label': f'{label}, {padding}',
        'padding': padding,
        'task': task,
        'config': config,
        'rate': 2e-5,
        'step_size': args.batch_size or of_step,
        'batch_size': args.epoch_batch_size or of_epoch,
        'length': args.length,
        'maxlen': args.maxlen,
        'lengths': lengths if args.epochs else [],
        'threads': args.threads,
    }


def started(specs, args, folder):
    """{label: process} of those that are ready, and {label: what each said}."""
    processes, told = {}, {}
    for one in specs:
        python = sys.executable
        if one['module'].startswith('bert4keras') and args.bert4keras_python:
            python = args.bert4keras_python
        process = Process(one, folder, python)
        said = process.answer()
        if said is None:
            print(f'{one["label"]}: left out, {process.why()}', file=sys.stderr)
            process.end()
            continue
        note = '{ready:.0f} s to begin, {parameters:,} parameters'.format(**said)
        print(f'{one["label"]}: {note}', file=sys.stderr)
        processes[one['label']], told[one['label']] = process, said
    return processes, told


def take_turns(processes, order, rounds):
    """{label: answers}."""
    answers = {label: [] for label in processes}
    for _ in range(rounds):
        for label, process in processes.items():
            answers[label].append(process.ask(order))
    return answers


def measure(specs, args):
    """{label: figures} of contenders that are in memory together."""
    with tempfile.TemporaryDirectory() as folder:
        processes, told = started(specs, args, Path(folder))
        steps = take_turns(processes, 'step', args.steps)
        epochs = take_turns(processes, 'epoch', args.epochs)
        for process in processes.values():
            process.end()
    figures = {}
    for label, said in told.items():
        seconds = [answer['seconds'] for answer in epochs[label]]
        last = (steps[label] + epochs[label])[-1]
        figures[label] = said | {
            'step': statistics.median(a['seconds'] for a in steps[label]),
            'epoch': min(seconds, default=None),
            'peak': last['peak'],
        }
    return figures


def groups(args):
    """Labels and paddings that are measured together; the first is in each."""
    pairs = [(x, p) for x in args.contenders for p in CONTENDERS[x].paddings]
    first, rest = pairs[0], iter(pairs[1:])
    while group := list(itertools.islice(rest, max(1, args.together - 1))):
        yield [first, *group]


def table(found, baseline):
    """Lines of Markdown; ratios are to the baseline of the same turns."""
    yield '| | padding | a step, ms | of the first | an epoch, s | of the first | MiB |'
    yield '|---|---|---:|---:|---:|---:|---:|'
    for label, (figures, group) in found.items():
        name, padding = label.split(', ')
        row = [name, padding, f'{1000 * figures["step"]:.0f}']
        row.append(f'{figures["step"] / group[baseline]["step"]:.2f}')
        row += ['', '']
        if figures['epoch']:
            row[-2] = f'{figures["epoch"]:.1f}'
            row[-1] = f'{figures["epoch"] / group[baseline]["epoch"]:.2f}'
        yield f'| {" | ".join(row)} | {figures["peak"]:.0f} |'


def main():
    args = arguments().parse_args()
    lengths = text_lengths(args)
    print(f'{args.data or "synthetic"}: {len(lengths)} texts, {sum(lengths)} tokens, '
          f'at most {max(lengths)}; {args.size}, {args.threads} threads\n')  # fmt: skip
    kept = {}
    for task in args.heads:
        found, baseline = {}, None
        for group in groups(args):
            specs = [spec(args, *pair, task, lengths) for pair in group]
            baseline = specs[0]['label']
            figures = measure(specs, args)
            if baseline not in figures:
                sys.exit(f'{baseline}, to which the others are compared, did not begin')
            for label in figures:
                found.setdefault(label, (figures[label], figures))
        print(f'{task}\n', *table(found, baseline), '', sep='\n', flush=True)
        kept[task] = {label: figures for label, (figures, _) in found.items()}
    if args.output:
        Path(args.output).write_text(json.dumps(kept, indent=1), encoding='utf-8')


if __name__ == '__main__':
    main()
