"""Every attention, and what stands in its place, on one budget: quality, time, memory.

A small character language model is trained for the same steps on the same pieces with
each of them, first on short pieces and then, going on, on long ones.
https://arxiv.org/abs/2011.04006  floor: 0.3
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow's news of GPUs

import keras
import numpy as np
from keras import ops

from keraseff.data import atomic_write
from keraseff.data import following_pieces
from keraseff.data import hold_out
from keraseff.data import load_texts
from keraseff.data import random_pieces
from keraseff.data.builtin import synthetic_texts
from keraseff.layers import MECHANISMS
from keraseff.layers import MIXERS
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
option('--attentions', help='rows of the table, with commas; all with --data')
option('--lengths', help='512,4096; 64 on the synthetic text')
option('--epochs', type=float, default=1.0, help='times --steps (%(default)s)')
option('--steps', help='of training at each length: 300,20; 150 on the synthetic text')
option('--batch-size', type=at_least(1), help='pieces of the first length (2; 16)')
option('--learning-rate', type=float, help='6e-3; 1e-2 on the synthetic text')
option('--layers', type=at_least(1), help='2; 1 on the synthetic text')
option('--units', type=at_least(1), default=64, help='width of the model (%(default)s)')
option('--test-size', type=at_least(1), default=32768, help='characters (%(default)s)')
option('--seconds', type=at_least(1), default=60, help='a training may take (60)')
option('--memory', type=at_least(1), default=12, help='GiB a row may take (12)')
option('--limit', type=at_least(1), help='use only the first so many texts')
option('--seed', type=int, default=0, help='of all that is random (%(default)s)')
option('--output', help='directory to keep, and continue from')
BARE = {'lengths': '64', 'steps': '150', 'batch_size': 16, 'layers': 1}
BARE |= {'learning_rate': 1e-2, 'attentions': 'softmax,linear,local'}
REAL = {'lengths': '512,4096', 'steps': '300,20', 'batch_size': 2, 'layers': 2}
REAL |= {'learning_rate': 6e-3}
ROWS = 'rows.json'
ABOUT = 'data', 'lengths', 'epochs', 'steps', 'batch_size', 'learning_rate', 'layers'
ABOUT += 'units', 'test_size', 'seconds', 'limit', 'seed'


def settings(words=None):
    args = parser.parse_args(words)
    for name, value in (REAL if args.data else BARE).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in ('lengths', 'steps'):
        setattr(args, name, [int(x) for x in getattr(args, name).split(',')])
    if len(args.lengths) != len(args.steps) or args.lengths != sorted(args.lengths):
        parser.error('--lengths must rise, and --steps give a number for each')
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
    texts = load_texts(args.data) if args.data else synthetic_texts(2000, args.seed)
    train, _, test = hold_out(texts[: args.limit])
    tokenizer = CharacterTokenizer.from_texts([train], least=20)
    ids = [np.array(tokenizer.tokens_to_ids(x.lower())) for x in (train, test)]
    return len(tokenizer.tokens), *ids


# --- model ---


def build_model(args, vocab_size, name):
    config = {
        'vocab_size': vocab_size,
        'hidden_size': args.units,
        'num_hidden_layers': args.layers,
        'num_attention_heads': max(1, args.units // 32),
        'intermediate_size': args.units * 8 // 3,
        'max_position': max(args.lengths),
        'tie_word_embeddings': True,
    }
    # All but the gated unit know the order by themselves.
    own = {'position': 'none'} if name in MIXERS and name != 'gau' else {}
    model = build_transformer_model(
        config,
        model='llama',
        with_lm='linear',
        attention=name,
        attention_options=choices()[name],
        **own,
    )
    optimizer = keras.optimizers.AdamW(
        args.learning_rate, weight_decay=0.05, beta_2=0.98, global_clipnorm=1.0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Under TensorFlow XLA compiles for longer than the synthetic text takes.
    slow = not args.data and keras.config.backend() == 'tensorflow'
    model.compile(optimizer, loss, jit_compile=False if slow else 'auto')
    return model


# --- train and evaluate ---


def evaluate(model, inputs, targets):
    """Nats per character, and the share of characters guessed."""
    loss, right, size = 0.0, 0, max(1, 4096 // inputs.shape[1])
    for i in range(0, len(inputs), size):
        wanted = targets[i : i + size]
        scores = model(inputs[i : i + size], training=False)
        each = ops.sparse_categorical_crossentropy(wanted, scores, from_logits=True)
        loss += float(ops.sum(each))
        guesses = ops.convert_to_numpy(ops.argmax(scores, axis=-1))
        right += int(np.sum(guesses == wanted))
    return loss / targets.size, right / targets.size


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
        cell['loss'], cell['accuracy'] = evaluate(model, *rows)
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


def choose(args):
    """The rows of the table that were asked for."""
    known = choices()
    names = args.attentions.split(',') if args.attentions else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f'--attentions {unknown[0]} is none of: {", ".join(known)}')
    return names


def read_rows(path, about):
    """The rows that were made before; refuses those of another experiment."""
    if not path.exists():
        return {}
    kept = json.loads(path.read_text('utf-8'))
    if kept['about'] != about:
        raise ValueError(f'{path} is of {kept["about"]}; use another --output')
    return kept['rows']


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
    names = choose(args)
    if not args.data:
        print('data: synthetic (templates, and names of the jieba dictionary)')
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ROWS
    about = {name: getattr(args, name) for name in ABOUT}
    rows = read_rows(path, about)
    for i, name in enumerate(names):
        if name not in rows:
            rows[name] = (apart if args.data else measure)(args, name)
            with atomic_write(path) as file:
                json.dump({'about': about, 'rows': rows}, file, indent=1)
        cells = [rows[name].get(str(length), {}) for length in args.lengths]
        shown = ', '.join(f'{x["loss"]:.3f}' for x in cells if x)
        shown = rows[name].get('failed', shown)
        print(f'{i + 1}/{len(names)} {name}: {shown}', flush=True)
    for length in args.lengths:
        print_table(rows, str(length))
    print('\nms: median of a training step; ratio: of processor time, to softmax')
    print('peak MiB: grown since the model stood')
    last = str(args.lengths[-1])
    accuracies = [row[last]['accuracy'] for row in rows.values() if last in row]
    print(f'accuracy {max(accuracies, default=0.0):.4f}')


if __name__ == '__main__':
    args = settings()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            main(args, Path(args.output or scratch))
        except (ValueError, OSError) as error:
            sys.exit(str(error))
