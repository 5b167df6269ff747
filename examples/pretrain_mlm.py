"""Pretraining from raw text: masked words, masked n-grams, UniLM, or the next token.

Words are jieba's, and are masked whole; rows are packed full, so nothing computed is
padding, and the output matrix is multiplied at the masked places only.  Whatever is
killed goes on from its last save with the very same numbers; SIGTERM saves and ends.
https://arxiv.org/abs/1906.08101.  Bare, it learns a synthetic text.  floor: 0.15

Masked tokens guessed on held-out texts: weights/roformer_small/README.md, two hours of
one core: 0.282; the synthetic text, bare, on TensorFlow: 0.233, untrained 0.000.
"""

import itertools
import json
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import experiment
import keras
import numpy as np
from keras import ops

from keraseff.callbacks.state import arrays_of
from keraseff.callbacks.state import assign
from keraseff.callbacks.state import read_state
from keraseff.callbacks.state import variables_of
from keraseff.callbacks.state import whole_file
from keraseff.callbacks.state import write_state
from keraseff.data.builtin import characters
from keraseff.data.builtin import synthetic_texts
from keraseff.data.documents import find_texts
from keraseff.data.documents import read_documents
from keraseff.data.masking import Masker
from keraseff.data.pretraining import MixedRows
from keraseff.data.pretraining import PackedRows
from keraseff.data.pretraining import two_parts
from keraseff.data.words import WordPieces
from keraseff.models import MODELS
from keraseff.models import build_transformer_model
from keraseff.models.config import CONFIG_FILES
from keraseff.models.config import read_config
from keraseff.models.pretraining import at_places
from keraseff.optimizers import Adam
from keraseff.optimizers import PiecewiseLinear
from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers.vocab import save_vocab

STATE = 'state.npz'
SPECIALS = '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'
SMALL = {
    'model_type': 'roformer',
    'hidden_size': 256,
    'num_hidden_layers': 4,
    'num_attention_heads': 4,
    'intermediate_size': 1024,
    'hidden_act': 'gelu',
    'max_position_embeddings': 512,
    'type_vocab_size': 2,
    'pad_token_id': 0,
}
TINY = SMALL | {
    'hidden_size': 64,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 128,
}

# --- settings ---

REAL = {'batch_size': 32, 'maxlen': 128, 'learning_rate': 1e-3, 'steps': 100_000}
REAL |= {'warm_up': 200, 'shuffle': 4096, 'rate': 0.15}
BARE = {'batch_size': 32, 'maxlen': 32, 'learning_rate': 3e-3, 'steps': 300}
BARE |= {'warm_up': 30, 'shuffle': 256, 'rate': 0.3}
parser = experiment.Parser(__doc__, REAL, BARE, {}, data=None)
option, at_least = parser.add_argument, experiment.at_least
option('--data', nargs='+', help='texts (.txt, .jsonl), and directories of them')
option('--weights', nargs='+', type=float, help='of each file (its size, in bytes)')
option('--held-out', nargs='+', help='texts to score (each 50th document of --data)')
option('--config', help='of the model: a file or its directory (RoFormer, 4 x 256)')
option('--checkpoint', help='weights to go on from')
option('--vocab', help='vocabulary (vocab.txt beside the configuration)')
option(
    '--objective',
    choices=['mlm', 'ngram', 'unilm', 'lm'],
    default='mlm',
    help='what is learned',
)
option('--rate', type=float, help='share of the tokens masked')
option('--maxlen', type=at_least(8), help='tokens of a row')
option('--steps', type=at_least(0), help='to train in all')
option('--minutes', type=float, help='end after so many, whatever --steps says')
option('--warm-up', type=at_least(1), help='steps in which the rate rises')
option('--finish', type=at_least(1), help='let the rate fall to 0 within so many steps')
option('--learning-rate', type=float, help='at its highest')
option('--dtype', default='float32', help='of the training, as mixed_bfloat16')
option('--shuffle', type=at_least(1), help='rows of a file that are shuffled')
option('--workers', type=at_least(1), default=1, help='processes that tokenize')
option('--save-every', type=float, default=5.0, help='minutes')
option('--epochs', type=at_least(0), help='0 trains nothing, else --steps counts')


