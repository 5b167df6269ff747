"""Training steps of GlobalPointer against a CRF, on one cheap encoder.

    KERAS_BACKEND=jax python benchmarks/crf_vs_globalpointer.py --lengths 64 256

Random features pass through one Dense layer, or with --blocks through so many
Transformer blocks, into each head; the steps of all heads take turns, and the medians
are printed, with their ratio to the step of GlobalPointer.  The published figure is
that inside a BERT, on a GPU, the CRF's step takes 1.2 to 1.6 times GlobalPointer's: its
n steps wait for one another.  On a CPU, which waits for no kernel launch, the scores of
all n^2 spans of each type cost more than they do, and the ratio turns round.
https://kexue.fm/archives/8373
"""

import argparse
import statistics
import time

import keras
import numpy as np

from keraseff.layers import ConditionalRandomField
from keraseff.layers import EfficientGlobalPointer
from keraseff.layers import FeedForward
from keraseff.layers import GlobalPointer
from keraseff.layers import MultiHeadAttention
from keraseff.losses import global_pointer_crossentropy
from keraseff.losses import sparse_global_pointer_crossentropy

WIDTH = 256


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--lengths', type=int, nargs='+', default=[64, 128, 256])
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--types', type=int, default=10)
    parser.add_argument('--blocks', type=int, default=0)
    parser.add_argument('--repeats', type=int, default=9)
    return parser.parse_args()


def encoder(blocks):
    inputs = keras.Input((None, WIDTH))
    x = keras.layers.Dense(WIDTH, activation='relu')(inputs)
    for _ in range(blocks):
        x = keras.layers.LayerNormalization()(x + MultiHeadAttention(4, 64)(x))
        x = keras.layers.LayerNormalization()(x + FeedForward(4 * WIDTH)(x))
    return inputs, x


def pointer(cls, types, loss, blocks):
    inputs, x = encoder(blocks)
    model = keras.Model(inputs, cls(types, 64)(x))
    model.compile('adam', loss)
    return model


def tagger(labels, blocks):
    inputs, x = encoder(blocks)
    crf = ConditionalRandomField(lr_multiplier=100)
    model = keras.Model(inputs, crf(keras.layers.Dense(labels)(x)))
    model.compile('adam', crf.sparse_loss)
    return model


def heads(args, n, draw):
    """Each head's model and its labels: three entities a type, or a tag a token."""
    b, h = args.batch, args.types
    ends = np.sort(draw.integers(1, n, (b, h, 3, 2)), axis=-1)
    dense = np.zeros((b, h, n, n), 'float32')
    for place in np.ndindex(b, h, 3):
        dense[(*place[:2], *ends[place])] = 1
    sparse_loss = sparse_global_pointer_crossentropy
    dense_loss = global_pointer_crossentropy
    cases = {
        'GlobalPointer': (GlobalPointer, sparse_loss, ends),
        'GlobalPointer, dense labels': (GlobalPointer, dense_loss, dense),
        'EfficientGlobalPointer': (EfficientGlobalPointer, sparse_loss, ends),
    }
    made = {
        name: (pointer(cls, h, loss, args.blocks), labels)
        for name, (cls, loss, labels) in cases.items()
    }
    for scheme, labels in (('BIO', 2 * h + 1), ('BIOES', 4 * h + 1)):
        tags = draw.integers(0, labels, (b, n))
        made[f'CRF, {labels} {scheme} labels'] = tagger(labels, args.blocks), tags
    return made


def measure(models, x, repeats):
    times = {name: [] for name in models}
    for _ in range(repeats + 2):
        for name, (model, y) in models.items():
            start = time.perf_counter()
            model.train_on_batch(x, y)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found[2:]) for name, found in times.items()}


def main():
    args = arguments()
    draw = np.random.default_rng(0)
    print(
        f'{keras.backend.backend()}, batch {args.batch}, {args.types} types', end=', '
    )
    print(f'{args.blocks} blocks before the head')
    for n in args.lengths:
        x = draw.normal(size=(args.batch, n, WIDTH)).astype('float32')
        medians = measure(heads(args, n, draw), x, args.repeats)
        base = medians['GlobalPointer']
        for name, seconds in medians.items():
            ratio = f'{seconds / base:5.2f} x GlobalPointer'
            print(f'n={n:4d}  {name:28s}{1e3 * seconds:9.1f} ms  {ratio}', flush=True)


if __name__ == '__main__':
    main()
