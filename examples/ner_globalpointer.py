"""Named entities, nested ones too.  CLUENER, CMeEE, or your own files.

Every span (i, j) of a text gets a score for every type, and is an entity where that is
positive: GlobalPointer, https://kexue.fm/archives/8373.  Bare, it learns a synthetic
corpus in less than a minute.  floor: 0.5

Strict micro F1 on dev, from nothing but the training file and Tencent's character
vectors (--data, --vectors, seed 0, JAX, 2 shared cores):
  CLUENER, --epochs 10: 74.08 (18 minutes); CRF 72.52 (20); without RoPE 73.23 (13)
  CMeEE, --epochs 8 --dropout 0.2: 59.44 (23 minutes); CRF 58.26 (19)
The synthetic corpus, bare, on TensorFlow: 94.20.
"""

import json
import sys
import zlib
from functools import partial
from pathlib import Path

import experiment
import keras
import numpy as np
from keras.layers import Dense

from keraseff.callbacks import BEST
from keraseff.callbacks import Evaluator
from keraseff.data import BadRow
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
from keraseff.data.vectors import load_character_vectors
from keraseff.decoding import evaluation
from keraseff.decoding.spans import tune_thresholds
from keraseff.layers import ConditionalRandomField
from keraseff.layers import EfficientGlobalPointer
from keraseff.layers import GlobalPointer
from keraseff.losses import sparse_global_pointer_crossentropy
from keraseff.models import build_transformer_model
from keraseff.models.bilstm import build_bilstm
from keraseff.models.config import read_config
from keraseff.models.entities import EntityExtractor
from keraseff.optimizers import Adam
from keraseff.text.display import colour_spans
from keraseff.text.display import html_page
from keraseff.tokenizers import Tokenizer
from keraseff.tokenizers.per_character import CharacterTokenizer

SMALL = {
    'hidden_size': 192,
    'num_hidden_layers': 4,
    'num_attention_heads': 4,
    'intermediate_size': 512,
    'dropout_rate': 0.2,
}
OF_SHIPPED = '--epochs', '8', '--learning-rate', '7e-4', '--batch-size', '16'
OTHERS = {'--config', '--encoder', '--vectors', '--units'}  # ask for another model
KEPT = 'encoder', 'head', 'rope', 'maxlen', 'units', 'config', 'vocab'
HEADS = 'globalpointer', 'efficient', 'crf'

# --- settings ---

at_least = experiment.at_least
parser = experiment.Parser(
    __doc__,
    real={'epochs': 10, 'batch_size': 32},
    bare={'epochs': 5, 'batch_size': 64},
    pretrained={'epochs': 3, 'learning_rate': 2e-5},
    data='directory with train and dev files, or one file',
)
parser.epilog = f'--data alone: weights/roformer_small, {" ".join(OF_SHIPPED)}'
option = parser.add_argument
option(
    '--format',
    choices=list(FORMATS),
    help='of --data and of --predict FILE; recognised by default',
)
option(
    '--encoder',
    choices=['bilstm', 'transformer'],
    help='what learns from nothing (bare, with --vectors or --units: bilstm; else with '
    '--data weights/roformer_small is fine-tuned)',
)
option('--vectors', help='character vectors to begin with: a directory or a text file')
option('--units', type=at_least(1), default=128, help='of the BiLSTM, each way')
option('--dropout', type=float, default=0.4, help='of the BiLSTM')
option(
    '--head',
    choices=HEADS,
    default=HEADS[0],
    help='what scores the spans; a CRF finds no nested ones',
)
option('--no-rope', dest='rope', action='store_false', help='take RoPE away')
option(
    '--maxlen',
    type=at_least(3),
    default=128,
    help='tokens; longer texts are read in windows',
)
option('--learning-rate', type=float, help='2e-3, bare 5e-3; 5e-4 transformer')
option(
    '--predict',
    metavar='FILE',
    help='find entities in it with the model in --output; - is standard input',
)
option('--tune-thresholds', action='store_true', help="one per type, by dev's F1")


def settings(words=None):
    words = sys.argv[1:] if words is None else [str(word) for word in words]
    args = parser.parse_args(words)
    asked = {word.split('=')[0] for word in words} & OTHERS
    if (args.data and not asked) or experiment.is_shipped(args.config):
        args = parser.parse_with_shipped(words, OF_SHIPPED)
    args.encoder = args.encoder or 'bilstm'
    if args.learning_rate is None:
        rates = {'transformer': 5e-4, 'bilstm': 5e-3 if args.bare else 2e-3}
        args.learning_rate = rates[args.encoder]
    if args.config:
        args.encoder = 'transformer'
    if args.tune_thresholds and args.head == 'crf':
        parser.error('--tune-thresholds needs scores of spans, which a CRF has not')
    if args.predict not in (None, '-') and not args.output:
        parser.error('--predict FILE needs --output DIR, where its predictions go')
    return args


# --- data ---


