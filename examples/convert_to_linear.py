"""A model trained with softmax attention is given attention of linear cost.

A character language model is trained and kept as a checkpoint, which
`build_transformer_model(config, checkpoint, attention='performer')` opens with other
attention; a brief fine-tuning then mends what that breaks.
https://arxiv.org/abs/2103.13076  floor: 0.3
"""

import json
import time
import warnings
from functools import partial
from pathlib import Path

import characters
import experiment
import keras
import numpy as np

from keraseff.callbacks import Evaluator
from keraseff.data import following_pieces
from keraseff.data import random_pieces
from keraseff.layers.attention import fit_codebook

CONFIG, WEIGHTS, TOKENS = 'config.json', 'model.safetensors', 'tokens.json'
ABOUT = 'epochs', 'share', 'batch_size', 'length', 'fine_tuning_rate', 'test_rows'
ABOUT += 'seed', 'checkpoint'

# --- settings ---

at_least = experiment.at_least
parser = experiment.Parser(
    __doc__,
    real={
        'epochs': 2,
        'batch_size': 4,
        'length': 256,
        'learning_rate': 3e-3,
        'layers': 3,
        'units': 128,
        'attentions': 'softmax,performer,performer-512,vq,linear,linear-taylor',
    },
    bare={
        'epochs': 3,
        'batch_size': 16,
        'length': 64,
        'learning_rate': 1e-2,
        'layers': 1,
        'units': 64,
        'attentions': 'performer,vq',
    },
)
option = parser.add_argument
option('--checkpoint', help='the softmax model: a directory that --output made')
option('--attentions', help='rows of the table, with commas')
option('--epochs', type=at_least(0), help='of the softmax model')
option('--share', type=float, default=0.05, help='of it for fine-tuning')
option('--length', type=at_least(8), help='characters of a piece')
option('--learning-rate', type=float, help='at its highest')
option('--fine-tuning-rate', type=float, default=1e-3, help='at its highest')
option('--layers', type=at_least(1), help='of the model')
option('--units', type=at_least(1), help='of the model')
option('--test-rows', type=at_least(1), default=64, help='pieces to score')


