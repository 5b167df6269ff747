"""Named entities, nested ones too.  CLUENER, CMeEE, or your own files.

Every span (i, j) of a text gets a score for every type, and is an entity where the score
is positive: GlobalPointer, https://kexue.fm/archives/8373.  Bare, it learns a synthetic
corpus in about a minute.  floor: 0.5
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras.layers import Dense

from keraseff.callbacks import BEST
from keraseff.callbacks import Evaluator
from keraseff.data import DataGenerator
from keraseff.data import Split
from keraseff.data import atomic_write
from keraseff.data import detect_format
from keraseff.data import entity_types
from keraseff.data import iter_texts
from keraseff.data import load_entities
from keraseff.data import load_split
from keraseff.data import write_entities
from keraseff.data.builtin import train_dev
from keraseff.data.entity_formats import FORMATS
from keraseff.data.entity_windows import entity_windows
from keraseff.data.entity_windows import join_windows
from keraseff.data.vectors import load_character_vectors
from keraseff.decoding import evaluation
from keraseff.decoding.spans import scores_to_entities
from keraseff.decoding.spans import tune_thresholds
from keraseff.decoding.tagging import BIOES
from keraseff.layers import ConditionalRandomField
from keraseff.layers import EfficientGlobalPointer
from keraseff.layers import GlobalPointer
from keraseff.losses import sparse_global_pointer_crossentropy
from keraseff.models import build_transformer_model
from keraseff.models.bilstm import build_bilstm
from keraseff.text.display import colour_spans
from keraseff.text.display import html_page
from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers import load_vocab
from keraseff.tokenizers.per_character import CharacterTokenizer

HEADS = {'globalpointer': GlobalPointer, 'efficient': EfficientGlobalPointer}
SMALL = {'hidden_size': 192, 'num_hidden_layers': 4, 'num_attention_heads': 4,
         'intermediate_size': 512, 'dropout_rate': 0.2}  # fmt: skip
REMEMBERED = ('encoder', 'head', 'rope', 'maxlen', 'units', 'config', 'format')

# ── settings ──


def settings():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        epilog='KERAS_BACKEND=jax|torch|tensorflow in the environment chooses the '
        'backend.',
    )
    add = parser.add_argument
    add('--data', help='directory with train and dev files, or one file')
    add('--format', choices=list(FORMATS), help='of --data; recognised by default')
    add('--config', help='bert_config.json or a model directory to fine-tune')
    add('--checkpoint', help='its weights, if they do not lie beside it')
    add('--vocab', help='its vocab.txt, if it does not lie beside it')
    add('--encoder', choices=['bilstm', 'transformer'], default='bilstm',
        help='what learns from nothing where there is no --config')  # fmt: skip
    add('--vectors', help='pretrained character vectors: a directory or a text file')
    add('--units', type=int, default=128, help="the BiLSTM's, each way (%(default)s)")
    add('--dropout', type=float, default=0.5, help='of the BiLSTM (%(default)s)')
    add('--head', choices=[*HEADS, 'crf'], default='globalpointer')
    add('--no-rope', dest='rope', action='store_false', help='take RoPE away')
    add('--maxlen', type=int, default=128, help='tokens; longer texts go in windows')
    add('--epochs', type=int, help='8; 3 with --config, 6 on the synthetic corpus')
    add('--batch-size', type=int, default=32)
    add('--learning-rate', type=float, help='2e-3; 5e-4 transformer, 2e-5 --config')
    add('--limit', type=int, help='use only so many training texts')
    add('--seed', type=int, default=0)
    add('--output', help='directory to keep and to continue: best weights, predictions')
    add('--predict', metavar='FILE', help='find entities in FILE, - is standard input')
    add('--tune-thresholds', action='store_true', help='one per type, on dev')
    args = parser.parse_args()
    if args.config:
        args.encoder = 'transformer'
    if args.tune_thresholds and args.head == 'crf':
        parser.error('--tune-thresholds needs scores of spans, which a CRF has not')
    if args.epochs is None:
        args.epochs = 3 if args.config else 8 if args.data else 6
    if args.learning_rate is None:
        small = {'bilstm': 2e-3, 'transformer': 5e-4}[args.encoder]
        args.learning_rate = 2e-5 if args.config else small
    return args


# ── data ──


def load_data(args):
    if args.data:
        split = load_split(args.data, args.format, args.seed)
        source = f'{split.train_path} and {split.dev_path or "a tenth cut from it"}'
        print(f'data: {source}, format {split.format}')
    else:
        split = Split(*train_dev(1600, args.seed), None, None, 'doccano')
        print('data: synthetic (templates, and names of the jieba dictionary)')
    print(f'{len(split.train)} texts to train on, {len(split.dev)} to choose by')
    return split._replace(train=split.train[: args.limit])


def make_tokenizer(args, rows):
    """The tokenizer, and for characters that have one their pretrained vectors."""
    if args.config:
        return Tokenizer(load_vocab(vocabulary(args)), do_lower_case=True), {}
    vectors = load_character_vectors(args.vectors) if args.vectors else {}
    texts = (text for text, _ in rows)
    return CharacterTokenizer.from_texts(texts, least=2, known=vectors), vectors


def vocabulary(args):
    path = Path(args.vocab or Path(args.config))
    folder = path if path.is_dir() else path.parent
    return args.vocab or folder / 'vocab.txt'


class Batches(DataGenerator):
    bucketing = True

    def __init__(self, windows, task, **options):
        super().__init__(windows, **options)
        self.task = task

    def encode(self, window):
        ids, n = window.token_ids, len(window.token_ids)
        inputs = (ids, [0] * n) if self.task.encoder == 'transformer' else ids
        if self.task.head == 'crf':
            spans = [(first, last + 1, kind) for first, last, kind in window.spans]
            return inputs, self.task.tags.labels(n, spans)
        spans = [[s[:2] for s in window.spans if s[2] == t] for t in self.task.types]
        ends = np.zeros((len(spans), max(1, *map(len, spans)), 2), 'int32')
        for row, pairs in zip(ends, spans, strict=True):
            row[: len(pairs)] = pairs or 0
        return inputs, ends


# ── model ──


class Task:
    """A model, its tokenizer and its types: texts in, entities out."""

    def __init__(self, args, types, tokenizer, vectors=None, pretrained=True):
        for name in REMEMBERED:
            setattr(self, name, getattr(args, name))
        self.types, self.tokenizer, self.tags = types, tokenizer, BIOES(types)
        self.thresholds = {}
        encoder = self.build_encoder(args, vectors, pretrained)
        if self.head == 'crf':
            self.crf = ConditionalRandomField(lr_multiplier=10)
            x = self.crf(Dense(len(self.tags), name='Emissions')(encoder.output))
        else:
            head = HEADS[self.head](len(types), 64, RoPE=self.rope, name='Spans')
            x = head(encoder.output)
        self.model = keras.Model(encoder.inputs, x)

    def build_encoder(self, args, vectors, pretrained):
        if args.config:
            checkpoint = args.checkpoint or Path(args.config)
            return build_transformer_model(
                args.config, checkpoint if pretrained else None, dropout_rate=0.1
            )
        size = len(self.tokenizer.tokens)
        if self.encoder == 'transformer':
            return build_transformer_model(
                SMALL | {'vocab_size': size}, None, 'roformer', max_position=args.maxlen
            )
        width = len(next(iter(vectors.values()))) if vectors else 200
        start = np.random.default_rng(args.seed).normal(0, 0.1, (size, width))
        for i, token in enumerate(self.tokenizer.tokens):
            start[i] = vectors[token] if vectors and token in vectors else start[i]
        return build_bilstm(
            size, width, args.units, dropout_rate=args.dropout, embeddings=start
        )

    def compile(self, args, steps):
        warm_up = max(1, steps // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warm_up), 0.01,
            warmup_target=args.learning_rate, warmup_steps=warm_up,
        )  # fmt: skip
        # an average over about the last twentieth of the run
        momentum = max(0.9, 1 - 20 / max(1, steps))
        optimizer = keras.optimizers.Adam(
            rate, global_clipnorm=1.0, use_ema=True, ema_momentum=momentum
        )
        loss = sparse_global_pointer_crossentropy
        loss = self.crf.sparse_loss if self.head == 'crf' else loss
        self.model.compile(optimizer, loss)

    def windows(self, rows):
        return entity_windows(rows, self.tokenizer, self.maxlen)

    def extract(self, texts, threshold=None, batch_size=64):
        """For each text its (start, end, type[, score]), in characters."""
        windows = self.windows((text, ()) for text in texts)
        order = sorted(range(len(windows)), key=lambda i: len(windows[i].token_ids))
        found = [()] * len(windows)
        batches = Batches([windows[i] for i in order], self, batch_size=batch_size)
        for k, (inputs, _) in enumerate(batches):
            part = order[k * batch_size : (k + 1) * batch_size]
            scores = np.asarray(self.model.predict_on_batch(inputs))
            chosen = [windows[i] for i in part]
            for i, spans in zip(
                part, self.decode(scores, chosen, threshold), strict=True
            ):
                found[i] = spans
        return join_windows(windows, found, len(texts))

    def decode(self, scores, windows, threshold):
        if self.head == 'crf':
            trans = keras.ops.convert_to_numpy(self.crf.trans)
            lengths = [len(window.token_ids) for window in windows]
            paths = self.tags.decode_batch(scores, trans, lengths)
            return [self.to_characters(*pair) for pair in zip(windows, paths, strict=True)]
        limit = self.thresholds if threshold is None else threshold
        return [
            scores_to_entities(s, window.mapping, self.types, limit)
            for s, window in zip(scores, windows, strict=True)
        ]

    def to_characters(self, window, spans):
        real = [s for s in spans if window.mapping[s[0]] and window.mapping[s[1] - 1]]
        at = window.mapping
        return [(at[s][0], at[e - 1][-1] + 1, kind) for s, e, kind in real]

    def save(self, folder):
        about = {name: getattr(self, name) for name in REMEMBERED}
        about |= {'types': self.types, 'thresholds': self.thresholds}
        if self.encoder == 'bilstm' or not self.config:
            about['tokens'] = self.tokenizer.tokens
        with atomic_write(folder / 'task.json') as file:
            json.dump(about, file, ensure_ascii=False)


# ── train and evaluate ──


def train(task, split, args, folder):
    windows = task.windows(split.train)
    task.compile(args, args.epochs * -(-len(windows) // args.batch_size))
    texts, gold = zip(*split.dev, strict=True)

    def score():
        scores = evaluation.entity_scores(gold, task.extract(texts))
        return {name: scores[name] for name in ('f1', 'precision', 'recall')}

    evaluator = Evaluator(score, folder)
    done = evaluator.resume(task.model)
    if done:
        ended = 'nothing is left to train' if done >= args.epochs else 'going on'
        print(f'{folder}: {done} of {args.epochs} epochs are done, {ended}')
    if done < args.epochs:
        # another order of the texts after each continuation
        options = {'batch_size': args.batch_size, 'seed': args.seed + done}
        batches = Batches(windows, task, **options)
        task.model.fit(
            batches.forfit(), steps_per_epoch=len(batches), shuffle=False,
            initial_epoch=done, epochs=args.epochs, callbacks=[evaluator],
        )  # fmt: skip
    if evaluator.load_best(task.model):
        print(f'best epoch: {evaluator.best_epoch} of {evaluator.epochs}')


def report(task, split, folder, tune):
    """Score the dev texts, show some, and write them all; returns micro F1."""
    texts, gold = zip(*split.dev, strict=True)
    if tune:
        task.thresholds = tune_thresholds(gold, task.extract(texts, -5), task.types)
        print('thresholds chosen on dev, whose score is thereby flattered:')
        print({kind: round(limit, 2) for kind, limit in task.thresholds.items()})
    found = task.extract(texts)
    rows = list(zip(texts, found, strict=True))
    scores = evaluation.entity_scores(gold, found)
    for text, spans in [row for row in rows if 0 < len(row[1]) < 20][:8]:
        print(colour_spans(text, spans, types=task.types))
    print('\n' + evaluation.format_scores(scores) + '\n')
    print(evaluation.format_errors(evaluation.error_report(texts, gold, found)) + '\n')
    if split.format == 'cluener':
        macro = evaluation.cluener_macro_f1(texts, gold, found)
        print(f'CLUENER macro F1 (surface strings, as its leaderboard): {macro:.4f}')
    write_predictions(folder, rows, split.format)
    with atomic_write(folder / 'predictions.html') as file:
        file.write(html_page(rows[:500], 'Named entities', gold[:500], task.types))
    print(f'strict micro {describe(scores)}')
    return scores['f1']


def describe(scores):
    names = 'precision', 'recall', 'f1'
    return ', '.join(f'{name} {scores[name]:.4f}' for name in names)


def write_predictions(folder, rows, form):
    lines = form in ('cmeee_text', 'columns')
    path = folder / ('predictions.txt' if lines else 'predictions.jsonl')
    write_entities(path, rows, form)
    print(f'{path}: {len(rows)} texts, format {form}')


def predict(task, source, folder):
    """Find entities in a file of texts, or in what is typed or piped in."""
    if source == '-':
        for text in iter_texts(sys.stdin):
            spans = task.extract([text])[0]
            print(colour_spans(text, spans, types=task.types), flush=True)
        return
    try:
        form = detect_format(source)
        texts = [text for text, _ in load_entities(source, form)]
    except ValueError:
        form, texts = 'doccano', list(iter_texts(source))
    write_predictions(folder, list(zip(texts, task.extract(texts), strict=True)), form)


def restore(args, folder):
    """The trained model in a directory, or None."""
    file = folder / 'task.json'
    if not file.exists() or not (folder / BEST).exists():
        return None
    about = json.loads(file.read_text(encoding='utf-8'))
    for name in REMEMBERED:
        setattr(args, name, about[name])
    tokenizer = make_tokenizer(args, [])[0]
    if 'tokens' in about:
        tokenizer = CharacterTokenizer(about['tokens'])
    task = Task(args, about['types'], tokenizer, pretrained=False)
    task.thresholds = about['thresholds']
    task.model.load_weights(folder / BEST)
    return task


def main(args, folder):
    task = restore(args, folder) if args.predict else None
    if task is None:
        split = load_data(args)
        tokenizer, vectors = make_tokenizer(args, split.train)
        task = Task(args, entity_types(split.train), tokenizer, vectors)
        task.save(folder)
        train(task, split, args, folder)
        f1 = report(task, split, folder, args.tune_thresholds)
        task.save(folder)
    if args.predict:
        return predict(task, args.predict, folder)
    if not args.data:
        print('the score on the synthetic corpus:')
    print(f'f1 {f1:.4f}')


if __name__ == '__main__':
    args = settings()
    keras.utils.set_random_seed(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.output or scratch)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            main(args, folder)
        except (ZeroDivisionError) as error:
            sys.exit(f'{type(error).__name__}: {error}')
