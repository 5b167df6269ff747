"""What opening a checkpoint costs: memory above the model itself, and seconds.

Writes random checkpoints, opens each in a process of its own, here on the backend that
KERAS_BACKEND names and beside it with transformers' `from_pretrained`, and compares the
outputs of the two.

How memory is counted.  This process looks at the other's /proc/<pid>/status some
hundred times a second.  'private' is the peak of RssAnon, memory that nobody else can
have; 'resident' is VmHWM, all pages in memory, those of the mapped file among them,
which the system drops whenever it needs the room.  Of both, what was there right before
the call is taken away, after a tiny checkpoint was opened and run (--cold: without
that), for libraries load their parts when first used.  Both are given in sizes of the
model's own weights: 1.00 is the model and nothing else, and 'above' is what exceeds 1.
The target is at most 1.2 above, whichever way one counts.

transformers may leave weights in the mapped file, in place of memory of their own; its
'private' is then below 1.  Needs Linux.
"""

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np

from keraseff.checkpoints import Checkpoint
from keraseff.checkpoints import write_safetensors
from keraseff.checkpoints.base import Stored

BERT = {
    'model_type': 'bert',
    'architectures': ['BertModel'],
    'vocab_size': 21128,
    'hidden_size': 768,
    'num_hidden_layers': 12,
    'num_attention_heads': 12,
    'intermediate_size': 3072,
    'hidden_act': 'gelu',
    'hidden_dropout_prob': 0.0,
    'attention_probs_dropout_prob': 0.0,
    'max_position_embeddings': 512,
    'type_vocab_size': 2,
    'dtype': 'float32',
}
QWEN = {
    'model_type': 'qwen2',
    'architectures': ['Qwen2ForCausalLM'],
    'vocab_size': 151936,
    'hidden_size': 896,
    'num_hidden_layers': 24,
    'num_attention_heads': 14,
    'num_key_value_heads': 2,
    'intermediate_size': 4864,
    'hidden_act': 'silu',
    'max_position_embeddings': 32768,
    'rms_norm_eps': 1e-6,
    'rope_theta': 1e6,
    'tie_word_embeddings': True,
    'dtype': 'bfloat16',
}
TINY = {'vocab_size': 64, 'num_hidden_layers': 1, 'intermediate_size': 32}
TINY |= {'hidden_size': 16, 'num_attention_heads': 2}
# The base of each model in Keras, and how transformers calls it.
SHAPES = {'bert': (BERT, {}, 'AutoModel', 'last_hidden_state')}
SHAPES['qwen2'] = (QWEN, {'with_lm': 'linear'}, 'AutoModelForCausalLM', 'logits')


def bert_shapes(config):
    """{tensor: shape} of a BERT without heads."""
    e, u = config['hidden_size'], config['intermediate_size']
    found = {
        f'embeddings.{kind}_embeddings.weight': (config[size], e)
        for kind, size in (
            ('word', 'vocab_size'),
            ('position', 'max_position_embeddings'),
            ('token_type', 'type_vocab_size'),
        )
    }
    norms = {'embeddings.LayerNorm': e}
    linear = {'pooler.dense': (e, e)}
    for i in range(config['num_hidden_layers']):
        layer = f'encoder.layer.{i}.'
        for name in ('self.query', 'self.key', 'self.value', 'output.dense'):
            linear[f'{layer}attention.{name}'] = (e, e)
        linear[f'{layer}intermediate.dense'] = (u, e)
        linear[f'{layer}output.dense'] = (e, u)
        norms[f'{layer}attention.output.LayerNorm'] = e
        norms[f'{layer}output.LayerNorm'] = e
    for name, shape in linear.items():
        found |= {f'{name}.weight': shape, f'{name}.bias': shape[:1]}
    for name, size in norms.items():
        found |= {f'{name}.weight': (size,), f'{name}.bias': (size,)}
    return {f'bert.{name}': shape for name, shape in found.items()}


