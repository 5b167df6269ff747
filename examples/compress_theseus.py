"""A classifier of half the layers: by Theseus, by distillation, or just cut off.

A model is trained on the task; then its first layers, with the same head, are trained
for the same steps in three ways: alone; with the large model as their teacher; module
by module in its place (BERT-of-Theseus), and then alone.
https://arxiv.org/abs/2002.02925, https://kexue.fm/archives/7575  floor: 0.8
"""

import time
from functools import partial

import classification
import experiment
import keras
import numpy as np

from keraseff import training
from keraseff.data import atomic_write
from keraseff.training.truncation import layers_of

OF_SHIPPED = '--learning-rate', '5e-4', '--epochs', '3', '--replacing', '3'

# --- settings ---

parser = classification.parser(
    __doc__,
    real={
        'epochs': 5,
        'replacing': 10,
        'batch_size': 16,
        'maxlen': 128,
        'learning_rate': 5e-4,
        'units': 128,
        'layers': 6,
    },
    bare={
        'ways': 'predecessor,theseus',
        'epochs': 2,
        'replacing': 1,
        'batch_size': 32,
        'maxlen': 48,
        'learning_rate': 3e-3,
        'units': 64,
        'layers': 2,
    },
    pretrained={'learning_rate': 2e-5},
)
option, at_least = parser.add_argument, experiment.at_least
option('--layers', type=at_least(2), help='of the predecessor, if from scratch')
option('--successor', type=at_least(1), help='its layers (half of them)')
option('--epochs', type=at_least(0), help='of the predecessor, and of the last stage')
option('--replacing', type=at_least(0), help='epochs in which modules take turns')
option(
    '--schedule',
    choices=['linear', 'constant'],
    default='linear',
    help='of the rate of replacement: from 0.3 on, and 1 after 0.7 of the steps; or ½',
)
option('--ways', help='rows of the table, with commas; all with --data')


def settings(words=None):
    args = classification.settings(parser, words, OF_SHIPPED)
    if not args.epochs:
        args.replacing = 0
    return args


# --- data ---


def batches(args, data, model, seed):
    segments = classification.takes_segments(model)
    return classification.Batches(data.train, args, segments, seed).forfit()


# --- model ---


def build_predecessor(args, data):
    """The Transformer, its head, and the classifier of both."""
    transformer = classification.build_encoder(args, data, prefix='Predecessor-')
    head = classification.make_head(data.labels)
    return transformer, head, classification.add_head(transformer, head)


def build_successor(args, data, predecessor, head):
    """The first layers, and a head with the same numbers."""
    count = args.successor or layers_of(predecessor) // 2
    successor = training.truncate(predecessor, count)
    copy = classification.make_head(data.labels)
    model = classification.add_head(successor, copy)
    copy.set_weights(head.get_weights())
    return successor, model


# --- train and evaluate ---


