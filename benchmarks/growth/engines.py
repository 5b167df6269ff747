"""How each framework compiles a layer, runs it, and tells its memory."""

import functools
import gc
import os
import platform
import re
import tempfile
from pathlib import Path

import keras
import numpy as np


class Engine:
    """Compiles layers on one framework.

    `compile(layer, inputs, target, train)` returns (run, memory): run() does one
    forward pass, or with `train` also the backward pass from `target`, the gradient of
    the output, to the inputs and the weights, and waits for the end; memory() tells its
    peak in bytes above the inputs and weights, results included, or None.
    """

    memory_from = ''

    def device(self):
        """The name of what computes."""
        cpu = platform.processor() or platform.machine()
        for line in _lines('/proc/cpuinfo'):
            if line.startswith('model name'):
                cpu = line.split(':')[1].strip()
                break
        return f'{cpu}, {len(os.sched_getaffinity(0))} cores'

    def fused(self):
        """{name: function(q, k, v, is_causal)}: softmax attention it offers itself."""
        return {'keras.ops': keras.ops.dot_product_attention}

    def forget(self):
        """Drop what was compiled."""
        keras.backend.clear_session()
        gc.collect()


class JAX(Engine):
    """Compiled ahead; the compiler says how much memory it laid out."""

    memory_from = 'jax compiled.memory_analysis(): temporaries and results'

    def device(self):
        """The name of what computes."""
        import jax

        found = jax.devices()[0]
        return super().device() if found.platform == 'cpu' else found.device_kind

    def fused(self):
        """jax.nn's, through XLA and, on a GPU, through cuDNN."""
        import jax

        whole = jax.nn.dot_product_attention
        found = {'jax.nn': whole}
        if jax.devices()[0].platform == 'gpu':
            found['cuDNN'] = functools.partial(whole, implementation='cudnn')
        return found

    def compile(self, layer, inputs, target, train):
        """See `Engine`."""
        import jax

        weights = [x.value for x in layer.trainable_variables]
        state = [x.value for x in layer.non_trainable_variables]

        def forward(weights, state, inputs, target):
            return layer.stateless_call(weights, state, *inputs, training=False)

        def step(weights, state, inputs, target):
            def outputs(weights, inputs):
                out, new, losses = layer.stateless_call(
                    weights, state, *inputs, training=True, return_losses=True
                )
                return (out, sum(losses, 0.0 * out.sum())), new

            (out, loss), back, new = jax.vjp(outputs, weights, inputs, has_aux=True)
            return (
                out,
                new,
                back((target.reshape(out.shape), jax.numpy.ones_like(loss))),
            )

        arguments = weights, state, inputs, target
        function = jax.jit(step if train else forward).lower(*arguments).compile()
        found = function.memory_analysis()

        def memory():
            return found.temp_size_in_bytes + found.output_size_in_bytes

        return lambda: jax.block_until_ready(function(*arguments)), memory

    def forget(self):
        """Drop what was compiled."""
        import jax

        super().forget()
        jax.clear_caches()


