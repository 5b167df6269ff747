"""Time and memory of a training step with each trick, beside plain training.

    KERAS_BACKEND=torch python benchmarks/training_tricks.py

A BERT of 4 layers, 312 wide, with a head of classes, on random ids.  Each trick has a
model of its own; in a run all take turns, --rounds times, so that what else the machine
does meets all alike, and the median counts.  Memory is measured in a process of its own
for each, on Linux (--no-memory leaves it out): the growth of the greatest resident set
over two steps, with the model built; on TensorFlow and JAX with the compiler's share.
The teacher of `distill` is as large as the student.  Prints a table in Markdown.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keraseff import training
from keraseff.models import build_transformer_model


def rematerialised(model, args):
    training.rematerialise(model)
    return model


def with_adapters(model, args):
    training.add_lora(model, r'Attention/(query|value)$', rank=8, train='dense')
    return compiled(model)


def theseus(model, args):
    """A successor of half the layers beside its predecessor."""
    old = build_transformer_model(
        sizes(args), prefix='Predecessor-', return_keras_model=False
    )
    new = training.truncate(old, max(1, args.layers // 2))
    scores = keras.layers.Dense(10, dtype='float32')
    return compiled(training.bert_of_theseus(old, new, lambda x: scores(x[:, 0])))


WAYS = {
    'plain': lambda model, args: model,
    'FGM': lambda model, args: training.adversarial_training(model),
    'FGM, both losses': lambda model, args: training.adversarial_training(
        model, both=True
    ),
    "FGM, per='example'": lambda model, args: training.adversarial_training(
        model, per='example'
    ),
    'PGD, 3 steps': lambda model, args: training.projected_gradient_training(model),
    'VAT': lambda model, args: training.virtual_adversarial_training(model),
    'gradient penalty': lambda model, args: training.gradient_penalty(model),
    'Jacobian penalty': lambda model, args: training.jacobian_penalty(model),
    'noise': lambda model, args: training.noisy_embeddings(model),
    'R-Drop': lambda model, args: training.r_drop(model),
    'distillation': lambda model, args: training.distill(model, build(args)),
    'BERT-of-Theseus': theseus,
    'LoRA, rank 8': with_adapters,
    'rematerialised': rematerialised,
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--tricks', nargs='+', choices=WAYS, metavar='NAME', default=list(WAYS),
        help=f'plain is always measured; of {", ".join(WAYS)} (all)')  # fmt: skip
    add('--layers', type=int, default=4, help='(%(default)s)')
    add('--width', type=int, default=312, help='(%(default)s)')
    add('--vocabulary', type=int, default=21128, help='(%(default)s)')
    add('--batch-size', type=int, default=16, help='(%(default)s)')
    add('--length', type=int, default=64, help='(%(default)s)')
    add('--rounds', type=int, default=7, help='(%(default)s)')
    add('--no-memory', action='store_true')
    add('--memory-of', choices=WAYS, help=argparse.SUPPRESS)
    return parser


def sizes(args):
    return {
        'vocab_size': args.vocabulary, 'hidden_size': args.width,
        'num_hidden_layers': args.layers, 'num_attention_heads': 12,
        'intermediate_size': 4 * args.width, 'max_position': args.length,
        'hidden_dropout_prob': 0.1, 'attention_probs_dropout_prob': 0.1,
    }  # fmt: skip


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-5), loss)
    return model


def build(args):
    bert = build_transformer_model(sizes(args))
    scores = keras.layers.Dense(10, dtype='float32')(bert.output[:, 0])
    return compiled(keras.Model(bert.inputs, scores))


def batch(args):
    rng = np.random.default_rng(0)
    ids = rng.integers(1, args.vocabulary, (args.batch_size, args.length))
    return [ids, np.zeros_like(ids)], rng.integers(0, 10, args.batch_size)


def measure_times(args):
    """{trick: seconds}, each the median of its turns."""
    x, y = batch(args)
    models = {}
    for name in dict.fromkeys(['plain', *args.tricks]):
        models[name] = WAYS[name](build(args), args)
        print(f'{name}: compiling …', file=sys.stderr)
        for _ in range(2):
            models[name].train_on_batch(x, y)
    times = {name: [] for name in models}
    for _ in range(args.rounds):
        for name, model in models.items():
            start = time.perf_counter()
            float(model.train_on_batch(x, y))
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def status(name):
    """A figure of this process in bytes, VmRSS or VmHWM; Linux only."""
    lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    return next(1024 * int(x.split()[1]) for x in lines if x.startswith(name))


def report_memory(args):
    """For a process of its own: what the steps of one trick need above the model."""
    model = WAYS[args.memory_of](build(args), args)
    x, y = batch(args)
    gc.collect()
    before = status('VmRSS')
    Path('/proc/self/clear_refs').write_text('5', encoding='utf-8')  # forget the peak
    for _ in range(2):
        model.train_on_batch(x, y)
    print(json.dumps(status('VmHWM') - before))


def measure_memory(name):
    command = [sys.executable, *sys.argv, '--memory-of', name]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare_int8(args):
    """Time of a batch without training, and size of the file, in float32 and int8."""
    x, _ = batch(args)
    models = {'float32': build(args), 'int8': build(args)}
    models['int8'].set_weights(models['float32'].get_weights())
    print(f'\n{training.quantize(models["int8"])}\n')
    times = {name: [] for name in models}
    outputs = {name: model.predict_on_batch(x) for name, model in models.items()}
    for _ in range(args.rounds):
        for name, model in models.items():
            start = time.perf_counter()
            model.predict_on_batch(x)
            times[name].append(time.perf_counter() - start)
    print('| inference | ms a batch | MB in the file | scores differ by |')
    print('|---|---:|---:|---:|')
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / 'model.weights.h5'
            keras.Model(model.inputs, model.outputs).save_weights(file)
            size = file.stat().st_size / 1e6
        differ = np.abs(outputs[name] - outputs['float32']).max()
        differ /= np.abs(outputs['float32']).max()
        print(f'| {name} | {statistics.median(times[name]) * 1e3:.0f} | {size:.1f} | '
              f'{differ:.2%} |')  # fmt: skip


def main():
    args = arguments().parse_args()
    if args.memory_of:
        report_memory(args)
        return
    times = measure_times(args)
    memory = {}
    for name in () if args.no_memory else times:
        print(f'{name}: {times[name]:.3f} s a step; memory …', file=sys.stderr)
        memory[name] = measure_memory(name)
    print(f'{keras.config.backend()}, {args.layers} layers of {args.width}, batch '
          f'{args.batch_size} × {args.length}\n')  # fmt: skip
    print('| training | ms a step | of plain | MB a step | of plain |')
    print('|---|---:|---:|---:|---:|')
    for name, seconds in times.items():
        row = [f'{seconds * 1e3:.0f}', f'{seconds / times["plain"]:.2f}']
        if memory:
            share = memory[name] / memory['plain']
            row += [f'{memory[name] / 1e6:.0f}', f'{share:.2f}']
        else:
            row += ['', '']
        print(f'| {name} | {" | ".join(row)} |')
    compare_int8(args)


if __name__ == '__main__':
    main()