def settings(words=None):
    args = parser.parse_args(words)
    if args.epochs == 0:
        args.steps = 0
    return args


# --- data ---


def bare_documents(args):
    texts = synthetic_texts(4000, args.seed, texts=200)
    return [text.replace('。', '。\n').split('\n') for text in texts[: args.limit]]


def sources(args):
    """[(documents to train on, weight)], and [documents to score]."""
    if not args.data:
        print(experiment.SYNTHETIC)
        documents = bare_documents(args)
        return [(partial(iter, documents[:-10]), 1.0)], [partial(iter, documents[-10:])]
    files = find_texts(*args.data)
    weights = args.weights or [file.stat().st_size for file in files]
    if len(weights) != len(files):
        raise ValueError(f'{len(weights)} --weights for {len(files)} files: {files}')
    for file, weight in zip(files, weights, strict=True):
        print(f'{weight / sum(weights):6.1%} {file}')
    kept = (None, None) if args.held_out else (False, True)
    part, held = (partial(every, limit=args.limit, held=held) for held in kept)
    tests = find_texts(*args.held_out) if args.held_out else files
    parts = [(partial(part, file), w) for file, w in zip(files, weights, strict=True)]
    return parts, [partial(held, file) for file in tests]


def every(file, limit, held, count=50):
    """The documents of a file; but for each 50th, or those alone, if held is a bool."""
    documents = itertools.islice(read_documents(file), limit)
    for number, document in enumerate(documents):
        if held is None or (number % count == count - 1) == held:
            yield document


def make_tokenizer(args, folder):
    """The tokenizer, whose vocabulary is put into the folder."""
    if args.data and not (args.vocab or args.config):
        raise ValueError('--data needs --vocab, a vocab.txt, or --config')
    path = folder / 'vocab.txt'
    if args.data:
        config = Path(args.config or '.')
        beside = config if config.is_dir() else config.parent
        shutil.copy(args.vocab or beside / 'vocab.txt', path)
    else:
        rows = [(text, ()) for document in bare_documents(args) for text in document]
        tokens = [*SPECIALS, *sorted(characters(rows, least=2))]
        tokens = [t for t in tokens if not t.isspace()]
        save_vocab(path, {token: i for i, token in enumerate(tokens)})
    return Tokenizer(path, do_lower_case=True)


class Batches:
    """What `fit` is given: (inputs, targets, weights), made from rows.

    Args:
        rows: a `MixedRows`.
        inputs: the names of the model's inputs.
    """

    def __init__(self, args, rows, tokenizer, inputs, rate=0.15):
        self.rows, self.inputs, self.objective = rows, inputs, args.objective
        special = [tokenizer.token_to_id(token) for token in SPECIALS]
        self.masker = Masker(
            tokenizer.token_to_id('[MASK]'),
            tokenizer._vocab_size,
            special,
            rate,
            ngrams=3 if args.objective == 'ngram' else 1,
        )

    def __iter__(self):
        for rows, rng in self.rows:
            yield self.encode(rows, rng)

    def encode(self, rows, rng):
        ids, segments, starts = rows[:, 0], rows[:, 1], rows[:, 2]
        if self.objective in ('mlm', 'ngram'):
            ids, places, labels, weights = self.masker(ids, starts, rng)
            found = {'Input-Places': places}
        else:
            if self.objective == 'unilm':
                segments = two_parts(ids, segments, starts, rng)
            labels, found = ids[:, 1:], {}
            weights = np.ones_like(labels, 'float32')
            if self.objective == 'unilm':
                weights = segments[:, 1:].astype('float32')
            ids, segments = ids[:, :-1], segments[:, :-1]
        found |= {'Input-Token': ids, 'Input-Segment': segments}
        inputs = tuple(found[name] for name in self.inputs)
        return inputs if len(inputs) > 1 else inputs[0], labels, weights


# --- model ---


def given_options(args):
    """What the config says, in its own words, for it goes with the weights."""
    if not args.config:
        return SMALL if args.data else TINY
    read_config(args.config)  # which says what is wrong with it
    path = Path(args.config)
    names = [path / name for name in CONFIG_FILES] if path.is_dir() else [path]
    return json.loads(next(p for p in names if p.is_file()).read_text('utf-8'))