def qwen2_shapes(config):
    """{tensor: shape} of a Qwen2 whose head is tied."""
    e, u = config['hidden_size'], config['intermediate_size']
    kv = e // config['num_attention_heads'] * config['num_key_value_heads']
    found = {'embed_tokens.weight': (config['vocab_size'], e), 'norm.weight': (e,)}
    for i in range(config['num_hidden_layers']):
        layer = f'layers.{i}.'
        for name, units in (('q', e), ('k', kv), ('v', kv)):
            found[f'{layer}self_attn.{name}_proj.weight'] = (units, e)
            found[f'{layer}self_attn.{name}_proj.bias'] = (units,)
        found[f'{layer}self_attn.o_proj.weight'] = (e, e)
        found[f'{layer}mlp.gate_proj.weight'] = (u, e)
        found[f'{layer}mlp.up_proj.weight'] = (u, e)
        found[f'{layer}mlp.down_proj.weight'] = (e, u)
        found[f'{layer}input_layernorm.weight'] = (e,)
        found[f'{layer}post_attention_layernorm.weight'] = (e,)
    return {f'model.{name}': shape for name, shape in found.items()}


def random_tensor(name, shape, dtype):
    """Small random numbers, those of a normalisation around 1."""
    draw = np.random.default_rng(len(name))
    block = 0.02 * draw.standard_normal(min(math.prod(shape), 1 << 20), 'float32')
    if 'norm' in name.lower() and name.endswith('weight'):
        block += 1
    return np.resize(block.astype(dtype), shape)


def write_checkpoint(folder, config):
    """A random checkpoint and its config.json, tensor by tensor, in shards."""
    shapes = {'bert': bert_shapes, 'qwen2': qwen2_shapes}[config['model_type']]
    dtype = config['dtype']
    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == 'bfloat16' else dtype)
    stored = {
        name: Stored(shape, dtype, partial(random_tensor, name, shape, dtype))
        for name, shape in shapes(config).items()
    }
    write_safetensors(
        folder / 'model.safetensors',
        Checkpoint(None, 'huggingface', stored),
        metadata={'format': 'pt'},
        max_shard_size='300MB',
    )
    (folder / 'config.json').write_text(json.dumps(config), encoding='utf-8')


def open_ours(shape):
    """(open, run, size) of keraseff on the backend that KERAS_BACKEND names."""
    from keraseff.models import build_transformer_model

    config, options, _, _ = SHAPES[shape]

    def opened(folder):
        dtype = config['dtype']
        return build_transformer_model(folder, folder, dtype=dtype, **options)

    def run(model, ids):
        inputs = [ids, np.zeros_like(ids)][: len(model.inputs)]
        return model.predict_on_batch(inputs if len(inputs) > 1 else ids)

    def size(model):
        item = {'bfloat16': 2, 'float32': 4}
        return sum(math.prod(v.shape) * item[str(v.dtype)] for v in model.variables)

    return opened, run, size