def fit(model, epochs, args, data, folder, seed, callbacks=(), trick=None):
    """Compile, train, score."""
    steps = -(-len(data.train) // args.batch_size)
    classification.compile_model(model, args, epochs * steps)
    if trick:
        trick(model)
    rows = partial(batches, args, data, model)
    found = classification.train(
        model, rows, steps, epochs, seed, args, data, folder, callbacks
    )
    return found | classification.score(model, args, data) | cost(model, args)


def cost(model, args, repeats=20):
    """Weights, and milliseconds of the processor for a batch of 32 texts."""
    width, times = model.inputs[0].shape[1] or args.maxlen, []
    batch = [np.full((32, width), i == 0, 'int32') for i in range(len(model.inputs))]
    for _ in range(repeats):
        begun = time.process_time()
        model.predict_on_batch(batch if len(batch) > 1 else batch[0])
        times.append(1000 * (time.process_time() - begun))
    return {'weights': model.count_params(), 'batch': float(np.median(times[2:]))}


def train_predecessor(args, data, folder, seed, parts):
    row = fit(parts[2], args.epochs, args, data, folder / f'predecessor-{seed}', seed)
    parts[2].save_weights(folder / f'predecessor-{seed}.weights.h5')
    return row


def train_truncated(args, data, folder, seed, parts, trick=None, name='truncated'):
    _, model = build_successor(args, data, *parts[:2])
    before = classification.accuracy(model, data.test, args)
    epochs = args.replacing + args.epochs
    place = folder / f'{name}-{seed}'
    row = fit(model, epochs, args, data, place, seed, trick=trick)
    return row | {'before': before}


def train_distilled(args, data, folder, seed, parts):
    trick = partial(training.distill, teacher=parts[2])
    return train_truncated(args, data, folder, seed, parts, trick, 'distilled')


def train_theseus(args, data, folder, seed, parts):
    successor, _ = build_successor(args, data, *parts[:2])
    predecessor, head = parts[:2]
    head.trainable = False
    both = training.bert_of_theseus(
        predecessor, successor, partial(classification.classify, head), seed=seed
    )
    steps = args.replacing * -(-len(data.train) // args.batch_size)
    schedule = training.linear_replacement(0.3, 1 / max(1, steps))
    if args.schedule == 'constant':
        schedule = training.constant_replacement(until=None)
    rate = training.ReplacementScheduler(schedule)
    place = folder / f'replacing-{seed}'
    turns = fit(both, args.replacing, args, data, place, seed, [rate])
    small = training.extract_successor(both)
    row = fit(small, args.epochs, args, data, folder / f'theseus-{seed}', seed)
    row['seconds'] += turns['seconds']
    return row | {'before': turns['test']}


WAYS = {
    'predecessor': train_predecessor,
    'truncated': train_truncated,
    'distilled': train_distilled,
    'theseus': train_theseus,
}


def measure(args, data, folder, name):
    """A row of the table."""
    way, seed = name.split()
    print(f'{way}, seed {seed}:')
    keras.backend.clear_session()
    keras.utils.set_random_seed(int(seed))
    parts = build_predecessor(args, data)
    if way != 'predecessor':
        weights = folder / f'predecessor-{seed}.weights.h5'
        if not weights.exists():
            raise ValueError(f'{weights} is missing: begin --ways with predecessor')
        parts[2].load_weights(weights)
    return WAYS[way](args, data, folder, int(seed), parts)


def table(rows, seeds):
    """Mean ± standard deviation for each way."""
    lines = [
        '| training | test | before the last stage | weights | ms a batch | of '
        'predecessor | minutes |',
        '|---|---|---|---|---|---|---|',
    ]
    for way in WAYS:
        found = {s: rows[f'{way} {s}'] for s in seeds if f'{way} {s}' in rows}
        if not found:
            continue
        each = list(found.values())
        test = classification.spread([row['test'] for row in each])
        before = [row['before'] for row in each if 'before' in row]
        before = classification.spread(before) if before else ''
        large = [rows[f'predecessor {s}']['batch'] for s in found]
        small = [row['batch'] for row in each]
        ratio = classification.spread(np.divide(small, large), scale=1)
        minutes = sum(row['seconds'] for row in each) / len(each) / 60
        lines.append(
            f'| {way} | {test} | {before} | {each[0]["weights"]:,} | '
            f'{np.mean(small):.0f} | {ratio} | {minutes:.1f} |'
        )
    return lines


def main(args, folder):
    ways = experiment.choose('--ways', args.ways, WAYS)
    data = classification.load_data(args, folder)
    about = classification.about(args, data, 'replacing', 'successor', 'schedule')
    rows = experiment.Rows(folder / 'rows.json', about)
    names = [f'{way} {seed}' for seed in args.seeds for way in WAYS if way in ways]
    done = {}
    for name, row in rows.fill(names, partial(measure, args, data, folder)):
        done[name] = row
        print(f'{name}: test {100 * row["test"]:.2f}')
        classification.show(row)
    lines = table(rows, args.seeds)
    with atomic_write(folder / 'table.md') as file:
        file.write('\n'.join(lines) + '\n')
    print('', *lines, '', sep='\n')
    last = [row['test'] for name, row in done.items() if name.startswith([*ways][-1])]
    where = 'test' if args.data else 'the synthetic texts'
    print(f'accuracy on {where}, of {[*ways][-1]}:')
    experiment.print_score('accuracy', sum(last) / len(last))


if __name__ == '__main__':
    experiment.run(main, settings)
