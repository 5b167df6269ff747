"""Short texts in training, long ones in use: what each position makes of it.

A character language model is trained on pieces of `--train-length` characters, and then
reads `--factor` times as many with other positions but the same weights:
https://kexue.fm/archives/9708, https://arxiv.org/abs/2309.00071.  Bare, it learns a
synthetic text in a minute.  floor: 0.3

Next character guessed, % (--data novels --dtype mixed_bfloat16, seed 0, Torch; a
training takes 7 minutes of one core), trained on 64 characters:
                   64   512, repeated   512 |                64   repeated   512
  PI            14.65      14.80      14.46 | YaRN        20.24    50.13   20.02
  RoPE          21.02      18.41      16.16 | YaRN-logn   20.15    56.84   19.55
  NTK-mixed     20.34      26.14      18.45 | ReRoPE      21.14    43.56   21.89
  ALiBi         19.52      27.35      21.05 | ReRoPE-logn 21.06    56.17   22.12
Repeated text shows whether copying was learnt, and seeds differ in when it is: seed 1
has 42.17 for YaRN, 37.28 for ReRoPE, and 24.71 for ReRoPE-logn.
The synthetic text, bare, on TensorFlow, the best row: 0.49.
"""

import characters
import experiment
import numpy as np

from keraseff.callbacks import Evaluator
from keraseff.data import following_pieces
from keraseff.data import random_pieces

# --- settings ---

at_least = experiment.at_least
parser = experiment.Parser(
    __doc__,
    real={
        'epochs': 2,
        'batch_size': 8,
        'learning_rate': 2e-3,
        'train_length': 64,
        'layers': 3,
        'units': 128,
    },
    bare={
        'epochs': 5,
        'batch_size': 16,
        'learning_rate': 6e-3,
        'train_length': 32,
        'layers': 2,
        'units': 64,
        'positions': 'RoPE,PI,NTK-mixed,YaRN,ReRoPE,ReRoPE-logn†',
    },
)
option = parser.add_argument
option('--learning-rate', type=float, help='at its highest')
option('--train-length', type=at_least(8), help='characters')
option('--factor', type=at_least(1), default=8, help='times longer read')
option('--repeats', type=float, default=0.5, help='share of pieces that repeat a part')
option('--positions', help='rows of the table, with commas; all with --data')
option('--layers', type=at_least(1), help='of the model')
option('--units', type=at_least(32), help='of the model, in 32s')
option('--test-rows', type=at_least(1), default=64, help='long pieces')
option('--dtype', default='float32', help='of the training, as mixed_bfloat16')

# --- data ---


def load_data(args):
    """The tokenizer, and three lists of ids: to train on, to watch, to score."""
    tokenizer, *ids = characters.load_text(args, size=4000)
    long = args.train_length * args.factor
    if min(len(part) for part in ids) <= long:
        raise ValueError(f'too little text: {long + 1} characters are needed to score')
    return tokenizer, *ids


def tests(ids, args):
    """The three columns: short pieces, each of them repeated, and long pieces."""
    long = following_pieces(ids, args.train_length * args.factor, args.test_rows)
    short = following_pieces(
        long[0].ravel(), args.train_length, args.test_rows * args.factor
    )
    repeated = np.tile(short[0][:: args.factor], args.factor + 1)
    repeated = repeated[:, : long[0].shape[1] + 1]
    return short, (repeated[:, :-1], repeated[:, 1:]), long


# --- model ---

# Scores times log n from the 16th character on: https://kexue.fm/archives/9034
TRAINED = {'RoPE': {}, 'RoPE-logn': {'logn': 16}, 'ALiBi': {'position': 'alibi'}}