def load_data(args):
    if args.data:
        split = load_split(args.data, args.format, args.seed)
        dev = split.dev_path or 'and a tenth cut off to score'
        print(f'data: {split.train_path}, {dev}; format {split.format}')
    else:
        split = Split(*train_dev(1600, args.seed), None, None, 'doccano')
        print(experiment.SYNTHETIC)
    first = slice(args.limit)
    split = split._replace(train=split.train[first], dev=split.dev[first])
    print(f'{len(split.train)} texts to train on, {len(split.dev)} to score')
    return split


def make_tokenizer(args, rows):
    """The tokenizer, and the pretrained vectors of its characters if there are any."""
    if args.config:
        folder = Path(args.config)
        if not folder.exists():
            raise ValueError(f'--config {args.config}: there is no such path')
        folder = folder if folder.is_dir() else folder.parent
        vocabulary = Path(args.vocab or folder / 'vocab.txt')
        if not vocabulary.is_file():
            raise ValueError(f'{vocabulary} is missing; name it with --vocab')
        return Tokenizer(vocabulary, do_lower_case=True), {}
    vectors = load_character_vectors(args.vectors) if args.vectors else {}
    texts = (text for text, _ in rows)
    return CharacterTokenizer.from_texts(texts, least=2, known=vectors), vectors


# --- model ---


def build_encoder(args, tokenizer, vectors, pretrained):
    if args.config:
        # batches are padded to a multiple of 16, and sometimes one step further
        limit = read_config(args.config).get('max_position', 512) // 16 * 16 - 16
        if args.maxlen > limit:
            raise ValueError(f'{args.config} has too few positions: --maxlen {limit}')
        checkpoint = (args.checkpoint or args.config) if pretrained else None
        return build_transformer_model(args.config, checkpoint, dropout_rate=0.1)
    size = len(tokenizer.tokens)
    if args.encoder == 'transformer':
        config = SMALL | {'vocab_size': size, 'max_position': args.maxlen}
        return build_transformer_model(config, model='roformer')
    width = len(next(iter(vectors.values()), range(200)))
    embeddings = np.random.default_rng(args.seed).normal(0, 0.1, (size, width))
    for i, token in enumerate(tokenizer.tokens):
        embeddings[i] = vectors.get(token, embeddings[i])
    return build_bilstm(
        size, width, args.units, dropout_rate=args.dropout, embeddings=embeddings
    )


def build_model(args, types, tokenizer, vectors=(), pretrained=True):
    encoder = build_encoder(args, tokenizer, dict(vectors), pretrained)
    if args.head == 'crf':
        emissions = Dense(4 * len(types) + 1, name='Emissions')(encoder.output)
        scores = ConditionalRandomField(lr_multiplier=10, name='CRF')(emissions)
    else:
        heads = {'globalpointer': GlobalPointer, 'efficient': EfficientGlobalPointer}
        head = heads[args.head](len(types), 64, RoPE=args.rope, name='Spans')
        scores = head(encoder.output)
    model = keras.Model(encoder.input, scores)
    return EntityExtractor(model, tokenizer, types, args.maxlen)


def compile_model(extractor, args, steps):
    rate = experiment.warm_cosine(args.learning_rate, steps, warm_up=10, last=0.01)
    momentum = max(0.9, 1 - 20 / max(1, steps))  # over about a twentieth of the run
    optimizer = Adam(rate, global_clipnorm=1.0, use_ema=True, ema_momentum=momentum)
    crf = extractor.crf
    loss = crf.sparse_loss if crf is not None else sparse_global_pointer_crossentropy
    extractor.model.compile(optimizer, loss, jit_compile=experiment.compiler(args))


def describe(extractor, args, rows):
    """What a trained model is, beside its weights."""
    about = {name: getattr(args, name) for name in KEPT}
    about |= {'types': extractor.types, 'corpus': zlib.crc32(repr(rows).encode())}
    return about | {'tokens': getattr(extractor.tokenizer, 'tokens', None)}


def save(extractor, about, folder):
    about = about | {'thresholds': extractor.thresholds}
    experiment.write_json(folder / 'model.json', about)


def read_about(folder):
    """What `save` wrote."""
    path = folder / 'model.json'
    wanted = {*KEPT, 'types', 'tokens', 'corpus', 'thresholds'}
    try:
        about = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is damaged: {error}') from None
    if not isinstance(about, dict) or not wanted <= about.keys():
        raise ValueError(f'{path} is not what this script wrote')
    return about


def check_continues(about, folder):
    """Refuse to continue what was begun with another kind of model, or other texts."""
    if not (folder / 'model.json').exists():
        return
    before = read_about(folder)
    for name, value in about.items():
        if before[name] != value:
            shown = f' {before[name]}, not {value}' if name in KEPT else ''
            shown = ' (other --data or --limit)' if name == 'corpus' else shown
            raise ValueError(
                f'{folder} was begun with another {name}{shown}; use another --output'
            )


