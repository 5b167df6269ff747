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

import argparse
import json
import os
import sys
import tempfile
import zlib
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow's news of GPUs

import keras
import numpy as np

from keraseff.callbacks import Evaluator
from keraseff.data import atomic_write
from keraseff.data import following_pieces
from keraseff.data import hold_out
from keraseff.data import load_texts
from keraseff.data import random_pieces
from keraseff.data.builtin import synthetic_texts
from keraseff.models import build_transformer_model
from keraseff.tokenizers.per_character import CharacterTokenizer

# --- settings ---


def at_least(least):
    def number(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f'{text!r} is no number from {least} on')
        return int(text)

    return number


parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
option = parser.add_argument
option('--data', help='a text, or a directory of them, of which each tenth is held out')
option('--epochs', type=at_least(0), help='passes over the text (2; bare 5)')
option('--batch-size', type=at_least(1), help='pieces (8; bare 16)')
option('--learning-rate', type=float, help='at its highest (2e-3; bare 6e-3)')
option('--train-length', type=at_least(8), help='characters (64; bare 32)')
option('--factor', type=at_least(1), default=8, help='times longer read (%(default)s)')
option('--repeats', type=float, default=0.5, help='share of pieces that repeat a part')
option('--positions', help='rows of the table, with commas; all with --data')
option('--layers', type=at_least(1), help='of the model (3; bare 2)')
option('--units', type=at_least(32), help='of the model, in 32s (128; bare 64)')
option('--test-rows', type=at_least(1), default=64, help='long pieces (%(default)s)')
option('--limit', type=at_least(1), help='use only the first so many texts')
option('--dtype', default='float32', help='of the training, as mixed_bfloat16')
option('--seed', type=int, default=0, help='of all that is random (%(default)s)')
option('--output', help='directory to keep, and continue from')
ROWS = 'RoPE,PI,NTK-mixed,YaRN,ReRoPE,ReRoPE-logn†'
SIZES = {  # with --data, and bare
    'epochs': (2, 5),
    'batch_size': (8, 16),
    'learning_rate': (2e-3, 6e-3),
    'train_length': (64, 32),
    'layers': (3, 2),
    'units': (128, 64),
    'positions': (None, ROWS),
}


def settings(words=None):
    args = parser.parse_args(words)
    for name, (real, bare) in SIZES.items():
        if getattr(args, name) is None:
            setattr(args, name, real if args.data else bare)
    return args


# --- data ---


