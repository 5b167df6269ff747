"""How time and memory of attention grow with the length, beside softmax attention.

    KERAS_BACKEND=jax python benchmarks/attention_growth.py --mechanisms linear-time

Every mechanism and mixer by itself, with its defaults and no projections (gau and the
state spaces have their own), one forward pass and one training step: forward and
backward with respect to q, k, v and the weights.  They are compiled as Keras would, by
XLA on TensorFlow and JAX, eager on PyTorch (--torch-compile), and hide later keys where
they can.  Beside them run our softmax attention and that of the framework itself
(jax.nn.dot_product_attention, cuDNN's on a GPU; PyTorch's scaled_dot_product_attention;
keras.ops.dot_product_attention).  All take turns, --repeat times, the best of each
counts, and ratios are to the fastest softmax of the same run and length; those that
cannot hide later keys are compared with one that does not either, if that is faster.

Slopes are of log time, and of log memory, over log length at the three largest lengths:
1 is linear, 2 quadratic.  On a CPU, glibc gives freed blocks of more than 32 MB back
to the system and begins anew with empty pages, which bends the curves upwards where the
blocks pass that size; --keep-memory forbids it.  Memory is that above the inputs.
What would take longer than --patience or more than --memory-limit, as it has grown so
far, is not run: 'slow' and 'large' in the tables, where 'failed' means an error, said
on the way.

Prints Markdown, and writes NAME.json, after each length, and NAME.png, a log-log plot
(needs matplotlib).  On a machine with a GPU, the backend runs there and says so.
"""

import argparse
import ctypes
import json
import os
import sys
import time
from pathlib import Path

import keras
from growth.candidates import LINEAR
from growth.candidates import candidates
from growth.candidates import expand
from growth.engines import draw_inputs
from growth.engines import make_engine
from growth.report import Summary
from growth.report import misses
from growth.report import plot
from growth.report import slope
from growth.report import table

LENGTHS = [512, 1024, 2048, 4096, 8192, 16384]
LONGEST = 65536
FAST = {'linear': 10, 'vq': 4}  # least ratios to softmax at 8192
TURN = 0.05  # seconds that a fast one may use of a turn, to run again


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--mechanisms', nargs='+', default=['all'], metavar='NAME',
        help="of mechanisms and mixers, or 'all', or 'linear-time' for those whose "
        'time is to grow like the length (all)')  # fmt: skip
    add('--lengths', type=int, nargs='+', default=LENGTHS, metavar='N',
        help=f'({" ".join(map(str, LENGTHS))})')  # fmt: skip
    add('--long', action='store_true',
        help=f'the linear ones at n = {LONGEST} as well')  # fmt: skip
    add('--mode', choices=['forward', 'train', 'both'], default='both')
    add('--dtype', choices=['float32', 'bfloat16'], default='float32',
        help='of the inputs, and of what comes of them (%(default)s)')  # fmt: skip
    add('--heads', type=int, default=4, help='(%(default)s)')
    add('--head-size', type=int, default=64, help='(%(default)s)')
    add('--batch', type=int, default=1, help='(%(default)s)')
    add('--repeat', type=int, default=3, help='turns of each (%(default)s)')
    add('--options', type=json.loads, default={}, metavar='JSON',
        help='arguments of mechanisms, \'{"linear": {"chunk": 64}}\'')  # fmt: skip
    add('--patience', type=float, default=20, metavar='S',
        help='seconds that one run may take (%(default)s)')  # fmt: skip
    add('--memory-limit', type=float, default=None, metavar='GB',
        help='that one run may take (half of what is free)')  # fmt: skip
    add('--keep-memory', action='store_true',
        help='freed memory is not given back to the system (glibc)')  # fmt: skip
    add('--torch-compile', action='store_true', help='PyTorch: through torch.compile')
    add('--output', type=Path, metavar='NAME',
        help='of NAME.json and NAME.png (attention_growth_BACKEND)')  # fmt: skip
    add('--no-plot', action='store_true', help='no PNG, so no matplotlib')
    return parser


class Growth:
    """What each candidate took so far, and by it what it would take at a length."""

    def __init__(self, patience, limit, heads):
        self.limits = {'seconds': (patience, 'slow'), 'bytes': (limit, 'large')}
        self.heads = heads
        self.seen = {}

    def add(self, name, n, **values):
        """Remember a measurement."""
        for what, value in values.items():
            if value:
                self.seen.setdefault((name, what), []).append((n, value))

    def refusal(self, candidate, n):
        """Why it is better not to run it at this length, or None."""
        for what, (limit, word) in self.limits.items():
            pairs = self.seen.get((candidate.name, what), [])
            if pairs:
                before, value = pairs[-1]
                power = min(max(slope(pairs[-2:]) or 2, 1), 2.3)
                value *= (n / before) ** power
            elif what == 'bytes' and candidate.square:
                value = 6 * 4 * self.heads * n**2  # scores, weights, their gradients …
            else:
                continue
            if value > limit:
                return word
        return None


