"""What was said long ago: S4, S4D and LRU beside softmax attention of equal size.

`--task copy`: random symbols, a long silence, and they must be said again.  `--task
digits`: scikit-learn's handwritten digits, read pixel by pixel, each pixel enlarged to
2 × 2 for `--length 256`; which digit was it?
https://arxiv.org/abs/2111.00396, https://arxiv.org/abs/2303.06349  floor: 0.5
"""

import math
import time
from functools import partial

import experiment
import keras
import numpy as np
from keras import ops

from keraseff.callbacks import Evaluator
from keraseff.data import atomic_write
from keraseff.models import build_transformer_model

MIXERS = 's4', 's4d', 'lru', 'softmax'
SYMBOLS, SAID = 16, 8  # different ones, and how many of them are to be copied
SILENCE, NOW = SYMBOLS, SYMBOLS + 1

# --- settings ---

parser = experiment.Parser(__doc__, data=None)
option = parser.add_argument
option('--task', choices=['copy', 'digits'], default='copy', help='what is learnt')
option(
    '--mixer', help=f'with commas, of {", ".join(MIXERS)}; or all; bare, lru,softmax'
)
option('--length', type=int, help='steps of a sequence; 64, bare 40')
option('--epochs', type=int, help='of 64 batches (copy; 8, bare 1) or all digits (30)')
option('--batch-size', type=int, default=32, help='sequences')
option('--learning-rate', type=float, default=4e-3, help='at its highest')
option('--layers', type=int, default=2, help='of the models')
option('--units', type=int, default=64, help='width of the models')
option('--state-size', type=int, help='of S4 and S4D per channel (64), of LRU (units)')
option('--limit', type=int, help='score only the first so many sequences')


def settings(words=None):
    args = parser.parse_args(words)
    args.bare = args.mixer is None and args.length is None and args.task == 'copy'
    args.mixer = args.mixer or 'lru,softmax'
    args.length = args.length or (40 if args.bare else 64)
    if args.epochs is None:
        args.epochs = 30 if args.task == 'digits' else 1 if args.bare else 8
    args.mixers = list(MIXERS) if args.mixer == 'all' else args.mixer.split(',')
    unknown = set(args.mixers) - set(MIXERS)
    if unknown:
        parser.error(f'--mixer {unknown.pop()} is none of {", ".join(MIXERS)}, all')
    side = math.isqrt(args.length)
    if args.task == 'digits' and (side**2 != args.length or side < 8):
        parser.error('--length must be a square, from 64 on, for --task digits')
    if args.task == 'copy' and args.length < 2 * SAID:
        parser.error(f'--length must be at least {2 * SAID} for --task copy')
    return args


# --- data ---


def copies(count, length, rng):
    """Sequences that say, are silent, and are asked; targets -1 before that."""
    said = rng.integers(SYMBOLS, size=(count, SAID))
    silence = np.full((count, length - 2 * SAID), SILENCE)
    inputs = np.concatenate([said, silence, np.full((count, SAID), NOW)], axis=1)
    targets = np.full(inputs.shape, -1)
    targets[:, -SAID:] = said
    return inputs.astype('int32'), targets.astype('int32')