def build_model(args, tokenizer):
    """The Transformer; its `model` is what is trained."""
    options = given_options(args) | {'vocab_size': tokenizer._vocab_size}
    kind = options.get('model_type', 'bert')
    if kind not in MODELS:
        raise ValueError(f'model_type {kind!r} is none of: {", ".join(MODELS)}')
    family, keywords = MODELS[kind].variant(options), {'with_mlm': 'linear'}
    if args.objective in ('mlm', 'ngram'):
        if 'mlm' not in family.heads:
            raise ValueError(f'{kind} has no MLM head; use --objective lm')
        family = at_places(family)
    elif 'lm' in family.heads:
        keywords = {'with_lm': 'linear'}
    else:
        keywords['application'] = args.objective
    return build_transformer_model(
        options,
        args.checkpoint,
        model=family,
        return_keras_model=False,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        pad_token_id=None,  # there is none in the rows, so no masks are made
        **keywords,
    ), options


def compile_model(model, args, last):
    """The rate stays, but for the steps of --finish: https://arxiv.org/abs/2405.18392"""
    schedule = {args.warm_up: 1}
    if args.finish:
        schedule |= {last - args.finish: 1, last: 0}
    optimizer = Adam(
        PiecewiseLinear(schedule, args.learning_rate),
        weight_decay=0.01,
        beta_2=0.98,
        global_clipnorm=1.0,
    )
    optimizer.exclude_from_weight_decay(var_names=['bias', 'beta', 'gamma'])
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction='mean_with_sample_weight'
    )
    model.compile(optimizer, loss, jit_compile=experiment.compiler(args))


# --- train and evaluate ---


class Run:
    """A training that saves everything every few minutes and goes on from there."""

    def __init__(self, args, folder, model, batches):
        self.args, self.file, self.model = args, folder / STATE, model
        self.batches = batches
        self.step, self.last, self.told = 0, args.steps, False
        self.about = {'finish': None, 'last': None}

    def resume(self):
        """Read where the folder's run stands, and what is to be done."""
        arrays = {}
        if self.file.exists():
            self.about, arrays = read_state(self.file)
            self.step = self.about['step']
        if self.args.finish and self.about['finish'] != self.args.finish:
            last = self.step + self.args.finish
            self.about = {'finish': self.args.finish, 'last': last}
        self.args.finish = self.about['finish']
        self.last = self.about['last'] or self.args.steps
        compile_model(self.model, self.args, self.last)
        if arrays:
            data = {n[5:]: arrays.pop(n) for n in list(arrays) if n[:5] == 'data.'}
            self.batches.rows.restore(data)
            assign(variables_of(self.model), arrays, self.file)
            print(f'{self.file}: {self.step} steps are done, of {self.last}')

    def save(self):
        """Replace the state by a new one, whole."""
        data = self.batches.rows.state()
        arrays = {f'data.{name}': array for name, array in data.items()}
        arrays |= arrays_of(self.model)
        write_state(self.file, self.about | {'step': self.step}, arrays)

    def train(self, on_save, chunk=16):
        """Train to the last step, the last minute, or SIGTERM."""
        before = signal.signal(signal.SIGTERM, self.tell)
        begun = saved = time.monotonic()
        batches, losses = iter(self.batches), []
        while self.step < self.last and not self.told:
            count = min(chunk, self.last - self.step)
            losses.append(self.some(list(itertools.islice(batches, count))))
            self.step += count
            now = time.monotonic()
            over = now - begun > 60 * (self.args.minutes or np.inf)
            self.told = self.told or over
            ends = self.told or self.step == self.last
            if ends or now - saved > 60 * self.args.save_every:
                self.save()
                on_save(self.step, np.mean(losses), len(losses) * chunk / (now - saved))
                saved, losses = time.monotonic(), []
        signal.signal(signal.SIGTERM, before)

    def tell(self, *_):
        self.told = True

    def some(self, batches):
        """The mean loss of some steps.

        Keras gets them as arrays, not as a generator, of which it would read ahead:
        the state would be that of a later batch.
        """
        x, y, weights = keras.tree.map_structure(lambda *a: np.concatenate(a), *batches)
        history = self.model.fit(
            x,
            y,
            sample_weight=weights,
            batch_size=self.args.batch_size,
            shuffle=False,
            verbose=0,
        )
        return history.history['loss'][0]