def open_theirs(shape):
    """(open, run, size) of transformers."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config, _, kind, output = SHAPES[shape]

    def opened(folder):
        loader = getattr(transformers, kind)
        return loader.from_pretrained(folder, dtype=config['dtype']).eval()

    def run(model, ids):
        with torch.no_grad():
            found = model(input_ids=torch.from_numpy(ids).long())[output]
        return found.float().numpy()

    def size(model):
        return sum(p.numel() * p.element_size() for p in model.parameters())

    return opened, run, size


def read_memory(pid):
    """{'VmHWM': bytes, 'VmRSS': …, 'RssAnon': …} of a process; {} when it is gone."""
    try:
        lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    except (OSError, ProcessLookupError):
        return {}
    pairs = (line.split(':', 1) for line in lines)
    wanted = ('VmHWM', 'VmRSS', 'RssAnon')
    return {key: int(text.split()[0]) * 1024 for key, text in pairs if key in wanted}


def child(args):
    """Open and run one checkpoint; the last line printed is what was found, as JSON."""
    opened, run, size = {'ours': open_ours, 'theirs': open_theirs}[args.child](
        args.shape
    )
    if not args.cold:
        run(opened(args.folder / 'tiny'), np.ones((1, 4), 'int32'))
    gc.collect()
    before, start = read_memory(os.getpid()), time.monotonic()
    model = opened(args.folder / 'full')
    end, after = time.monotonic(), read_memory(os.getpid())
    ids = np.arange(1, args.length + 1, dtype='int32')[None]
    out, seconds = run(model, ids), []
    for _ in range(args.passes):
        begin = time.monotonic()
        run(model, ids)
        seconds.append(time.monotonic() - begin)
    np.save(args.folder / f'{args.child}.npy', np.asarray(out, 'float32'))
    found = {
        'before': before,
        'after': after,
        'span': [start, end],
        'size': size(model),
        'pass': statistics.median(seconds),
    }
    print(json.dumps(found))


def measure(args, who):
    """Run the child, watching its memory; its findings and the peak of RssAnon."""
    command = [sys.executable, __file__, '--child', who, '--shape', args.shape]
    command += ['--folder', str(args.folder), '--length', str(args.length)]
    command += ['--passes', str(args.passes)] + ['--cold'] * args.cold
    seen = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            memory = read_memory(process.pid)
            if 'RssAnon' in memory:
                seen.append((time.monotonic(), memory['RssAnon']))
            time.sleep(0.002)
        printed = process.stdout.read().strip()
    if process.returncode:
        raise SystemExit(f'opening by {who} failed (exit {process.returncode})')
    found = json.loads(printed.splitlines()[-1])
    start, end = found['span']
    during = [anon for moment, anon in seen if start <= moment <= end]
    found['looks'] = len(during)
    found['private'] = max([*during, found['after']['RssAnon']])
    return found


def show(name, found):
    """One line of the table."""
    size, before = found['size'], found['before']
    private = (found['private'] - before['RssAnon']) / size
    resident = (found['after']['VmHWM'] - before['VmRSS']) / size
    seconds = found['span'][1] - found['span'][0]
    print(
        f'{name:24s} {size / 1e6:7.0f} MB {private:8.2f} {private - 1:6.2f}'
        f' {resident:9.2f} {resident - 1:6.2f} {seconds:8.1f} s'
        f' {found["pass"]:7.2f} s {found["looks"]:6d}'
    )


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--shape',
        choices=sorted(SHAPES),
        help='BERT-base in float32, or Qwen2-0.5B in bfloat16, tied; by default both',
    )
    parser.add_argument(
        '--layers', type=int, help='in place of 12 and 24, for a smaller trial'
    )
    parser.add_argument('--cold', action='store_true', help='no tiny model before')
    parser.add_argument(
        '--alone', action='store_true', help='do without transformers beside it'
    )
    parser.add_argument(
        '--length', type=int, default=64, help='tokens of a pass (%(default)s)'
    )
    parser.add_argument(
        '--passes', type=int, default=3, help='timed, after a first (%(default)s)'
    )
    parser.add_argument(
        '--folder', type=Path, help='where to write, about 1.5 GB; a temporary one'
    )
    parser.add_argument('--child', choices=['ours', 'theirs'], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    backend = os.environ.get('KERAS_BACKEND', 'tensorflow')
    print(
        f'{"":24s} {"model":>10s} {"private":>8s} {"above":>6s} {"resident":>9s} '
        f'{"above":>6s} {"opening":>10s} {"a pass":>9s} {"looks":>6s}'
    )
    folder = args.folder
    for shape in [args.shape] if args.shape else sorted(SHAPES):
        args.shape = shape
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            args.folder = Path(scratch)
            compare(args, backend)


def compare(args, backend):
    """Write a shape's checkpoints, open them both ways, compare and print."""
    config = SHAPES[args.shape][0]
    if args.layers:
        config = config | {'num_hidden_layers': args.layers}
    for name, changes in (('full', {}), ('tiny', TINY)):
        (args.folder / name).mkdir()
        write_checkpoint(args.folder / name, config | changes)
    show(f'{args.shape}, {backend}', measure(args, 'ours'))
    if args.alone:
        return
    show(f'{args.shape}, transformers', measure(args, 'theirs'))
    ours, theirs = (np.load(args.folder / f'{w}.npy') for w in ('ours', 'theirs'))
    apart = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f'  outputs differ by {apart:.1e} of the largest')
    if apart > {'float32': 1e-4, 'bfloat16': 0.1}[config['dtype']]:
        raise SystemExit('The outputs differ, so the figures mean nothing.')


if __name__ == '__main__':
    main()