def choices(length):
    """{row of the table: options of `build_transformer_model`}."""

    def attention(name, **options):
        return {'attention': name, 'attention_options': options}

    chunk = min(128, length // 4)
    return {
        'softmax': {},
        'performer': attention('performer', num_features=128, chunk=chunk, seed=0),
        'performer-512': attention('performer', num_features=512, chunk=chunk, seed=0),
        'vq': attention('vq', codes=length // 2, block=length // 8),
        'linear': attention('linear', chunk=chunk),
        'linear-taylor': attention('linear', feature_map='taylor', chunk=chunk),
    }


# --- data ---


def load_data(args):
    """The tokenizer, and three lists of ids: to train on, to watch, to score."""
    tokens = None
    if args.checkpoint:
        tokens = json.loads((Path(args.checkpoint) / TOKENS).read_text('utf-8'))
    return characters.load_text(args, tokens=tokens)


def pieces(args, ids, seed):
    return random_pieces(ids, args.length, args.batch_size, seed, 0.25)


# --- train and evaluate ---


def measure(model, test):
    """Nats per character, and the share of characters guessed."""
    return characters.measure(model, *test, size=2048)


def epoch_steps(args, ids):
    return max(1, len(ids) // (args.batch_size * args.length))


def train_softmax(args, tokenizer, ids, watched, folder):
    """Train the model to be converted, and keep it as a checkpoint in `folder`."""
    config = characters.model_config(args, len(tokenizer.tokens), args.length)
    transformer = characters.build_model(config)
    model, steps = transformer.model, epoch_steps(args, ids)
    rate = experiment.warm_cosine(args.learning_rate, args.epochs * steps, last=0.05)
    characters.compile_model(model, args, rate)
    evaluator = Evaluator(lambda: -measure(model, watched)[0], folder / 'softmax')
    experiment.fit(model, partial(pieces, args, ids), steps, args, evaluator)
    transformer.save_weights_as_checkpoint(folder / WEIGHTS)
    experiment.write_json(folder / CONFIG, config)
    experiment.write_json(folder / TOKENS, tokenizer.tokens)


def fine_tune(model, args, ids):
    """The same few steps for every row; returns their number."""
    steps = int(args.share * args.epochs * epoch_steps(args, ids))
    for variable in model.optimizer.variables:  # a new optimizer would compile anew
        variable.assign(np.zeros(variable.shape, variable.dtype))
    if steps:
        batches = pieces(args, ids, args.seed + 100)
        model.fit(batches, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
    return steps


def convert(args, checkpoint, options, ids, test, tokenizer):
    """One row of the table: a model from nothing, and the same with trained weights."""
    begin = time.monotonic()
    keras.utils.set_random_seed(args.seed)
    transformer = characters.build_model(checkpoint, **options)
    model = transformer.model
    rate = keras.optimizers.schedules.CosineDecay(
        args.fine_tuning_rate,
        max(1, int(args.share * args.epochs * epoch_steps(args, ids))),
        0.1,
    )
    characters.compile_model(model, args, rate)
    model.optimizer.build(model.trainable_variables)
    row = {'nothing': measure(model, test)}
    row['steps'] = fine_tune(model, args, ids)
    row['nothing, trained'] = measure(model, test)
    with warnings.catch_warnings():  # no file has random features, or codes
        warnings.simplefilter('ignore')
        transformer.load_weights_from_checkpoint(str(checkpoint / WEIGHTS))
    if options.get('attention') == 'vq':
        fit_codebook(model, following_pieces(ids, args.length, 64)[0])
    row['converted'] = measure(model, test)
    fine_tune(model, args, ids)
    row['fine-tuned'] = measure(model, test)
    state = transformer.start(1, 4096)
    row['kept'] = sum(int(np.prod(x.shape)) for x in keras.tree.flatten(state))
    prompt = test[0][0][: args.length // 8]
    row['text'] = characters.write_on(
        transformer, tokenizer, prompt, args.length // 4, args.seed
    )
    row['minutes'] = (time.monotonic() - begin) / 60
    return row


def print_table(rows, trained):
    print(f'\nnats a character (share guessed, %); softmax: {cell(trained)}\n')
    names = 'attention', 'converted', 'fine-tuned', 'from nothing', 'trained'
    print(f'| {" | ".join(names)} | kept | minutes |')
    print('|---|---|---|---|---|---|---|')
    for name, row in rows.items():
        names = 'converted', 'fine-tuned', 'nothing', 'nothing, trained'
        cells = ' | '.join(cell(row[name]) for name in names)
        print(f'| {name} | {cells} | {row["kept"]} | {row["minutes"]:.1f} |')
    print('\nkept: numbers in memory while it writes 4096 characters')
    print(f'trained: the same {row["steps"]} steps as those of fine-tuning')


def cell(scores):
    return f'{scores[0]:.3f} ({100 * scores[1]:.1f})'


def main(args, folder):
    options = experiment.choose('--attentions', args.attentions, choices(args.length))
    tokenizer, ids, dev, test = load_data(args)
    test = following_pieces(test, args.length, args.test_rows)
    checkpoint = Path(args.checkpoint or folder)
    if not args.checkpoint:
        watched = following_pieces(dev, args.length, 32)
        train_softmax(args, tokenizer, ids, watched, folder)
    softmax = characters.build_model(checkpoint, checkpoint / WEIGHTS).model
    trained = measure(softmax, test)
    about = {name: getattr(args, name) for name in ABOUT}
    about['text'] = characters.text_sum(tokenizer)
    rows = experiment.Rows(folder / 'rows.json', about)

    def make(name):
        return convert(args, checkpoint, options[name], ids, test, tokenizer)

    for name, row in rows.fill(options, make):
        print(f'{name}: {cell(row["converted"])} -> {cell(row["fine-tuned"])}')
    print_table(rows, trained)
    print('\nwritten one character at a time, in memory that does not grow, after')
    print(tokenizer.decode(test[0][0][: args.length // 8]))
    for name, row in rows.items():
        print(f'{name}: {row["text"]}')
    best = max(row['fine-tuned'][1] for row in rows.values())
    experiment.print_score('accuracy', best)


if __name__ == '__main__':
    experiment.run(main, parser.parse_args)