def load(args, folder):
    """The trained model in a directory."""
    about = read_about(folder)
    for name in KEPT:
        setattr(args, name, about[name])
    tokenizer = make_tokenizer(args, [])[0] if args.config else None
    tokenizer = tokenizer or CharacterTokenizer(about['tokens'])
    extractor = build_model(args, about['types'], tokenizer, pretrained=False)
    extractor.thresholds = about['thresholds']
    Evaluator(None, folder).load_best(extractor.model)
    return extractor


# --- train and evaluate ---


def train(extractor, split, args, folder):
    windows = extractor.windows(split.train)
    batches = partial(extractor.batches, windows, batch_size=args.batch_size)
    steps = len(batches(seed=args.seed))
    compile_model(extractor, args, args.epochs * steps)
    texts, gold = zip(*split.dev, strict=True)

    def score():
        scores = evaluation.entity_scores(gold, extractor.extract(texts))
        return {name: scores[name] for name in ('f1', 'precision', 'recall')}

    def order(seed):
        return batches(seed=seed).forfit()

    evaluator = Evaluator(score, folder)
    experiment.fit(extractor.model, order, steps, args, evaluator)
    if evaluator.load_best(extractor.model):
        print(f'best epoch: {evaluator.best_epoch} of {evaluator.epochs}')


def report(extractor, split, args, folder):
    texts, gold = zip(*split.dev, strict=True)
    if args.tune_thresholds:
        found = extractor.extract(texts, threshold=-5)
        extractor.thresholds = tune_thresholds(gold, found, extractor.types)
        print('thresholds fitted to dev, so that its score below flatters:')
        print({kind: round(s, 2) for kind, s in extractor.thresholds.items()})
    found = extractor.extract(texts)
    rows = list(zip(texts, found, strict=True))
    for text, spans in [row for row in rows if 0 < len(row[1]) < 20][:8]:
        print(colour_spans(text, spans, types=extractor.types))
    scores = evaluation.entity_scores(gold, found)
    errors = evaluation.error_report(texts, gold, found)
    print('', evaluation.format_scores(scores), '', sep='\n')
    print(evaluation.format_errors(errors), '', sep='\n')
    if split.format == 'cluener':
        macro = evaluation.cluener_macro_f1(texts, gold, found)
        print(f'CLUENER macro F1 (surface strings, as on its leaderboard) {macro:.4f}')
    if args.output:
        write_predictions(folder, rows, split.format)
        write_page(folder, rows, gold, split, extractor.types)
    else:
        print('nothing is kept; --output DIR keeps weights, predictions and a page')
    where = 'dev' if args.data else 'the synthetic corpus'
    print(f'strict micro scores on {where}:')
    print('precision {precision:.4f}, recall {recall:.4f}'.format(**scores))
    experiment.print_score('f1', scores['f1'])


def write_predictions(folder, rows, form, name='predictions'):
    suffix = 'txt' if form in ('cmeee_text', 'columns') else 'jsonl'
    path = folder / f'{name}.{suffix}'
    write_entities(path, rows, form)
    print(f'{path}: {len(rows)} texts, format {form}')


def write_page(folder, rows, gold, split, types):
    path = folder / 'predictions.html'
    title = f'Named entities: {split.dev_path or split.train_path or "synthetic"}'
    with atomic_write(path) as file:
        file.write(html_page(rows[:500], title, gold[:500], types))
    print(f'{path}: the first {len(rows[:500])} of them in colour')


def read_texts(source, form):
    """The texts of a corpus or of a file with one a line; the format to answer in."""
    try:
        form = form or detect_format(source)
    except BadRow:
        raise
    except ValueError:
        return list(iter_texts(source)), 'doccano'
    return [text for text, _ in load_entities(source, form)], form


def prepare(args, folder):
    """All that may fail for what is in the user's files."""
    asked = (), None
    if args.predict not in (None, '-'):
        asked = read_texts(args.predict, args.format)
    if args.predict and (folder / BEST).exists():
        return load(args, folder), None, None, asked
    if args.predict and not args.data:
        raise ValueError('there is no trained model in --output; train one with --data')
    split = load_data(args)
    types = entity_types(split.train)
    if not types:
        raise ValueError(f'{split.train_path}: the texts to train on have no entity')
    tokenizer, vectors = make_tokenizer(args, split.train)
    extractor = build_model(args, types, tokenizer, vectors)
    about = describe(extractor, args, split.train)
    check_continues(about, folder)
    return extractor, split, about, asked


def main(args, folder):
    extractor, split, about, (texts, form) = prepare(args, folder)
    if split is not None:
        save(extractor, about, folder)
        train(extractor, split, args, folder)
        report(extractor, split, args, folder)
        save(extractor, about, folder)
    if args.predict == '-':
        for text in iter_texts(sys.stdin):
            found = extractor.extract([text])[0]
            print(colour_spans(text, found, types=extractor.types), flush=True)
    elif args.predict:
        rows = list(zip(texts, extractor.extract(texts), strict=True))
        write_predictions(folder, rows, form, f'{Path(args.predict).stem}.predictions')


if __name__ == '__main__':
    experiment.run(main, settings)
