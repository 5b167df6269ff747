"""A model trained with softmax attention is given attention of linear cost.

A character language model is trained and kept as a checkpoint, which
`build_transformer_model(config, checkpoint, attention='performer')` opens with other
attention; a brief fine-tuning then mends what that breaks.
https://arxiv.org/abs/2103.13076  floor: 0.3
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow's news of GPUs

import keras
import numpy as np
from keras import ops

from keraseff.callbacks import Evaluator
from keraseff.data import atomic_write
from keraseff.data import following_pieces
from keraseff.data import hold_out
from keraseff.data import load_texts
from keraseff.data import random_pieces
from keraseff.data.builtin import synthetic_texts
from keraseff.layers.attention import fit_codebook
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
option('--checkpoint', help='the softmax model: a directory that --output made')
option('--attentions', help='rows of the table, with commas')
option(
    '--epochs',
    type=at_least(0),
    help='of the softmax model (2; 5 on the synthetic text)',
)
option('--share', type=float, default=0.05, help='of it for fine-tuning (%(default)s)')
option('--batch-size', type=at_least(1), help='pieces (4; 16 on the synthetic text)')
option('--length', type=at_least(8), help='characters of a piece (256; 64)')
option('--learning-rate', type=float, help='3e-3; 1e-2 on the synthetic text')
option('--fine-tuning-rate', type=float, default=1e-3, help='%(default)s')
option('--layers', type=at_least(1), help='3; 1 on the synthetic text')
option(
    '--units',
    type=at_least(1),
    help='width of the model; 128, 64 on the synthetic text',
)
option(
    '--test-rows', type=at_least(1), default=64, help='pieces to score (%(default)s)'
)
option('--limit', type=at_least(1), help='use only the first so many texts')
option('--seed', type=int, default=0, help='of all that is random (%(default)s)')
option('--output', help='directory to keep, and continue from')
BARE = {'epochs': 5, 'batch_size': 16, 'length': 64, 'layers': 1}
BARE |= {'units': 64, 'learning_rate': 1e-2, 'attentions': 'performer,vq'}
REAL = {'epochs': 2, 'batch_size': 4, 'length': 256, 'layers': 3}
REAL |= {'units': 128, 'learning_rate': 3e-3}
REAL |= {'attentions': 'softmax,performer,performer-512,vq,linear,linear-taylor'}
CONFIG = 'config.json'
WEIGHTS = 'model.safetensors'
TOKENS = 'tokens.json'
ROWS = 'rows.json'
ABOUT = 'epochs', 'share', 'batch_size', 'length', 'fine_tuning_rate', 'test_rows'
ABOUT += 'seed', 'checkpoint'


def settings(words=None):
    args = parser.parse_args(words)
    for name, value in (REAL if args.data else BARE).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


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
    if not args.data:
        print('data: synthetic (templates, and names of the jieba dictionary)')
    texts = load_texts(args.data) if args.data else synthetic_texts(2000, args.seed)
    train, *others = hold_out(texts[: args.limit])
    if args.checkpoint:
        tokens = (Path(args.checkpoint) / TOKENS).read_text('utf-8')
        tokenizer = CharacterTokenizer(json.loads(tokens))
    else:
        tokenizer = CharacterTokenizer.from_texts([train], least=5)
    ids = [np.array(tokenizer.tokens_to_ids(x.lower())) for x in (train, *others)]
    print(
        f'{len(ids[0])} characters to train on, {len(ids[2])} to score, '
        f'{len(tokenizer.tokens)} different ones'
    )
    return tokenizer, *ids


# --- model ---


def model_config(args, tokenizer):
    return {
        'model_type': 'llama',
        'vocab_size': len(tokenizer.tokens),
        'hidden_size': args.units,
        'num_hidden_layers': args.layers,
        'num_attention_heads': max(1, args.units // 32),
        'intermediate_size': args.units * 8 // 3,
        'max_position_embeddings': args.length,
        'tie_word_embeddings': True,
    }


def build_model(config, checkpoint=None, **options):
    """The Transformer, which also goes step by step; its `model` is what is trained."""
    return build_transformer_model(
        config, checkpoint, with_lm='linear', return_keras_model=False, **options
    )


def compile_model(model, args, rate):
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=0.05, beta_2=0.98, global_clipnorm=1.0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Under TensorFlow XLA compiles for longer than the synthetic text takes.
    slow = not args.data and keras.config.backend() == 'tensorflow'
    model.compile(optimizer, loss, jit_compile=False if slow else 'auto')


# --- train and evaluate ---


def measure(model, inputs, targets):
    """Nats per character, and the share of characters guessed."""
    loss, right, size = 0.0, 0, max(1, 2048 // inputs.shape[1])
    for i in range(0, len(inputs), size):
        wanted = targets[i : i + size]
        scores = model(inputs[i : i + size], training=False)
        each = ops.sparse_categorical_crossentropy(wanted, scores, from_logits=True)
        loss += float(ops.sum(each))
        guesses = ops.convert_to_numpy(ops.argmax(scores, axis=-1))
        right += int(np.sum(guesses == wanted))
    return loss / targets.size, right / targets.size


def epoch_steps(args, ids):
    return max(1, len(ids) // (args.batch_size * args.length))


def train_softmax(args, tokenizer, ids, watched, folder):
    """Train the model to be converted, and keep it as a checkpoint in `folder`."""
    config = model_config(args, tokenizer)
    transformer = build_model(config)
    model, epoch = transformer.model, epoch_steps(args, ids)
    steps = max(2, args.epochs * epoch)
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps - warm_up,
        0.05,
        warmup_target=args.learning_rate,
        warmup_steps=warm_up,
    )
    compile_model(model, args, rate)
    evaluator = Evaluator(lambda: -measure(model, *watched)[0], folder / 'softmax')
    done = evaluator.resume(model)
    print(f'softmax: {done} of {args.epochs} epochs are done')
    if done < args.epochs:
        model.fit(
            random_pieces(ids, args.length, args.batch_size, args.seed + done, 0.25),
            steps_per_epoch=epoch,
            initial_epoch=done,
            epochs=args.epochs,
            callbacks=[evaluator],
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    transformer.save_weights_as_checkpoint(folder / WEIGHTS)
    for name, what in {CONFIG: config, TOKENS: tokenizer.tokens}.items():
        with atomic_write(folder / name) as file:
            json.dump(what, file, ensure_ascii=False)


def fine_tune(model, args, ids):
    """The same few steps for every row; returns their number."""
    steps = int(args.share * args.epochs * epoch_steps(args, ids))
    for variable in model.optimizer.variables:  # a new optimizer would compile anew
        variable.assign(np.zeros(variable.shape, variable.dtype))
    if steps:
        pieces = random_pieces(ids, args.length, args.batch_size, args.seed + 100, 0.25)
        model.fit(pieces, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
    return steps


def convert(args, checkpoint, options, ids, test, tokenizer):
    """One row of the table: a model from nothing, and the same with trained weights."""
    begin = time.monotonic()
    keras.utils.set_random_seed(args.seed)
    transformer = build_model(checkpoint, **options)
    model = transformer.model
    rate = keras.optimizers.schedules.CosineDecay(
        args.fine_tuning_rate,
        max(1, int(args.share * args.epochs * epoch_steps(args, ids))),
        0.1,
    )
    compile_model(model, args, rate)
    model.optimizer.build(model.trainable_variables)
    row = {'nothing': measure(model, *test)}
    row['steps'] = fine_tune(model, args, ids)
    row['nothing, trained'] = measure(model, *test)
    with warnings.catch_warnings():  # no file has random features, or codes
        warnings.simplefilter('ignore')
        transformer.load_weights_from_checkpoint(str(checkpoint / WEIGHTS))
    if options.get('attention') == 'vq':
        fit_codebook(model, following_pieces(ids, args.length, 64)[0])
    row['converted'] = measure(model, *test)
    fine_tune(model, args, ids)
    row['fine-tuned'] = measure(model, *test)
    state = transformer.start(1, 4096)
    row['kept'] = sum(int(np.prod(x.shape)) for x in keras.tree.flatten(state))
    prompt = test[0][0][: args.length // 8]
    row['text'] = write_on(transformer, tokenizer, prompt, args.length // 4, args.seed)
    row['minutes'] = (time.monotonic() - begin) / 60
    return row


def write_on(transformer, tokenizer, prompt, count, seed):
    """Characters one step at a time, each of them one of the best five."""
    rng = np.random.default_rng(seed)
    state = transformer.start(1, len(prompt) + count)
    ids = list(prompt)
    for t in range(len(prompt) + count - 1):
        scores, state = transformer.step(np.array([[ids[t]]], 'int32'), t, state)
        if t + 1 == len(ids):
            scores = ops.convert_to_numpy(scores)[0, 0]
            best = 4 + np.argsort(scores[4:])[-5:]  # no special tokens
            chances = np.exp(scores[best] - scores[best[-1]])
            ids.append(rng.choice(best, p=chances / chances.sum()))
    return tokenizer.decode(ids[len(prompt) :]).replace('\n', '⏎')


def choose(args):
    """The rows of the table that were asked for."""
    rows = choices(args.length)
    names = args.attentions.split(',')
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise ValueError(f'--attentions {unknown[0]} is none of: {", ".join(rows)}')
    return {name: rows[name] for name in names}


def read_rows(path, about):
    """The rows that were made before; refuses those of another experiment."""
    if not path.exists():
        return {}
    kept = json.loads(path.read_text('utf-8'))
    if kept['about'] != about:
        raise ValueError(f'{path} is of {kept["about"]}; use another --output')
    return kept['rows']


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
    wanted = choose(args)
    tokenizer, ids, dev, test = load_data(args)
    folder.mkdir(parents=True, exist_ok=True)
    test = following_pieces(test, args.length, args.test_rows)
    checkpoint = Path(args.checkpoint or folder)
    if not args.checkpoint:
        watched = following_pieces(dev, args.length, 32)
        train_softmax(args, tokenizer, ids, watched, folder)
    trained = measure(build_model(checkpoint, checkpoint / WEIGHTS).model, *test)
    about = {name: getattr(args, name) for name in ABOUT}
    about['text'] = zlib.crc32(''.join(tokenizer.tokens).encode())
    rows = read_rows(folder / ROWS, about)
    for name, options in wanted.items():
        if name not in rows:
            rows[name] = convert(args, checkpoint, options, ids, test, tokenizer)
            with atomic_write(folder / ROWS) as file:
                json.dump({'about': about, 'rows': rows}, file, ensure_ascii=False)
        row = rows[name]
        print(f'{name}: {cell(row["converted"])} -> {cell(row["fine-tuned"])}')
    print_table(rows, trained)
    print('\nwritten one character at a time, in memory that does not grow, after')
    print(tokenizer.decode(test[0][0][: args.length // 8]))
    for name, row in rows.items():
        print(f'{name}: {row["text"]}')
    print(f'accuracy {max(row["fine-tuned"][1] for row in rows.values()):.4f}')


if __name__ == '__main__':
    args = settings()
    keras.utils.set_random_seed(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            main(args, Path(args.output or scratch))
        except (ValueError, OSError) as error:
            sys.exit(str(error))