def load_data(args):
    """The tokenizer, and three lists of ids: to train on, to watch, to score."""
    if not args.data:
        print('data: synthetic (templates, and names of the jieba dictionary)')
    texts = load_texts(args.data) if args.data else synthetic_texts(seed=args.seed)
    parts = hold_out(texts[: args.limit])
    tokenizer = CharacterTokenizer.from_texts(parts[:1], least=5)
    ids = [np.array(tokenizer.tokens_to_ids(text.lower())) for text in parts]
    print(
        f'{len(ids[0])} characters to train on, {len(ids[2])} to score, '
        f'{len(tokenizer.tokens)} different ones'
    )
    long = args.train_length * args.factor
    if min(len(part) for part in ids) <= long:
        raise ValueError(f'too little text: {long + 1} characters are needed to score')
    return tokenizer, *ids


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
    config = {
        'vocab_size': len(tokenizer.tokens),
        'hidden_size': args.units,
        'num_hidden_layers': args.layers,
        'num_attention_heads': max(1, args.units // 32),
        'intermediate_size': args.units * 8 // 3,
        'max_position': args.train_length,
        'tie_word_embeddings': True,
    }
    return build_transformer_model(
        config, model='llama', with_lm='linear', **options, **keywords
    )


# --- train and evaluate ---


def train(args, tokenizer, ids, watched, name, folder):
    """The weights of a model trained on short pieces, as a list of arrays."""
    model = build_model(args, tokenizer, TRAINED[name], dtype=args.dtype)
    epoch = max(1, len(ids) // (args.batch_size * args.train_length))
    steps = max(2, args.epochs * epoch)
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps - warm_up,
        0.02,
        warmup_target=args.learning_rate,
        warmup_steps=warm_up,
    )
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=0.05, beta_2=0.98, global_clipnorm=1.0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    evaluator = Evaluator(lambda: accuracy(model, *watched), folder / name)
    done = evaluator.resume(model)
    print(f'{name}: {done} of {args.epochs} epochs are done')
    if done < args.epochs:
        model.fit(
            random_pieces(
                ids, args.train_length, args.batch_size, args.seed + done, args.repeats
            ),
            steps_per_epoch=epoch,
            initial_epoch=done,
            epochs=args.epochs,
            callbacks=[evaluator],
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    return model.get_weights()


def tests(ids, args):
    """The three columns: short pieces, each of them repeated, and long pieces."""
    long = following_pieces(ids, args.train_length * args.factor, args.test_rows)
    short = following_pieces(
        long[0].ravel(), args.train_length, args.test_rows * args.factor
    )
    repeated = np.tile(short[0][:: args.factor], args.factor + 1)
    repeated = repeated[:, : long[0].shape[1] + 1]
    return short, (repeated[:, :-1], repeated[:, 1:]), long


def accuracy(model, inputs, targets):
    """Share of the characters that are the model's first guess."""
    right, size = 0, max(1, 4096 // inputs.shape[1])
    for i in range(0, len(inputs), size):
        scores = model(inputs[i : i + size].astype('int32'), training=False)
        guesses = keras.ops.convert_to_numpy(keras.ops.argmax(scores, axis=-1))
        right += np.sum(guesses == targets[i : i + size])
    return float(right / targets.size)


def write_on(model, tokenizer, prompt, args, count=60):
    """Characters that the model sees coming, each of them one of the best five."""
    rng = np.random.default_rng(args.seed)
    ids = np.zeros((1, len(prompt) + count), 'int32')
    ids[0, : len(prompt)] = prompt
    for i in range(len(prompt), len(ids[0])):
        scores = keras.ops.convert_to_numpy(model(ids, training=False)[0, i - 1])
        best = 4 + np.argsort(scores[4:])[-5:]  # no special tokens
        chances = np.exp(scores[best] - scores[best[-1]])
        ids[0, i] = rng.choice(best, p=chances / chances.sum())
    return tokenizer.decode(ids[0, len(prompt) :])


def read_with(args, tokenizer, options, weights):
    """A model of trained weights, with other options."""
    model = build_model(args, tokenizer, options)
    model.trainable = False  # no gradients, which Torch would prepare
    model.set_weights(weights)
    return model


def choose(args):
    """The rows of the table that were asked for."""
    rows = variants(args.train_length, args.factor)
    names = args.positions.split(',') if args.positions else list(rows)
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise ValueError(f'--positions {unknown[0]} is none of: {", ".join(rows)}')
    return {name: rows[name] for name in names}


def check_continues(args, tokenizer, folder):
    """Refuse to continue what was begun otherwise, or on another text."""
    names = 'train_length', 'layers', 'units', 'repeats'
    about = {name: getattr(args, name) for name in names}
    about['text'] = zlib.crc32(''.join(tokenizer.tokens).encode())
    path = folder / 'model.json'
    if path.exists() and json.loads(path.read_text('utf-8')) != about:
        raise ValueError(f'{path} is not {about}; use another --output')
    with atomic_write(path) as file:
        json.dump(about, file)


def main(args, folder):
    rows = choose(args)
    tokenizer, ids, dev, test = load_data(args)
    folder.mkdir(parents=True, exist_ok=True)
    check_continues(args, tokenizer, folder)
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
        model = read_with(args, tokenizer, options, weights[name])
        results[row] = [accuracy(model, *column) for column in columns]
        cells = ' | '.join(f'{100 * score:.2f}' for score in results[row])
        print(f'| {row} | {cells} |', flush=True)
    best = max(results, key=lambda row: results[row][2])
    name, options = rows[best]
    model = read_with(args, tokenizer, options, weights[name])
    prompt = columns[0][0][0]
    print(f'\n{tokenizer.decode(prompt)}[{write_on(model, tokenizer, prompt, args)}]')
    print(f'the best on {long} characters, not repeated: {best}')
    print(f'accuracy {results[best][2]:.4f}')


if __name__ == '__main__':
    args = settings()
    keras.utils.set_random_seed(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            main(args, Path(args.output or scratch))
        except (ValueError, OSError) as error:
            sys.exit(str(error))