def digits(length, seed):
    """Grey levels 0 to 16 row by row, and the digit at the last step."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rows = np.arange(math.isqrt(length)) * 8 // math.isqrt(length)
    images = images.reshape(-1, 8, 8)[:, rows][:, :, rows].reshape(-1, length)
    targets = np.full(images.shape, -1)
    targets[:, -1] = labels
    order = np.random.default_rng(seed).permutation(len(images))
    parts = order[:1297], order[1297:1397], order[1397:]
    return [(images[i].astype('int32'), targets[i].astype('int32')) for i in parts]


def load_data(args):
    """Sequences to train on, or None for new ones in each batch; to watch; to score."""
    if args.task == 'digits':
        print(
            'data: scikit-learn digits, 1,297 to train on, 100 to watch, 400 to score'
        )
        return digits(args.length, args.seed)
    print(f'data: synthetic, {SAID} symbols of {SYMBOLS}, {args.length} steps')
    rng = np.random.default_rng(args.seed + 10**6)
    return None, copies(100, args.length, rng), copies(400, args.length, rng)


def batches(data, args, seed):
    """(inputs, targets) without end."""
    rng = np.random.default_rng(seed)
    while data is None:
        yield copies(args.batch_size, args.length, rng)
    while True:
        order = rng.permutation(len(data[0]))
        for i in range(0, len(order) - args.batch_size + 1, args.batch_size):
            chosen = order[i : i + args.batch_size]
            yield data[0][chosen], data[1][chosen]


# --- model ---


def build_model(args, mixer, feed_forward=None):
    config = {
        'vocab_size': max(NOW, SYMBOLS) + 1,
        'hidden_size': args.units,
        'num_hidden_layers': args.layers,
        'num_attention_heads': max(1, args.units // 32),
        'intermediate_size': feed_forward or 2 * args.units,
        'max_position': args.length,
    }
    options = {}
    if mixer != 'softmax':
        options['attention'] = mixer
        if args.state_size:
            options['attention_options'] = {'state_size': args.state_size}
    return build_transformer_model(config, model='llama', with_lm='linear', **options)


def build_equal(args, mixer):
    """The model whose feed-forward networks make it as large as softmax attention's."""
    wanted = build_model(args, 'softmax').count_params()
    size = 2 * args.units
    spare = wanted - build_model(args, mixer).count_params()
    return build_model(
        args, mixer, max(8, size + spare // (3 * args.units * args.layers))
    )


# --- train and evaluate ---


def loss(targets, scores):
    """Cross-entropy where there is a target."""
    asked = ops.cast(targets >= 0, 'float32')
    each = ops.sparse_categorical_crossentropy(
        ops.maximum(targets, 0), ops.cast(scores, 'float32'), from_logits=True
    )
    return ops.sum(each * asked) / ops.sum(asked)


def accuracy(model, inputs, targets):
    """Share of the targets that are the model's first guess."""
    guesses = model.predict(inputs, batch_size=64, verbose=0).argmax(axis=-1)
    return float(np.mean((guesses == targets)[targets >= 0]))


def train(args, mixer, data, watched, folder):
    """The model of its best epoch, and the milliseconds of a step."""
    model = build_equal(args, mixer)
    steps = 64 if data is None else len(data[0]) // args.batch_size
    rate = experiment.warm_cosine(args.learning_rate, args.epochs * steps)
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0)
    model.compile(optimizer, loss, jit_compile=experiment.compiler(args))
    name = f'{args.task}{args.length}-{mixer}-{args.layers}x{args.units}-{args.seed}'
    evaluator = Evaluator(lambda: accuracy(model, *watched), folder / name)
    clock = Clock()
    experiment.fit(model, partial(batches, data, args), steps, args, evaluator, [clock])
    evaluator.load_best(model)
    return model, clock.milliseconds()


class Clock(keras.callbacks.Callback):
    """The time of a step, in the fastest epoch: the first one compiles."""

    def __init__(self):
        super().__init__()
        self.times = []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.times.append((time.perf_counter() - self.begun) / self.params['steps'])

    def milliseconds(self):
        return 1000 * min(self.times, default=float('nan'))


def show(model, inputs, targets, task):
    """A few sequences as a person reads them."""
    guesses = model.predict(inputs[:3], verbose=0).argmax(axis=-1)
    for said, target, guess in zip(inputs[:3], targets[:3], guesses, strict=True):
        wanted, got = target[target >= 0], guess[target >= 0]
        if task == 'copy':
            wanted, got = (''.join(chr(97 + i) for i in x) for x in (wanted, got))
            print(f'{wanted} … {len(said) - 2 * SAID} steps of silence … {got}')
        else:
            print(f'a {wanted[0]}, read as {got[0]}')


def main(args, folder):
    data, watched, scored = load_data(args)
    scored = [part[: args.limit] for part in scored]
    chance = 1 / SYMBOLS if args.task == 'copy' else 0.1
    lines = [
        f'| {args.task}, {args.length} steps | weights | accuracy | ms a step |',
        '|---|---|---|---|',
    ]
    first = None
    for mixer in args.mixers:
        keras.utils.set_random_seed(args.seed)
        model, time_of_step = train(args, mixer, data, watched, folder)
        score = accuracy(model, *scored)
        first = score if first is None else first
        size = f'{model.count_params():,}'
        lines.append(f'| {mixer} | {size} | {100 * score:.2f} | {time_of_step:.0f} |')
        show(model, *scored, args.task)
    lines.append(f'| chance | | {100 * chance:.2f} | |')
    with atomic_write(folder / f'{args.task}{args.length}.md') as file:
        file.write('\n'.join(lines) + '\n')
    print('', *lines, '', sep='\n')
    print(f'of {args.mixers[0]}:')
    experiment.print_score('accuracy', first)


if __name__ == '__main__':
    experiment.run(main, settings)
