"""Time of an update by each optimizer, in times that of Keras' Adam, in one run.

    python benchmarks/optimizer_speed.py [--repeats 15] [--compiled] [--only name …]

The weights are those of a BERT, of 2 layers 128 wide with 21128 words by default, 3.2 M
numbers; --layers 12 --width 768 is BERT-base, where every optimizer takes 1.6 GB.  The
gradients are given, so nothing but the optimizer works.  Rounds over all optimizers
alternate, and a median of each is shown.  On PyTorch Keras' Adam updates all weights
at once, all other classes one weight after the other; ours do so in place, and `Adam`
in one stroke.
"""

import argparse
import time
from functools import partial

import keras
import numpy as np

from keraseff import optimizers as ours
from keraseff.backends import without_gradients

WD = ours.extend_with_weight_decay
LA = ours.extend_with_layer_adaptation
WARM = 3  # rounds before those that count
DECAY = {'exclude_from_weight_decay': ['Norm', 'bias']}


def shapes(layers, wide, words):
    """The weights of a small BERT: {path: shape}."""
    tables = {'Token': words, 'Position': 512, 'Segment': 2}
    found = {f'Embedding-{n}/embeddings': (rows, wide) for n, rows in tables.items()}
    for i in range(layers):
        for name in ('query', 'key', 'value', 'output'):
            found[f'Transformer-{i}-{name}/kernel'] = (wide, wide)
            found[f'Transformer-{i}-{name}/bias'] = (wide,)
        for name, (a, b) in {'in': (wide, 4 * wide), 'out': (4 * wide, wide)}.items():
            found[f'Transformer-{i}-FeedForward-{name}/kernel'] = (a, b)
            found[f'Transformer-{i}-FeedForward-{name}/bias'] = (b,)
        for name in ('Attention', 'FeedForward'):
            found[f'Transformer-{i}-{name}-Norm/gamma'] = (wide,)
            found[f'Transformer-{i}-{name}-Norm/beta'] = (wide,)
    return found


def optimizers():
    """{name: a function that makes one}."""
    made = {
        'keras Adam': keras.optimizers.Adam,
        'keras Adam again': keras.optimizers.Adam,
        'keras Adam, subclassed': type('Adam', (keras.optimizers.Adam,), {}),
        'keras AdamW': keras.optimizers.AdamW,
        'keras Adam, accumulating': partial(
            keras.optimizers.Adam, gradient_accumulation_steps=2
        ),
        'Adam': ours.Adam,
        'Lion': ours.Lion,
        'AdaFactor': ours.AdaFactor,
        'Tiger': ours.Tiger,
        'LAMB': lambda: ours.LAMB(**DECAY),
    }
    extensions = {
        'weight_decay': DECAY,
        'layer_adaptation': {},
        'piecewise_linear_lr': {'lr_schedule': {10: 1, 100: 0.1}},
        'gradient_accumulation': {'grad_accum_steps': 2},
        'lookahead': {},
        'lazy_optimization': {'include_in_lazy_optimization': ['Embedding-Token']},
        'exponential_moving_average': {},
        'parameter_wise_lr': {'paramwise_lr_schedule': {'Embedding': 0.1}},
        'gradient_clipping': {'mode': 'smooth'},
    }
    for name, options in extensions.items():
        cls = getattr(ours, f'extend_with_{name}')(ours.Adam)
        made[f'Adam + {name}'] = lambda cls=cls, options=options: cls(**options)
    return made


def stepper(make, sizes, compiled):
    """A function that makes one update and waits for its end."""
    draw = np.random.default_rng(0)
    variables, gradients = [], []
    for path, shape in sizes.items():
        scope, name = path.split('/')
        with keras.name_scope(scope):
            value = draw.normal(0, 0.02, shape).astype('float32')
            variables.append(keras.Variable(value, name=name))
        gradients.append(keras.ops.convert_to_tensor(value[::-1].copy()))
    optimizer = make()
    optimizer.build(variables)
    apply = optimizer.apply
    if compiled:
        return compiled_stepper(optimizer, variables, gradients)

    def step():
        with without_gradients():
            apply(gradients, variables)
            return float(keras.ops.convert_to_tensor(variables[-1])[0])

    return step


def compiled_stepper(optimizer, variables, gradients):
    """The same inside a graph: `tf.function`, or `jax.jit` on copies of the state."""
    if keras.backend.backend() == 'tensorflow':
        import tensorflow as tf

        apply = tf.function(lambda: optimizer.apply(gradients, variables))
        return lambda: (apply(), float(variables[-1].value[0]))
    if keras.backend.backend() != 'jax':
        raise SystemExit('PyTorch runs eagerly; leave --compiled out.')
    import jax

    update = jax.jit(optimizer.stateless_apply, donate_argnums=(0, 2))
    states = [
        [keras.ops.copy(v) for v in optimizer.variables],
        [keras.ops.copy(v) for v in variables],
    ]

    def step():
        states[1], states[0] = update(states[0], gradients, states[1])
        jax.block_until_ready(states)

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--layers', type=int, default=2)
    parser.add_argument('--width', type=int, default=128)
    parser.add_argument('--vocabulary', type=int, default=21128)
    parser.add_argument('--compiled', action='store_true')
    parser.add_argument('--only', nargs='*', help="names; Keras' Adam always runs")
    options = parser.parse_args()
    made = optimizers()
    chosen = {'keras Adam', *(options.only or made)}
    sizes = shapes(options.layers, options.width, options.vocabulary)
    steps = {n: stepper(made[n], sizes, options.compiled) for n in made if n in chosen}
    times = {name: [] for name in steps}
    for round_ in range(options.repeats + WARM):
        for name, step in steps.items():
            began = time.process_time()
            step()
            step()  # a pair, for accumulation works every other time
            if round_ >= WARM:
                times[name].append((time.process_time() - began) / 2)
    medians = {name: 1e3 * float(np.median(t)) for name, t in times.items()}
    unit = medians['keras Adam']
    print(f'{keras.backend.backend()}: processor time of an update, and of Adam = 1')
    for name, median in medians.items():
        print(f'{name:34}{median:8.2f} ms {median / unit:6.2f}')


if __name__ == '__main__':
    main()