class Run:
    """All measurements of one mode."""

    def __init__(self, engine, args, mode):
        self.engine = engine
        self.args = args
        self.mode = mode
        batch_heads = args.batch * args.heads
        self.growth = Growth(args.patience, args.memory_limit * 1e9, batch_heads)
        self.points = []

    def measure(self, found, n):
        """Times and memory of all candidates at one length."""
        args = self.args
        sizes = n, args.heads, args.head_size, args.batch
        inputs, target = draw_inputs(*sizes, args.dtype)
        compiled = {}
        for i, one in enumerate(found):
            self.progress(n, f'compiling {i + 1} of {len(found)}: {one.name}')
            ready = self.compile(one, inputs, target, n)
            if ready:
                compiled[one] = ready
        times = self.take_turns({x: run for x, (run, _) in compiled.items()}, n)
        for one, (_, memory) in compiled.items():
            self.progress(n, f'memory of {one.name}')
            seconds = min(times[one])
            size = memory()
            self.growth.add(one.name, n, seconds=seconds, bytes=size)
            self.add(one, n, seconds=seconds, bytes=size, times=times[one])
        self.progress(n, f'{len(compiled)} measured', end='\n')
        self.engine.forget()

    def compile(self, one, inputs, target, n):
        """(run, memory) after a first run; None, with a note, if there is none."""
        note = self.growth.refusal(one, n)
        if note:
            self.add(one, n, note=note)
            return None
        try:
            layer = one.make(n)
            layer.build(*(x.shape for x in inputs))
            train = self.mode == 'train'
            run, memory = self.engine.compile(layer, inputs, target, train)
            run()
        except Exception as error:  # whatever a framework raises; the others go on
            said = f'{type(error).__name__}: {error}'.splitlines()[0]
            self.progress(n, f'{one.name} failed: {said}', end='\n')
            self.add(one, n, note='failed', error=said)
            return None
        return run, memory

    def take_turns(self, runs, n):
        """{candidate: seconds of each run}; fast ones run more than once a turn."""
        times = {x: [] for x in runs}
        for turn in range(self.args.repeat):
            self.progress(n, f'turn {turn + 1} of {self.args.repeat}')
            for one, run in runs.items():
                begin = time.perf_counter()
                for _ in range(10):
                    start = time.perf_counter()
                    run()
                    end = time.perf_counter()
                    times[one].append(end - start)
                    if end - begin > TURN:
                        break
        return times

    def add(self, one, n, **values):
        """Note a point."""
        point = {'mode': self.mode, 'name': one.name, 'causal': one.causal}
        self.points.append(point | {'baseline': one.baseline, 'n': n} | values)

    def progress(self, n, text, end=''):
        """Say on one line what goes on."""
        print(
            f'\r\x1b[K{self.mode}, n = {n}: {text}',
            end=end,
            file=sys.stderr,
            flush=True,
        )


def free_memory():
    """Half of the memory of this machine that is free, in GB; 8 where nobody knows."""
    try:
        pages = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (ValueError, OSError):
        return 8.0
    return pages / 2e9


def keep_memory():
    """Have the C library keep what is freed, whatever its size."""
    allocator = ctypes.CDLL(None)
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
        if not allocator.mallopt(parameter, value):
            raise SystemExit('--keep-memory: this C library has no such setting.')


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def describe(engine, args):
    """Where and how it was measured."""
    backend = keras.backend.backend()
    versions = {'keras': keras.__version__}
    versions[backend] = sys.modules[backend].__version__
    taken = {key: getattr(args, key) for key in SAID}
    return {
        'backend': backend,
        'device': engine.device(),
        'versions': versions,
        'memory': engine.memory_from,
        **taken,
    }


SAID = ('dtype', 'heads', 'head_size', 'batch', 'repeat', 'patience', 'memory_limit')
SAID += ('torch_compile', 'keep_memory', 'options')


def write_json(path, about, runs):
    """All that was measured so far."""
    points = [point for run in runs.values() for point in run.points]
    new = path.with_suffix('.json.new')
    new.write_text(json.dumps(about | {'points': points}, indent=1), encoding='utf-8')
    os.replace(new, path.with_suffix('.json'))


def main():
    parser = arguments()
    args = parser.parse_args()
    args.memory_limit = args.memory_limit or free_memory()
    if args.keep_memory:
        keep_memory()
    engine = make_engine(args.torch_compile)
    width = args.heads * args.head_size
    policy = 'mixed_bfloat16' if args.dtype == 'bfloat16' else 'float32'
    try:
        names = expand(args.mechanisms)
    except ValueError as error:
        parser.error(str(error))
    found = candidates(names, engine.fused(), policy, width, args.options)
    about = describe(engine, args)
    backend = about['backend']
    output = args.output or Path(f'attention_growth_{backend}')
    versions = ', '.join(f'{k} {v}' for k, v in about['versions'].items())
    title = f'{versions}, {about["device"]}, {args.dtype}, batch {args.batch}, '
    title += f'{args.heads} heads of {args.head_size}'
    print(title, f'Memory: {about["memory"]}.', sep='\n\n', flush=True)
    runs = {}
    for mode in ('forward', 'train') if args.mode == 'both' else (args.mode,):
        run = runs[mode] = Run(engine, args, mode)
        lengths = sorted(set(args.lengths) | ({LONGEST} if args.long else set()))
        for n in lengths:
            longest = args.long and n == LONGEST and n not in args.lengths
            run.measure([x for x in found if not longest or x.name in LINEAR], n)
            write_json(output, about, runs)
        summary = Summary(run.points)
        print(f'\n## {mode}\n\n{table(summary)}\n', flush=True)
        for line in misses(summary, LINEAR, FAST):
            print(f'- {line}', flush=True)
    if not args.no_plot:
        plot(
            {m: Summary(r.points) for m, r in runs.items()},
            title,
            output.with_suffix('.png'),
        )


if __name__ == '__main__':
    main()
