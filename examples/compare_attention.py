"""Every attention, and what stands in its place, on one budget: quality, time, memory.

A small character language model is trained for the same steps on the same pieces with
each of them, first on short pieces and then, going on, on long ones.
https://arxiv.org/abs/2011.04006  floor: 0.3
"""

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context

import characters
import experiment
import keras
import numpy as np

from keraseff.data import following_pieces
from keraseff.data import random_pieces
from keraseff.layers import MECHANISMS
from keraseff.layers import MIXERS

ABOUT = 'data', 'lengths', 'epochs', 'steps', 'batch_size', 'learning_rate', 'layers'
ABOUT += 'units', 'test_size', 'seconds', 'limit', 'seed'

# --- settings ---

at_least = experiment.at_least
parser = experiment.Parser(
    __doc__,
    real={
        'lengths': '512,4096',
        'steps': '300,20',
        'batch_size': 2,
        'learning_rate': 6e-3,
        'layers': 2,
    },
    bare={
        'lengths': '64',
        'steps': '150',
        'batch_size': 16,
        'learning_rate': 1e-2,
        'layers': 1,
        'attentions': 'softmax,linear,local',
    },
)
option = parser.add_argument
option('--attentions', help='rows of the table, with commas; all with --data')
option('--lengths', help='of the pieces, rising, with commas')
option('--epochs', type=float, default=1.0, help='times --steps')
option('--steps', help='of training at each length')
option('--batch-size', type=at_least(1), help='pieces of the first length')
option('--learning-rate', type=float, help='at its highest')
option('--layers', type=at_least(1), help='of the model')
option('--units', type=at_least(1), default=64, help='of the model')
option('--test-size', type=at_least(1), default=32768, help='characters')
option('--seconds', type=at_least(1), default=60, help='a training may take')
option('--memory', type=at_least(1), default=12, help='GiB a row may take')


def settings(words=None):
    args = parser.parse_args(words)
    for name in ('lengths', 'steps'):
        setattr(args, name, [int(x) for x in getattr(args, name).split(',')])
    if len(args.lengths) != len(args.steps) or args.lengths != sorted(args.lengths):
        parser.error('--lengths must rise, and --steps give a number for each')
    if args.distribute != 'none':
        parser.error('each training has a process of its own; leave --distribute out')
    return args


def choices():
    """{row of the table: its options}: all that can be causal."""
    options = {
        'local': {'reach': 64},
        'performer': {'num_features': 64, 'seed': 0},
        'vq': {'codes': 64, 'block': 64},
    }
    return {
        name: options.get(name, {})
        for name, kind in {**MECHANISMS, **MIXERS}.items()
        if getattr(kind, 'can_be_causal', True)
    }


# --- data ---


def load_data(args):
    """The number of different characters, and ids to train on and to score."""
    tokenizer, train, _, test = characters.read_text(args, least=20)
    return len(tokenizer.tokens), train, test


# --- model ---


def build_model(args, vocab_size, name):
    config = characters.model_config(args, vocab_size, max(args.lengths))
    # All but the gated unit know the order by themselves.
    own = {'position': 'none'} if name in MIXERS and name != 'gau' else {}
    model = characters.build_model(
        config, attention=name, attention_options=choices()[name], **own
    ).model
    characters.compile_model(model, args, args.learning_rate)
    return model


# --- train and evaluate ---


def train(model, pieces, steps, rate, seconds):
    """Seconds of each step, by the clock and of the processor."""
    times, begun = [], time.process_time()
    for step in range(steps):
        if step > 4 and time.process_time() - begun > seconds:
            break
        share = min(1, (step + 1) / (0.1 * steps)) * min(1, 2 * (1 - step / steps))
        model.optimizer.learning_rate = rate * share
        begin = time.perf_counter(), time.process_time()
        model.train_on_batch(*next(pieces))
        times.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return times