def measure(model, tests):
    """The loss, and the share of tokens guessed."""
    losses, right, count = 0.0, 0, 0
    for x, y, weights in tests:
        scores = model(x, training=False)
        each = ops.sparse_categorical_crossentropy(y, scores, from_logits=True)
        losses += np.sum(ops.convert_to_numpy(each) * weights)
        guesses = ops.convert_to_numpy(ops.argmax(scores, axis=-1))
        right += np.sum((guesses == y) * weights)
        count += np.sum(weights)
    return losses / count, right / count


def export(transformer, options, folder):
    """What `build_transformer_model` and others open: beside vocab.txt."""
    experiment.write_json(folder / 'config.json', options)
    with whole_file(folder / 'model.safetensors') as unfinished:
        transformer.save_weights_as_checkpoint(unfinished, dtype='float16')


def show(model, batch, tokenizer):
    """Three rows, with the model's guess where a token was masked."""
    x, y, weights = batch
    guesses = ops.convert_to_numpy(ops.argmax(model(x, training=False), axis=-1))
    for row in range(3 if len(x) == 3 else 0):
        tokens = tokenizer.ids_to_tokens(x[0][row])
        pairs = zip(x[-1][row], guesses[row], y[row], weights[row], strict=True)
        for place, guess, label, weight in pairs:
            if weight:
                guess, label = tokenizer.ids_to_tokens([guess, label])
                tokens[place] = f'[{guess}]' if guess == label else f'[{guess}/{label}]'
        print(' ', ''.join(tokens[1:-1]))


def make_batches(args, tokenizer, inputs):
    """What is trained on, without end, and a list of batches to score."""
    parts, held = sources(args)
    encode = WordPieces(tokenizer)
    ends = [tokenizer.token_to_id(token) for token in ('[CLS]', '[SEP]')]
    length = args.maxlen + (args.objective in ('unilm', 'lm'))
    packed = partial(PackedRows, encode=encode, length=length)
    packed = partial(packed, start=ends[0], end=ends[1])
    rows = [packed(d, shuffle=args.shuffle, workers=args.workers) for d, _ in parts]
    rows = MixedRows(rows, [w for _, w in parts], args.batch_size, args.seed)
    tests = [packed(documents, shuffle=32) for documents in held]
    tests = MixedRows(tests, [1.0] * len(tests), batch_size=32, seed=1)
    tests = itertools.islice(Batches(args, tests, tokenizer, inputs), 8)
    return Batches(args, rows, tokenizer, inputs, args.rate), list(tests)


def main(args, folder):
    keras.config.set_dtype_policy(args.dtype)
    model_folder = folder / 'model'
    model_folder.mkdir(exist_ok=True)
    tokenizer = make_tokenizer(args, model_folder)
    transformer, options = build_model(args, tokenizer)
    names = [tensor.name for tensor in transformer.inputs]
    batches, tests = make_batches(args, tokenizer, names)
    about = {'objective': args.objective, 'maxlen': args.maxlen, 'config': options}
    experiment.begin(folder / 'run.json', about)
    model = transformer.model
    print(f'{model.count_params()} parameters, {tokenizer._vocab_size} tokens')

    def on_save(step, loss, speed):
        export(transformer, options, model_folder)
        held, accuracy = measure(model, tests)
        print(
            f'{time.strftime("%H:%M:%S")} step {step}: loss {loss:.4f}, held out '
            f'{held:.4f}, accuracy {accuracy:.4f}, '
            f'{speed * args.batch_size * args.maxlen:.0f} tokens/s',
            flush=True,
        )

    run = Run(args, folder, model, batches)
    run.resume()
    run.train(on_save)
    export(transformer, options, model_folder)
    show(model, tests[0], tokenizer)
    where = 'held-out texts' if args.data else 'the synthetic corpus'
    print(f'{args.objective}, on {where}; {model_folder} is what others open')
    experiment.print_score('accuracy', measure(model, tests)[1])


if __name__ == '__main__':
    experiment.run(main, settings)
