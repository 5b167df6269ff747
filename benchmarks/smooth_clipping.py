"""Where gradient clipping is needed: a function, and a recurrent language model.

    python benchmarks/smooth_clipping.py [--steps 150] [--picture smooth_clipping.png]

A fourth power is (16, 1)-smooth: its curvature is at most L0 + L1 |gradient|.  Plain
descent at 1 / L0 diverges from 8; smooth clipping with gamma = L0 / L1 goes down at
every step.  Then an LSTM learns to continue made-up Chinese sentences, with the same
clipping, while `SmoothnessMonitor` compares its curvature with its gradient: the
published observation is that their logarithms correlate, so that L1 > 0.
PyTorch needs some 15 s of one processor for all of it.
https://arxiv.org/abs/1905.11881
"""

import argparse

import keras
import numpy as np
from keras import ops

from keraseff.callbacks import SmoothnessMonitor
from keraseff.data.builtin import characters
from keraseff.data.builtin import synthetic_entities
from keraseff.optimizers import extend_with_gradient_clipping

L0, L1 = 16.0, 1.0
SHOWN = 0, 1, 2, 3, 5, 10, 20, 50, 100

parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
parser.add_argument('--steps', type=int, default=150, help='of the LSTM (%(default)s)')
parser.add_argument('--units', type=int, default=48)
parser.add_argument('--rate', type=float, default=2.0, help='its learning rate')
parser.add_argument('--gamma', type=float, default=0.25, help='its clipping')
parser.add_argument('--picture', help='PNG of the LSTM (needs matplotlib)')


def descend(optimizer, start=8.0, steps=100):
    """θ after each step on θ⁴."""
    theta = keras.Variable(start)
    optimizer.build([theta])
    found = [start]
    for _ in range(steps):
        at = ops.convert_to_tensor(found[-1], 'float32')
        optimizer.apply([4 * at**3], [theta])
        found.append(float(ops.convert_to_numpy(theta)))
        if not abs(found[-1]) < 1e9:
            break
    return found


def fourth_power():
    """Print both descents."""
    clipped = extend_with_gradient_clipping(keras.optimizers.SGD)
    plain = descend(keras.optimizers.SGD(1 / L0))
    smooth = descend(clipped(1 / L0, mode='smooth', gamma=L0 / L1))
    print(f'θ⁴ from 8, learning rate 1/{L0:g}, gamma {L0 / L1:g}')
    print('step          plain       clipped smoothly')
    for step in SHOWN:
        left = f'{plain[step] ** 4:12.4g}' if step < len(plain) else '    diverged'
        print(f'{step:4}   {left}   {smooth[step] ** 4:16.6g}')
    falls = all(abs(b) < abs(a) for a, b in zip(smooth, smooth[1:], strict=False))
    print(f'smooth clipping goes down at every step: {"yes" if falls else "no"}')


def pieces(length=16, size=1000):
    """Characters and the ones after them: (n, length) each, and how many kinds."""
    rows = synthetic_entities(size)
    known = {c: i for i, c in enumerate(characters(rows))}
    ids = np.array([known[c] for text, _ in rows for c in text])
    n = (len(ids) - 1) // length
    x, y = (ids[i : i + n * length].reshape(n, length) for i in (0, 1))
    return x, y, len(known)


def language_model(args):
    """Train, and print what the monitor saw."""
    keras.utils.set_random_seed(0)
    x, y, kinds = pieces()
    ids = keras.Input((x.shape[1],), dtype='int32')
    h = keras.layers.Embedding(kinds, args.units)(ids)
    h = keras.layers.LSTM(args.units, return_sequences=True)(h)
    model = keras.Model(ids, keras.layers.Dense(kinds)(h))
    clipped = extend_with_gradient_clipping(keras.optimizers.SGD)
    model.compile(
        clipped(args.rate, mode='smooth', gamma=args.gamma),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batch = 16
    probe = min(64, len(x))
    monitor = SmoothnessMonitor(
        x[:probe], y[:probe], every=max(1, args.steps // 50), picture=args.picture
    )
    rows = np.random.default_rng(0).integers(len(x), size=args.steps * batch)
    history = model.fit(
        x[rows], y[rows], batch_size=batch, verbose=0, callbacks=[monitor]
    ).history
    print(f'LSTM of {args.units} units, {kinds} characters, {args.steps} steps')
    print(f'loss {np.log(kinds):.2f} at first, {history["loss"][-1]:.2f} on average')
    print('step   |gradient|   smoothness')
    for record in monitor.records[:: max(1, len(monitor.records) // 10)]:
        print('{step:4}   {gradient:10.4f}   {smoothness:10.4f}'.format(**record))
    zero, one = monitor.constants()
    print(f'smoothness = {zero:.3g} + {one:.3g} |gradient|')
    print(f'correlation of their logarithms: {monitor.correlation():.2f}')


def main():
    args = parser.parse_args()
    fourth_power()
    print()
    language_model(args)
    if args.picture:
        print(f'picture: {args.picture}')


if __name__ == '__main__':
    main()
