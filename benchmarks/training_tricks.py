"""Time and memory of a training step with each trick, beside plain training.

    KERAS_BACKEND=torch python benchmarks/training_tricks.py

A BERT of 4 layers, 312 wide, with a head of classes, on random ids.  Each trick has a
process of its own; two at a time are prepared, then take turns with plain training,
step by step, --rounds times, so that what else the machine does meets all alike, and
medians count.

Memory (on Linux) is what training needs above the models: the optimizer's slots, which
are counted and also shown alone, and the growth of the resident set at the peak of a
step after the first ones, when nothing is compiled any more: activations, gradients and
what the update takes in between; on JAX also the new weights and slots, unless they
take the place of the old.  TensorFlow's allocator gives nothing back, so that there
only the slots are shown.  The teacher of `distill` is as large as the student.  Prints
two tables in Markdown; the second is int8 inference.
"""

import argparse
import ctypes
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
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


WARM = 3  # steps before anything is measured
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
    add('--rounds', type=int, default=5, help='(%(default)s)')
    add('--worker', choices=WAYS, help=argparse.SUPPRESS)
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


def work(args):
    """For a process of its own: the memory, then for each line read the time of a step.

    Answers are lines of JSON.
    """
    model = WAYS[args.worker](build(args), args)
    x, y = batch(args)
    for _ in range(WARM):
        model.train_on_batch(x, y)
    slots = sum(size(v) for v in model.optimizer.variables)
    growth = growth_of(model, lambda: model.train_on_batch(x, y))
    print(json.dumps([slots, growth]), flush=True)
    for _ in iter(sys.stdin.readline, ''):
        start = time.perf_counter()
        float(model.train_on_batch(x, y))
        print(time.perf_counter() - start, flush=True)


def size(variable):
    return math.prod(variable.shape) * np.dtype(variable.dtype).itemsize


def growth_of(model, step):
    """Bytes of resident memory at the peak of a step above what lies there before.

    None where the system does not tell.
    """
    forget = Path('/proc/self/clear_refs')
    if not forget.exists() or keras.config.backend() == 'tensorflow':
        return None
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', lambda _: None)
    found = []
    for _ in range(3):
        if hasattr(model, 'zero_grad'):
            model.zero_grad()  # PyTorch keeps them until the next step begins
        gc.collect()  # and the graph of the last step hangs on circles
        trim(0)  # what is free already is to be counted when it is taken again
        before = status('VmRSS')
        forget.write_text('5', encoding='utf-8')
        step()
        found.append(status('VmHWM') - before)
    return statistics.median(found)


def status(name):
    """A figure of this process in bytes, VmRSS or VmHWM."""
    lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    return next(1024 * int(x.split()[1]) for x in lines if x.startswith(name))


class Worker:
    """One trick in a process of its own."""

    def __init__(self, name):
        pipe = subprocess.PIPE
        command = [sys.executable, *sys.argv, '--worker', name]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.name, self.memory = name, None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def read(self):
        """Its next answer."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f'{self.name}: its process ended; see above.')
        return json.loads(line)

    def step(self):
        """Seconds of one."""
        self.process.stdin.write('\n')
        self.process.stdin.flush()
        return self.read()


def measure(names, rounds):
    """[name, seconds, plain seconds in the same rounds, (slots, growth)], in pairs."""
    found = []
    names = [name for name in names if name != 'plain']
    with Worker('plain') as plain:
        plain.memory = plain.read()
        for pair in [names[i : i + 2] for i in range(0, len(names), 2)]:
            print(f'{", ".join(pair)} …', file=sys.stderr)
            with ExitStack() as stack:
                workers = [stack.enter_context(Worker(name)) for name in pair]
                for worker in workers:
                    worker.memory = worker.read()
                found += take_turns([plain, *workers], rounds)
    return found


def take_turns(workers, rounds):
    times = [[worker.step() for worker in workers] for _ in range(rounds)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return [
        (worker.name, seconds, medians[0], worker.memory)
        for worker, seconds in zip(workers, medians, strict=True)
    ]


def show(found):
    """The table; plain training was measured with each pair, and is shown once."""
    plain = [row for row in found if row[0] == 'plain']
    seconds = statistics.median(row[1] for row in plain)
    rows = [('plain', seconds, seconds, plain[0][3])]
    rows += [row for row in found if row[0] != 'plain']
    print('| training | ms a step | of plain | MB | of plain | of it slots |')
    print('|---|---:|---:|---:|---:|---:|')
    for name, seconds, unit, (slots, growth) in rows:
        cells = [name, f'{seconds * 1e3:.0f}', f'{seconds / unit:.2f}']
        if growth is None:
            cells += ['', '', f'{slots / 1e6:.0f}']
        else:
            share = (slots + growth) / sum(plain[0][3])
            cells += [f'{(slots + growth) / 1e6:.0f}', f'{share:.2f}']
            cells += [f'{slots / 1e6:.0f}']
        print(f'| {" | ".join(cells)} |')


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
    if args.worker:
        work(args)
        return
    found = measure(args.tricks, args.rounds)
    print(f'{keras.config.backend()}, {args.layers} layers of {args.width}, batch '
          f'{args.batch_size} × {args.length}\n')  # fmt: skip
    show(found)
    compare_int8(args)


if __name__ == '__main__':
    main()
