"""Text classification, on which several examples try things: texts, model, training."""

import shutil
import sys
import time
import zlib
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import experiment
import keras
import numpy as np

from keraseff.callbacks import Evaluator
from keraseff.data import DataGenerator
from keraseff.data.builtin import characters
from keraseff.data.labelled_splits import LabelledSplit
from keraseff.data.labelled_splits import load_labelled_split
from keraseff.data.topics import TOPICS
from keraseff.data.topics import synthetic_topics
from keraseff.models import build_transformer_model
from keraseff.models.config import read_config
from keraseff.optimizers import Adam
from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers.vocab import save_vocab

SPECIALS = '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'
TEXTS = 'labelled texts (JSON: or pairs, a tab between): train, dev and test files in '
TEXTS += 'a directory or .zip, or one file'
ABOUT = 'data', 'label', 'config', 'checkpoint', 'maxlen', 'epochs', 'batch_size'
ABOUT += 'learning_rate', 'layers', 'units', 'dropout', 'limit', 'watch', 'seed'
ABOUT += 'dtype', 'test_size'

# --- settings ---


def parser(doc, **defaults):
    """The options; keywords as those of `experiment.Parser`."""
    made = experiment.Parser(doc, data=TEXTS, **defaults)
    option, at_least = made.add_argument, experiment.at_least
    option('--seed', type=int, default=0, help='of the choice of texts')
    option('--label', help='the field that is the label (label, class or category)')
    option('--maxlen', type=at_least(8), help='tokens of a text; the rest is cut off')
    option('--limit', type=at_least(1), help='train on only so many texts')
    option('--learning-rate', type=float, help='at its highest')
    option('--dropout', type=float, default=0.1, help='of the model')
    option('--from-scratch', action='store_true', help='not the model in weights/')
    option('--layers', type=at_least(1), help='of a model from scratch')
    option('--units', type=at_least(4), help='width of a model from scratch')
    option('--dtype', default='float32', help='or mixed_bfloat16')
    option('--watch', type=at_least(1), default=1000, help='most texts to choose by')
    option('--test-size', type=at_least(1), help='most texts to score; else all')
    option('--seeds', default='0', help='of the trainings, with commas')
    return made


def settings(made, words=None, of_shipped=()):
    """The arguments; with --data the shipped model, and its options, are default."""
    words = sys.argv[1:] if words is None else list(words)
    made.epilog = f'--data alone: weights/roformer_small, {" ".join(of_shipped)}'
    args = made.parse_args(words)
    chosen = args.config or args.from_scratch
    if (args.data and not chosen) or experiment.is_shipped(args.config):
        args = made.parse_with_shipped(words, of_shipped)
    try:
        args.seeds = [int(seed) for seed in args.seeds.split(',')]
    except ValueError:
        made.error(f'--seeds {args.seeds}: expected numbers with commas')
    keras.config.set_dtype_policy(args.dtype)
    return args


# --- data ---


class Data(NamedTuple):
    """Three lists of (ids, segments, number of the label, text), and what goes along.

    `about` is a number that is another one for other texts.
    """

    train: list
    dev: list
    test: list
    labels: list
    config: dict | str
    about: int


class Batches(DataGenerator):
    """Rows to the inputs of a model.

    Args:
        rows: as in `Data`.
        segments: whether the model takes them.
    """

    bucketing = True

    def __init__(self, rows, args, segments, seed=0):
        # In one shape the compiler works once.
        wide = args.bare or getattr(args, 'labelled', None)
        size = args.maxlen if wide else 32
        super().__init__(rows, args.batch_size, multiple_of=size, seed=seed)
        self.segments = segments

    def encode(self, row):
        ids, segments, label, _ = row
        return ((ids, segments) if self.segments else ids), label


def load_data(args, folder):
    """`Data`, and a line or two about it."""
    if args.data:
        split = load_labelled_split(args.data, label=args.label, seed=args.seed)
    else:
        parts = [synthetic_topics(n, args.seed + n) for n in (1200, 200, 400)]
        split = LabelledSplit(*parts, [*TOPICS], 'synthetic')
    print(f'data: {split.source}')
    sizes = args.limit, args.watch, args.test_size
    parts = [_some(*pair, args.seed) for pair in zip(split[:3], sizes, strict=True)]
    sizes = [len(part) for part in parts]
    print(
        f'{sizes[0]} texts to train on, {sizes[1]} to choose by, {sizes[2]} to score; '
        f'{len(split.labels)} labels'
    )
    tokenizer, config = make_tokenizer(args, parts[0], folder)
    encoded = []
    for part in parts:
        texts = [text.split('\t', 1) for text, _ in part]
        rows = [tokenizer.encode(*text, maxlen=args.maxlen) for text in texts]
        pairs = zip(rows, part, strict=True)
        encoded.append([(*r, split.labels.index(x), text) for r, (text, x) in pairs])
    return Data(*encoded, split.labels, config, zlib.crc32(repr(parts).encode()))


