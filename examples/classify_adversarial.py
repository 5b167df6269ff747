"""Text classification trained plainly, with FGM, a gradient penalty, VAT and R-Drop.

The same model, texts, order and steps for each, over several seeds.  `--labelled 200`
trains on so few labels; VAT learns from the other texts too.  How far embeddings move
is told in norms of an embedding, 1.0 in the shipped model and 0.3 in one from scratch,
so that a strength fits both.  https://kexue.fm/archives/7234
https://arxiv.org/abs/1704.03976, https://arxiv.org/abs/2106.14448  floor: 0.8
"""

from functools import partial

import classification
import experiment
import keras
import numpy as np

from keraseff import training
from keraseff.data import atomic_write

TRICKS = {
    'plain': lambda model, args, norm: model,
    'fgm': lambda model, args, norm: training.adversarial_training(
        model, epsilon=args.epsilon * norm
    ),
    'penalty': lambda model, args, norm: training.gradient_penalty(
        model, epsilon=args.penalty * norm**2
    ),
    'vat': lambda model, args, norm: training.virtual_adversarial_training(
        model, epsilon=args.vat_epsilon * norm, xi=10 * norm
    ),
    'r-drop': lambda model, args, norm: training.r_drop(model, alpha=args.r_drop),
}

STRENGTHS = 'epsilon', 'penalty', 'vat_epsilon', 'r_drop'
OF_SHIPPED = '--learning-rate', '1e-3', '--epochs', '3', '--maxlen', '64'

# --- settings ---

parser = classification.parser(
    __doc__,
    real={
        'epochs': 5,
        'batch_size': 16,
        'maxlen': 128,
        'learning_rate': 5e-4,
        'units': 128,
        'layers': 4,
    },
    bare={
        'tricks': 'plain,fgm',
        'epochs': 3,
        'batch_size': 32,
        'maxlen': 48,
        'learning_rate': 3e-3,
        'units': 64,
        'layers': 1,
    },
    pretrained={'learning_rate': 2e-5},
)
option = parser.add_argument
option('--tricks', help=f'with commas, of {", ".join(TRICKS)}; all with --data')
strength = partial(option, type=float)
strength('--epsilon', default=0.1, help='FGM moves embeddings by so many norms of one')
strength('--penalty', default=0.3, help='½ of it × ‖∇loss‖² for embeddings of norm 1')
strength('--vat-epsilon', default=0.2, help='VAT moves them by so many norms of one')
strength('--r-drop', default=4.0, help='weight of the divergence of two dropouts')
option(
    '--labelled',
    type=experiment.at_least(2),
    help='train on so many labels; to VAT the other texts are unlabelled ones',
)


def settings(words=None):
    return classification.settings(parser, words, OF_SHIPPED)


# --- data ---


def batches(args, data, segments, joined, seed):
    """Batches without end, joined with unlabelled rows where the trick takes those."""
    count = args.labelled or len(data.train)
    make = partial(classification.Batches, args=args, segments=segments, seed=seed)
    labelled = make(data.train[:count]).forfit()
    if not joined:
        return labelled
    others = make(data.train[count:] or data.train).forfit()
    return training.join_unlabelled(labelled, (x for x, _ in others))


# --- model ---


def build_model(args, data, trick, steps):
    transformer = classification.build_encoder(args, data)
    head = classification.make_head(data.labels)
    model = classification.add_head(transformer, head)
    classification.compile_model(model, args, steps)
    return TRICKS[trick](model, args, mean_norm(transformer, data))


def mean_norm(transformer, data):
    """Of the token embeddings that the texts to train on look up."""
    matrix = transformer.layers['Embedding-Token'].embeddings
    norms = np.linalg.norm(keras.ops.convert_to_numpy(matrix), axis=1)
    return float(np.mean(norms[[i for ids, *_ in data.train for i in ids]]))


# --- train and evaluate ---


def measure(args, data, folder, name):
    """A training: what it reaches, and what it costs."""
    trick, seed = name.split()
    print(f'{trick}, seed {seed}:')
    keras.backend.clear_session()
    keras.utils.set_random_seed(int(seed))
    steps = -(-(args.labelled or len(data.train)) // args.batch_size)
    model = build_model(args, data, trick, args.epochs * steps)
    joined = trick == 'vat' and args.labelled
    rows = partial(
        batches, args, data, classification.takes_segments(model), bool(joined)
    )
    row = classification.train(
        model,
        rows,
        steps,
        args.epochs,
        int(seed),
        args,
        data,
        folder / f'{trick}-{seed}',
    )
    return row | classification.score(model, args, data)


def table(rows, seeds):
    """Mean ± standard deviation for each trick."""
    lines = [
        '| training | dev | test | step, of plain | minutes |',
        '|---|---|---|---|---|',
    ]
    names = dict.fromkeys(name.split()[0] for name in rows)
    for trick in sorted(names, key=[*TRICKS].index):
        found = [rows[f'{trick} {s}'] for s in seeds if f'{trick} {s}' in rows]
        ratios = [
            rows[f'{trick} {s}']['ms'] / rows[f'plain {s}']['ms']
            for s in seeds
            if rows.get(f'plain {s}', {}).get('ms') and f'{trick} {s}' in rows
        ]
        ratio = classification.spread(ratios, scale=1) if ratios else '–'
        minutes = sum(row['seconds'] for row in found) / len(found) / 60
        dev, test = (
            classification.spread([row[part] for row in found])
            for part in ('dev', 'test')
        )
        lines.append(f'| {trick} | {dev} | {test} | {ratio} | {minutes:.1f} |')
    return lines


def main(args, folder):
    tricks = experiment.choose('--tricks', args.tricks, TRICKS)
    data = classification.load_data(args, folder)
    about = classification.about(args, data, 'labelled', *STRENGTHS)
    rows = experiment.Rows(folder / 'rows.json', about)
    names = [f'{trick} {seed}' for seed in args.seeds for trick in tricks]
    done = {}
    for name, row in rows.fill(names, partial(measure, args, data, folder)):
        done[name] = row
        print(f'{name}: dev {100 * row["dev"]:.2f}, test {100 * row["test"]:.2f}')
        classification.show(row)
    lines = table(done, args.seeds)
    with atomic_write(folder / 'table.md') as file:
        file.write('\n'.join(lines) + '\n')
    print('', *lines, '', sep='\n')
    where = 'test' if args.data else 'the synthetic texts'
    print(f'accuracy on {where}, the mean of all {len(done)} trainings:')
    mean = sum(row['test'] for row in done.values()) / len(done)
    experiment.print_score('accuracy', mean)


if __name__ == '__main__':
    experiment.run(main, settings)
