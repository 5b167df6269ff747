"""A contender's process: reads 'step' and 'epoch' from its parent, answers in JSON.

python worker.py MODULE CLASS SPEC.json
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
answers = os.fdopen(os.dup(1), 'w')
os.dup2(2, 1)  # what frameworks print is no answer
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def answer(**what):
    print(json.dumps(what), file=answers, flush=True)


def peak():
    """The most memory that the process has had, in MiB."""
    lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if 'VmHWM' in line)


def main(module, name, path):
    from contenders.rows import make_rows

    spec = json.loads(Path(path).read_text(encoding='utf-8'))
    rows = make_rows(spec['lengths'], spec['config']['vocab_size'], spec['task'])
    full = [spec['length']] * spec['step_size']
    steps = make_rows(full, spec['config']['vocab_size'], spec['task'], seed=1)
    begun = time.perf_counter()
    contender = getattr(importlib.import_module(f'contenders.{module}'), name)(
        spec, rows
    )
    for _ in range(2):
        contender.step(steps)
    if spec['lengths']:
        contender.warm_up()
    answer(ready=time.perf_counter() - begun, parameters=int(contender.parameters))
    for order in sys.stdin:
        begun, loss = time.perf_counter(), None
        if order.strip() == 'step':
            loss = contender.step(steps)
        else:
            contender.epoch()
        answer(seconds=time.perf_counter() - begun, loss=loss, peak=peak())


if __name__ == '__main__':
    main(*sys.argv[1:])
