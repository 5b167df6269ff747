"""How much faster an epoch is when each batch holds texts of like length.

Trains the same BiLSTM with GlobalPointer on the same texts, padded in four ways, and
prints the seconds of each and their ratio to the last.
"""

import argparse
import time

import keras
import numpy as np

from keraseff.data import entity_types
from keraseff.data import load_split
from keraseff.data.builtin import train_dev
from keraseff.layers import GlobalPointer
from keraseff.losses import sparse_global_pointer_crossentropy
from keraseff.models.bilstm import build_bilstm
from keraseff.models.entities import EntityExtractor
from keraseff.tokenizers.per_character import CharacterTokenizer

parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
parser.add_argument('--data', help='corpus, such as CLUENER; otherwise synthetic')
parser.add_argument('--texts', type=int, default=1600, help='used of it (%(default)s)')
parser.add_argument('--batch-size', type=int, default=32)
parser.add_argument('--maxlen', type=int, default=128, help='of the fixed padding')
parser.add_argument('--units', type=int, default=128)
parser.add_argument(
    '--rounds', type=int, default=2, help='of each step; the fastest counts'
)


def build(rows, args):
    tokenizer = CharacterTokenizer.from_texts(text for text, _ in rows)
    types = entity_types(rows)
    encoder = build_bilstm(len(tokenizer.tokens), units=args.units)
    scores = GlobalPointer(len(types), 64)(encoder.output)
    model = keras.Model(encoder.input, scores)
    model.compile('adam', sparse_global_pointer_crossentropy)
    return EntityExtractor(model, tokenizer, types, args.maxlen)


def padded(batches, length):
    """The batches, all as long as `length`; None leaves them as they are."""
    for ids, targets in batches.__iter__(random=True):
        extra = 0 if length is None else length - ids.shape[1]
        yield np.pad(ids, [(0, 0), (0, extra)]), targets


def make_batches(extractor, windows, args, bucketing, length):
    options = {'batch_size': args.batch_size, 'bucketing': bucketing, 'seed': 0}
    return list(padded(extractor.batches(windows, **options), length))


def measure(step, ways, rounds):
    """The seconds of each way's epoch: the ways take turns, batch by batch."""
    for batches in ways.values():
        for batch in {(x.shape, y.shape): (x, y) for x, y in batches}.values():
            step(*batch)  # compiled here, once for each shape
    total = dict.fromkeys(ways, 0.0)
    for turn in zip(*ways.values(), strict=True):
        for way, batch in zip(ways, turn, strict=True):
            times = []
            for _ in range(rounds):
                start = time.perf_counter()
                step(*batch)
                times.append(time.perf_counter() - start)
            total[way] += min(times)
    return total


def main():
    args = parser.parse_args()
    rows = load_split(args.data).train if args.data else train_dev(args.texts)[0]
    rows = rows[: args.texts]
    extractor = build(rows, args)
    windows = extractor.windows(rows)
    longest = max(len(window.token_ids) for window in windows)
    longest = -(-longest // 16) * 16
    ways = {
        f'fixed at --maxlen, {args.maxlen}': (False, args.maxlen),
        f'fixed at the longest, {longest}': (False, longest),
        'to the longest of each batch': (False, None),
        'the same, bucketed by length': (True, None),
    }
    ways = {way: make_batches(extractor, windows, args, *w) for way, w in ways.items()}
    real = sum(len(window.token_ids) for window in windows)
    print(f'{args.data or "synthetic"}: {len(windows)} texts, {real} tokens, '
          f'backend {keras.backend.backend()}')  # fmt: skip
    found = measure(extractor.model.train_on_batch, ways, args.rounds)
    for way, batches in ways.items():
        share = 1 - real / sum(ids.size for ids, _ in batches)
        print(f'{way:32s} {found[way]:7.2f} s  padding {share:4.0%}  '
              f'ratio {found[way] / list(found.values())[-1]:.2f}')  # fmt: skip


if __name__ == '__main__':
    main()