def most_memory():
    """The most bytes of the computer's memory that this process has held so far."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size * (1 if sys.platform == 'darwin' else 1024)


def guess_memory(name, row, length, size):
    """MiB that a length would take, by those of the length before."""
    before = [int(key) for key in row if key.isdigit()]
    if not before:
        return 0
    cell, shorter = row[str(before[-1])], before[-1]
    scores = name == 'gau' or getattr(MECHANISMS.get(name), 'forms_scores', False)
    growth = (length / shorter) ** (2 if scores else 1)
    return cell['memory'] * growth * size / cell['size']


def measure(args, name):
    """One row of the table, a dict for each length."""
    keras.utils.set_random_seed(args.seed)
    vocab_size, ids, test = load_data(args)
    model = build_model(args, vocab_size, name)
    before, row = most_memory(), {'weights': model.count_params()}
    for length, steps in zip(args.lengths, args.steps, strict=True):
        begin = time.monotonic()
        size = max(1, args.batch_size * args.lengths[0] // length)
        pieces = random_pieces(ids, length, size, args.seed)
        steps = round(args.epochs * steps)
        if guess_memory(name, row, length, size) > 1024 * args.memory:
            break
        times = train(model, pieces, steps, args.learning_rate, args.seconds)
        cell = {'memory': (most_memory() - before) / 2**20, 'steps': len(times)}
        cell['wanted'], cell['size'] = steps, size
        times = np.array(times[2:] or [(0, 0)])  # the first ones compile
        rows = following_pieces(test, length, max(1, args.test_size // length))
        cell['loss'], cell['accuracy'] = characters.measure(model, *rows)
        cell['ms'], cell['ms of processor'] = (1000 * np.median(times, 0)).tolist()
        cell['seconds'] = time.monotonic() - begin
        row[str(length)] = cell
    return row


def apart(args, name):
    """`measure` in a process of its own, of which alone the memory is known."""
    with ProcessPoolExecutor(1, get_context('spawn')) as pool:
        try:
            return pool.submit(measure, args, name).result()
        except BrokenProcessPool:
            return {'failed': 'the process was killed, likely for its memory'}
        except (ValueError, MemoryError, RuntimeError) as error:
            return {'failed': str(error).split('\n')[0]}


def print_table(rows, length):
    print(f'\nlength {length}:\n')
    print('| attention | nats | guessed, % | ms | ms of processor | ratio | peak MiB |')
    print('|---|---|---|---|---|---|---|')
    cells = {name: row[length] for name, row in rows.items() if length in row}
    base = cells.get('softmax', {}).get('ms of processor')
    for name, cell in sorted(cells.items(), key=lambda item: item[1]['loss']):
        fewer = f', {cell["steps"]} steps' if cell['steps'] < cell['wanted'] else ''
        times = cell['ms of processor']
        share = f'{times / base:.2f}' if base else '–'
        print(
            f'| {name}{fewer} | {cell["loss"]:.3f} | {100 * cell["accuracy"]:.2f} | '
            f'{cell["ms"]:.0f} | {times:.0f} | {share} | {cell["memory"]:.0f} |'
        )
    if len(cells) < len(rows):
        print(f'\nnot there: {", ".join(name for name in rows if name not in cells)}')


def main(args, folder):
    names = experiment.choose('--attentions', args.attentions, choices())
    if not args.data:
        print(experiment.SYNTHETIC)
    about = {name: getattr(args, name) for name in ABOUT}
    rows = experiment.Rows(folder / 'rows.json', about)
    make = partial(apart if args.data else measure, args)
    for i, (name, row) in enumerate(rows.fill(names, make)):
        cells = [row.get(str(length), {}) for length in args.lengths]
        shown = ', '.join(f'{x["loss"]:.3f}' for x in cells if x)
        print(f'{i + 1}/{len(names)} {name}: {row.get("failed", shown)}', flush=True)
    for length in args.lengths:
        print_table(rows, str(length))
    print('\nms: median of a training step; ratio: of processor time, to softmax')
    print('peak MiB: grown since the model stood')
    last = str(args.lengths[-1])
    accuracies = [row[last]['accuracy'] for row in rows.values() if last in row]
    experiment.print_score('accuracy', max(accuracies, default=0.0))


if __name__ == '__main__':
    experiment.run(main, settings)