def _some(rows, count, seed):
    """So many of them, in a random order."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [rows[i] for i in order[:count]]


def make_tokenizer(args, rows, folder):
    """The tokenizer, and the config of the model that fits it."""
    if args.config:
        place = Path(args.config)
        place = place if place.is_dir() else place.parent
        vocabulary = Path(args.vocab or place / 'vocab.txt')
        if not vocabulary.is_file():
            raise ValueError(f'{vocabulary} is missing; name it with --vocab')
        most = read_config(args.config).get('max_position', 512) - 33
        if args.maxlen > most:
            raise ValueError(f'{args.config} has too few positions: --maxlen {most}')
        return Tokenizer(vocabulary, do_lower_case=True), args.config
    lowered = [(text.lower(),) for text, _ in rows]
    known = [c for c in characters(lowered, least=2) if not c.isspace()]
    tokens = {token: i for i, token in enumerate([*SPECIALS, *known])}
    save_vocab(folder / 'vocab.txt', tokens)
    config = {
        'model_type': 'roformer',
        'vocab_size': len(tokens),
        'hidden_size': args.units,
        'num_hidden_layers': args.layers,
        'num_attention_heads': max(1, args.units // 32),
        'intermediate_size': 4 * args.units,
        'hidden_act': 'gelu',
        'max_position': args.maxlen + 33,
        'segment_vocab_size': 0,
    }
    return Tokenizer(folder / 'vocab.txt', do_lower_case=True), config


# --- model ---


def build_encoder(args, data, **options):
    """The Transformer, of which `add_head` makes a classifier."""
    checkpoint = (args.checkpoint or args.config) if args.config else None
    return build_transformer_model(
        data.config,
        checkpoint,
        return_keras_model=False,
        dropout_rate=args.dropout,
        attention_dropout_rate=args.dropout,
        **options,
    )


def make_head(labels):
    """A layer that gives a score for each label."""
    return keras.layers.Dense(len(labels), dtype='float32', name='Classes')


def classify(head, x):
    """Scores of the mean over the tokens, without padding."""
    return head(keras.layers.GlobalAveragePooling1D()(x))


def add_head(transformer, head):
    inputs, output = transformer.model.input, transformer.model.output
    return keras.Model(inputs, classify(head, output))


def takes_segments(model):
    return len(model.inputs) > 1


def compile_model(model, args, steps):
    rate = experiment.warm_cosine(args.learning_rate, steps, warm_up=10)
    optimizer = Adam(rate, weight_decay=0.01, global_clipnorm=1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=experiment.compiler(args))


# --- train and evaluate ---


class Clock(keras.callbacks.Callback):
    """The seconds of each epoch, and the milliseconds of the processor for a step."""

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        logs['seconds'] = time.perf_counter() - self.begun[0]
        spent = time.process_time() - self.begun[1]
        logs['ms'] = 1000 * spent / self.params['steps']


def guess(model, rows, args):
    """The number of the label for each row."""
    batches = Batches(rows, args, takes_segments(model))
    scores = model.predict(batches.fortest(), steps=len(batches), verbose=0)
    return scores.argmax(axis=-1)


def accuracy(model, rows, args):
    return float(np.mean(guess(model, rows, args) == [row[2] for row in rows]))


def train(model, batches, steps, epochs, seed, args, data, folder, callbacks=()):
    """Train, going on where a run was stopped; the model of the best epoch is left.

    Args:
        model: compiled.
        batches: a function of a seed that returns batches without end.
        steps: of an epoch.
        folder: for what is kept until the training ends.

    Returns the best accuracy on dev, seconds, and milliseconds of the processor a step.
    """
    watched = sorted(data.dev, key=lambda row: len(row[0]))
    evaluator = Evaluator(lambda: {'accuracy': accuracy(model, watched, args)}, folder)
    amount = Namespace(epochs=epochs, seed=seed)
    callbacks = [*callbacks, Clock()]
    experiment.fit(model, batches, steps, amount, evaluator, callbacks)
    evaluator.load_best(model)
    shutil.rmtree(folder, ignore_errors=True)
    times = [epoch['ms'] for epoch in evaluator.history]
    return {
        'dev': evaluator.best or 0.0,
        'seconds': sum(epoch['seconds'] for epoch in evaluator.history),
        'ms': min(times, default=0.0),  # the first epoch compiles
    }


def score(model, args, data, shown=4):
    """Accuracy on test, and a few texts with what they are and what was guessed."""
    rows = sorted(data.test, key=lambda row: len(row[0]))
    found = guess(model, rows, args)
    right = found == [row[2] for row in rows]
    chosen = np.random.default_rng(0).permutation(len(rows))[:shown]
    texts = [
        (rows[i][3][:40], data.labels[rows[i][2]], data.labels[found[i]])
        for i in chosen
    ]
    return {'test': float(np.mean(right)), 'texts': texts}


def show(row):
    """The texts of `score`, as a person reads them."""
    for text, label, found in row['texts']:
        print(f'  {text} … {found} ' + ('✓' if label == found else f'✗ {label}'))


def about(args, data, *names):
    """What rows of a table have in common."""
    told = {name: getattr(args, name) for name in (*ABOUT, *names)}
    return told | {'texts': data.about}


def spread(values, digits=2, scale=100):
    """Mean ± standard deviation between the seeds, in per cent."""
    values = scale * np.array(values, 'float64')
    shown = f'{values.mean():.{digits}f}'
    if len(values) > 1:
        shown += f' ± {values.std(ddof=1):.{digits}f}'
    return shown