class Torch(Engine):
    """Eager, as Keras runs it; with `compiled`, through torch.compile."""

    def __init__(self, compiled=False):
        import torch

        self.compiled = compiled
        self.gpu = torch.cuda.is_available()
        os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # else each profile says so
        self.memory_from = 'all that torch.profiler saw allocated and freed'
        if self.gpu:
            self.memory_from = 'torch.cuda.max_memory_allocated()'

    def device(self):
        """The name of what computes."""
        import torch

        return torch.cuda.get_device_name() if self.gpu else super().device()

    def fused(self):
        """scaled_dot_product_attention, which picks the best kernel itself."""
        from torch.nn import functional

        def attend(q, k, v, is_causal):
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            mix = functional.scaled_dot_product_attention
            return mix(q, k, v, is_causal=is_causal).transpose(1, 2)

        return {'torch SDPA': attend}

    def compile(self, layer, inputs, target, train):
        """See `Engine`."""
        import torch

        weights = [x.value for x in layer.trainable_variables]
        call = torch.compile(layer) if self.compiled else layer

        def forward():
            with torch.no_grad():
                return call(*inputs, training=False)

        def step():
            with torch.enable_grad():
                sources = [x.detach().requires_grad_() for x in inputs]
                out = call(*sources, training=True)
                ends, grads = [out], [target.reshape(out.shape)]
                for loss in layer.losses:
                    ends.append(loss)
                    grads.append(torch.ones_like(loss))
                sources += weights
                return out, torch.autograd.grad(ends, sources, grads, allow_unused=True)

        def run():
            result = step() if train else forward()
            if self.gpu:
                torch.cuda.synchronize()
            return result

        return run, lambda: self._allocated(run) if self.gpu else self._seen(run)

    def _seen(self, run):
        from torch import profiler

        cpu = [profiler.ProfilerActivity.CPU]
        with profiler.profile(activities=cpu, profile_memory=True) as found:
            run()
        events = found.profiler.kineto_results.events()
        events = [e for e in events if e.name() == '[memory]']
        now = peak = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            now += event.nbytes()
            peak = max(peak, now)
        return peak

    def _allocated(self, run):
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before

    def forget(self):
        """Drop what was compiled, and the memory kept for later."""
        import torch

        super().forget()
        torch.compiler.reset()
        if self.gpu:
            torch.cuda.empty_cache()


class TensorFlow(Engine):
    """A tf.function compiled by XLA, as Keras trains."""

    memory_from = "XLA's buffer assignment: temporaries and results"

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix='attention_growth_')
        flags = f'--xla_dump_to={self.folder.name} --xla_dump_hlo_as_text'
        os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flags}'.strip()

    def device(self):
        """The name of what computes."""
        import tensorflow as tf

        for first in tf.config.list_physical_devices('GPU'):
            return tf.config.experimental.get_device_details(first)['device_name']
        return super().device()

    def compile(self, layer, inputs, target, train):
        """See `Engine`."""
        import tensorflow as tf

        weights = [x.value for x in layer.trainable_variables]

        @tf.function(jit_compile=True)
        def forward(inputs, target):
            return layer(*inputs, training=False)

        @tf.function(jit_compile=True)
        def step(inputs, target):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                out = layer(*inputs, training=True)
                ends = [out, *layer.losses]
            grads = [tf.reshape(target, out.shape), *map(tf.ones_like, ends[1:])]
            sources = [*inputs, *weights]
            return out, tape.gradient(ends, sources, output_gradients=grads)

        function = step if train else forward

        def run():
            result = function(inputs, target)
            tf.test.experimental.sync_devices()
            return result

        self._laid_out()  # by what was compiled before
        run()
        found = self._laid_out()
        return run, lambda: found

    def _laid_out(self):
        """Bytes of the largest program compiled since; all that was written goes."""
        sizes = [0]
        for path in Path(self.folder.name).iterdir():
            if path.name.endswith('buffer-assignment.txt'):
                text = path.read_text()
                sizes.append(sum(int(size) for size in ALLOCATED.findall(text)))
            path.unlink()
        return max(sizes) or None


ALLOCATED = re.compile(r'^allocation \d+: size (\d+),.*(?:temp|maybe-live-out)', re.M)


def make_engine(torch_compile=False):
    """The engine of the backend that Keras runs on."""
    backend = keras.backend.backend()
    if backend == 'torch':
        return Torch(torch_compile)
    return {'jax': JAX, 'tensorflow': TensorFlow}[backend]()


def _lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def draw_inputs(n, heads, size, batch, dtype):
    """q, k, v and the gradient of the output, (b, n, h, d) of N(0, 1)."""
    draw = np.random.default_rng(0)
    shape = batch, n, heads, size
    arrays = [draw.standard_normal(shape, 'float32') for _ in range(4)]
    *inputs, target = (keras.ops.cast(x, dtype) for x in arrays)
    return inputs, target