def variants(length, factor):
    """{row of the table: (which of TRAINED, options of the model that reads)}."""

    def position(name, **options):
        return {'position': name, 'position_options': options}

    half, quarter = length // 2, length // 4
    rules = {
        'RoPE': {},
        'PI': position('pi', factor=factor),
        'NTK-old': position('ntk', factor=factor),
        'NTK-fixed': position('ntk_fixed', factor=factor),
        'NTK-mixed': position('ntk_mixed', factor=factor),
        'YaRN': position('yarn', factor=factor),
        'ReRoPE-half': position('rerope', window=half),
        'ReRoPE': position('rerope', window=quarter),
        'Leaky-ReRoPE': position('rerope', window=quarter, leak=2 * factor),
    }
    rows = {}
    for name, options in rules.items():
        rows[name] = 'RoPE', options
        rows[f'{name}-logn†'] = 'RoPE', options | {'logn': length}
        rows[f'{name}-logn'] = 'RoPE-logn', options | TRAINED['RoPE-logn']
    rows['window'] = 'RoPE', {'window': length}
    rows['ALiBi'] = 'ALiBi', TRAINED['ALiBi']
    return rows


def build_model(args, tokenizer, options, **keywords):
    config = characters.model_config(args, len(tokenizer.tokens), args.train_length)
    return characters.build_model(config, **options, **keywords)


def read_with(args, tokenizer, options, weights):
    """A model of trained weights, with other options."""
    transformer = build_model(args, tokenizer, options)
    transformer.model.trainable = False  # no gradients, which Torch would prepare
    transformer.model.set_weights(weights)
    return transformer


# --- train and evaluate ---


def accuracy(model, inputs, targets):
    """Share of the characters that are the model's first guess."""
    return characters.measure(model, inputs, targets)[1]


def train(args, tokenizer, ids, watched, name, folder):
    """The weights of a model trained on short pieces, as a list of arrays."""
    print(f'{name}:')
    model = build_model(args, tokenizer, TRAINED[name], dtype=args.dtype).model
    steps = max(1, len(ids) // (args.batch_size * args.train_length))
    rate = experiment.warm_cosine(args.learning_rate, args.epochs * steps)
    characters.compile_model(model, args, rate)

    def batches(seed):
        length = args.train_length
        return random_pieces(ids, length, args.batch_size, seed, args.repeats)

    evaluator = Evaluator(lambda: accuracy(model, *watched), folder / name)
    experiment.fit(model, batches, steps, args, evaluator)
    return model.get_weights()


def about(args, tokenizer):
    """What has to be the same for a training to go on."""
    names = 'train_length', 'layers', 'units', 'repeats'
    same = {name: getattr(args, name) for name in names}
    return same | {'text': characters.text_sum(tokenizer)}


def main(args, folder):
    known = variants(args.train_length, args.factor)
    rows = experiment.choose('--positions', args.positions, known)
    tokenizer, ids, dev, test = load_data(args)
    experiment.begin(folder / 'model.json', about(args, tokenizer))
    weights = {}
    for name in dict.fromkeys(name for name, _ in rows.values()):
        watched = following_pieces(dev, args.train_length, 128)
        weights[name] = train(args, tokenizer, ids, watched, name, folder)
    columns = tests(test, args)
    short, long = args.train_length, args.train_length * args.factor
    print(f'\nnext character guessed, % (trained on {short} characters):\n')
    print(f'| | {short} | {long}, repeated | {long} |\n|---|---|---|---|')
    results = {}
    for row, (name, options) in rows.items():
        model = read_with(args, tokenizer, options, weights[name]).model
        results[row] = [accuracy(model, *column) for column in columns]
        cells = ' | '.join(f'{100 * score:.2f}' for score in results[row])
        print(f'| {row} | {cells} |', flush=True)
    best = max(results, key=lambda row: results[row][2])
    name, options = rows[best]
    model = read_with(args, tokenizer, options, weights[name])
    prompt = columns[0][0][0]
    written = characters.write_on(model, tokenizer, prompt, 60, args.seed)
    print(f'\n{tokenizer.decode(prompt)}[{written}]')
    print(f'the best on {long} characters, not repeated: {best}')
    experiment.print_score('accuracy', results[best][2])


if __name__ == '__main__':
    experiment.run(main, parser.parse_args)
