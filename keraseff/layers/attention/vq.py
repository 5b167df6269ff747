"""Transformer-VQ: attention in linear time by a codebook of keys."""

import functools

import numpy as np
from keras import backend
from keras import ops

from keraseff import backends
from keraseff.layers.attention.mechanism import Mechanism
from keraseff.layers.attention.quantizer import VectorQuantizer
from keraseff.layers.base import check_sizes
from keraseff.layers.dropout import Dropout
from keraseff.ops.blocks import in_blocks
from keraseff.ops.blocks import out_of_blocks
from keraseff.ops.blocks import with_neighbours
from keraseff.ops.codebook import against_codes
from keraseff.ops.codebook import code_means
from keraseff.ops.codebook import counted_values
from keraseff.ops.codebook import log_counts
from keraseff.ops.codebook import mix_fused
from keraseff.ops.codebook import sums_before
from keraseff.ops.codebook import sums_behind
from keraseff.ops.codebook import tally_codes
from keraseff.ops.masking import masked_value


class TransformerVQ(Mechanism):
    """softmax(q K̂ᵀ + B) v, exactly, with keys K̂ that are codes: in linear time.

    Keys of one code have one weight, so of all that lie far back a query needs, for
    each code, how many there are and the mean of their values.  In blocks of L steps,

        softmax([q Cᵀ + log counts | q K̂ᵀ + B of the block before | and of its own])

    weighs means and values, where counts and means are of the blocks before those two.
    In an encoder the block behind counts as near too, and the rest is all others.

    Training: see `VectorQuantizer` for the codebook; keys learn by the straight-through
    gradient of near blocks and the commitment loss.  Outside of training, and without
    rotation and local bias, the block before counts by its codes as well, and an
    encoder skips the blocks: the outputs are the same, the gradients of those keys are
    not there.  On PyTorch one fused kernel mixes both parts, in float32 and without
    rotation, local bias and dropout.

    Positions: none by itself.  With `Rotary`, unrotated keys are quantised; queries and
    codes of near blocks are rotated by their positions, and towards all that lies
    further the query is turned by L steps once and for all, the idea of ReRoPE.

    Args:
        codes: S, the number of codes of each head.
        block: L, steps of a block.
        beta: weight of the commitment loss.
        gamma: how much of the codebook a training step keeps.
        initialisation, restart: of the codebook, see `VectorQuantizer`; one that was
            not trained can be filled by `fit_codebook`.
        local_bias: learn B, a number for each head and distance 0 … 2L - 1, zero at
            first; the paper has Transformer-XL's relative bias.
        cache_gradient: let gradients reach the values that lie further back; the
            paper does not.  In an encoder they always do.
        dropout: share of the weights dropped while training, a code's at once.

    Steps and segments: `start`, `step`, and `extend` for several steps at a time.

    q (b, n, h, d), k (b, n, h, d), v (b, n, h, d_v) -> (b, n, h, d_v); time and memory
    n (S + 2L), and n S / L for the means.
    Lingle, 2023, https://arxiv.org/abs/2309.16354, https://kexue.fm/archives/9844;
    ReRoPE https://kexue.fm/archives/9708
    """

    one_sequence = True
    turns_far = True
    turns_itself = True

    def __init__(
        self,
        codes=256,
        block=128,
        beta=1e-4,
        gamma=0.99,
        initialisation='data',
        restart=0.0,
        local_bias=False,
        cache_gradient=False,
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.codes = codes
        self.block = block
        self.beta = beta
        self.gamma = gamma
        self.initialisation = initialisation
        self.restart = restart
        self.local_bias = local_bias
        self.cache_gradient = cache_gradient
        self.dropout = dropout or 0.0
        check_sizes(block=block)
        self.quantizer = VectorQuantizer(
            codes,
            gamma,
            beta,
            initialisation,
            restart,
            dtype=self.dtype_policy,
            name='quantizer',
        )
        self.drop = Dropout(dropout, dtype='float32') if dropout else None

    def build(self, q_shape, k_shape, v_shape):
        """Make the codebook, and the local bias if there is one."""
        self.quantizer.build(k_shape)
        if self.local_bias:
            self.bias = self.add_weight(
                shape=(k_shape[2], 2 * self.block), initializer='zeros', name='bias'
            )

    def call(self, q, k, v, where, rotation=None, training=None):
        """The mixed values (b, n, h, d_v)."""
        k, z, codes = self.quantizer(k, real=where.padding, training=training)
        n, real = ops.shape(v)[1], where.padding
        real = ops.ones((1, n), 'float32') if real is None else real
        real = ops.cast(real, 'float32')
        plain = not (training or rotation or self.local_bias)
        if plain and not where.causal:
            return self._whole(q, z, codes, v, real)
        q, k, *far = self._turned(q, k, rotation, where.causal)
        near = 0 if plain else 1  # a block's keys are their codes
        return self._blockwise(q, far, k, z, codes, v, real, where.causal, near=near)

    def _turned(self, q, k, rotation, causal):
        """Rotated queries and keys, then queries for all that lies further."""
        if rotation is None:
            return q, k, q
        far = [rotation.by(q, self.block)]
        if not causal:
            far.append(rotation.by(q, -self.block))
        return *rotation.pair(q, k), *far

    def _whole(self, q, z, codes, v, real):
        """exp(q Cᵀ) (Δᵀ v), normalised, over the whole text at once."""
        z, q, values = (_heads_first(x) for x in (z, q, v))
        sums, counts = tally_codes(z, values, real[:, None], self.codes)
        logits = against_codes(q, codes) + log_counts(counts)[..., None, :]
        mixed = self._weighted([logits], [code_means(sums, counts)], v.dtype)
        return _heads_first(mixed)

    def _blockwise(self, q, far, k, z, codes, v, real, causal, past=None, near=1):
        """Near blocks key by key, and what lies further code by code.

        Args:
            far: queries for what lies before and, in an encoder, behind; one for both
                if they are the same.
            real: (b or 1, n) float32.
            past: sums and counts of the codes before the first step.
            near: how many of the blocks beside its own a query sees key by key.
        """
        n, size = ops.shape(v)[1], self.block
        one, width = len(far) == 1 and far[0] is q, v.shape[-1]
        fuses = one and self._fuses(v)
        q, k, v = (in_blocks(x, size) for x in (q, k, v))  # (b, g, h, L, d)
        z = in_blocks(z[..., None], size)[..., 0]
        real = in_blocks(real[..., None, None], size)[..., 0]  # (b or 1, g, 1, L)
        around = (near, 0 if causal else near)
        if fuses:
            v = counted_values(v, 1.0, q.shape[-1])
            past = past and [counted_values(*past, q.shape[-1])]
        tallies = list(tally_codes(z, v, real, self.codes))
        if not self.cache_gradient and causal:
            tallies[0] = ops.stop_gradient(tallies[0])
        rest = self._rest(tallies[:1] if fuses else tallies, past, len(far), around)
        if fuses:
            mixed = mix_fused(q, k, v, codes, *rest[0], real, around, causal)
            return mixed[:, :n, :, :width]
        logits, means = [], []
        for queries, (some, many) in zip(far, rest, strict=True):
            queries = q if one else in_blocks(queries, size)
            scores = against_codes(queries, codes)
            logits.append(scores + log_counts(many)[..., None, :])
            means.append(code_means(some, many))
        logits.append(self._near(q, with_neighbours(k, *around, 3), real, around))
        values = with_neighbours(v, *around, 3)
        mixed = self._weighted(logits, [*means, values], v.dtype)
        return out_of_blocks(mixed, n)

    def _fuses(self, v):
        """Whether one kernel can do it."""
        bare = self.drop is None and not self.local_bias
        single = backend.standardize_dtype(v.dtype) == 'float32'
        return bare and single and backends.fuses_attention()

    def _near(self, q, k, real, around):
        """Logits (b, g, h, L, keys) of near blocks, what is unseen very low."""
        size = self.block
        before, after = around
        keys = np.arange(-before * size, (1 + after) * size)
        behind = np.arange(size)[:, None] - keys  # (L, keys)
        scores = ops.cast(ops.einsum('bghld,bghnd->bghln', q, k), 'float32')
        if self.local_bias:
            rows = np.abs(behind).astype('int32')
            bias = ops.take(ops.cast(self.bias, 'float32'), rows, axis=1)
            scores = scores + bias
        seen = with_neighbours(real, *around, 3)[..., None, :] > 0
        if not after:
            seen = ops.logical_and(seen, behind >= 0)
        return ops.where(seen, scores, masked_value('float32'))

    def _rest(self, tallies, past, parts, around):
        """Sums and counts of all but near blocks, in as many parts as asked for."""
        before = [sums_before(x, around[0]) for x in tallies]
        if past is not None:
            before = [x + y[:, None] for x, y in zip(before, past, strict=True)]
        if not around[1]:
            return [before]
        behind = [sums_behind(x, around[1]) for x in tallies]
        if parts == 2:
            return [before, behind]
        return [[x + y for x, y in zip(before, behind, strict=True)]]

    def _weighted(self, logits, values, dtype):
        """Values by one softmax over all logits; each list holds parts of the keys."""
        tops = [ops.max(x, axis=-1, keepdims=True) for x in logits]
        top = ops.stop_gradient(functools.reduce(ops.maximum, tops))
        weights = [ops.exp(x - top) for x in logits]
        total = sum(ops.sum(x, axis=-1, keepdims=True) for x in weights)
        # In half precision a sum of undivided weights could overflow.
        early = backend.standardize_dtype(dtype) != 'float32'
        mixed = 0
        for w, x in zip(weights, values, strict=True):
            w = self.drop(w) if self.drop else w
            w = ops.cast(w / total, dtype) if early else w
            mixed = mixed + ops.matmul(w, ops.cast(x, dtype))
        return mixed if early else mixed / total

    # One step, or some steps, at a time

    def start(self, batch, length, heads, key_size, value_size):
        """The state before the first step; its size does not depend on `length`."""
        span, dtype = 2 * self.block, self.compute_dtype
        return {
            'k': ops.zeros((batch, heads, span, key_size), dtype),
            'v': ops.zeros((batch, heads, span, value_size), dtype),
            'z': ops.zeros((batch, heads, span), 'int32'),
            'sums': ops.zeros((batch, heads, self.codes, value_size), 'float32'),
            'counts': ops.zeros((batch, heads, self.codes), 'float32'),
        }

    def step(self, q, k, v, t, state, rotation=None):
        """Row t of the causal `call`, and the next state.

        Two blocks of keys and values go round.  A step takes the place of the one that
        is 2L older, which from then on is known by its code; of those that are still
        there, but of no near block any more, the keys are read as their codes already.
        """
        t, span = ops.cast(t, 'int32'), 2 * self.block
        k, z, codes = self.quantizer(k, training=False)
        q, k, far = (_heads_first(x) for x in self._turned(q, k, rotation, True))
        slots = ops.arange(span, dtype='int32')
        here = slots == t % span
        old = [ops.take(state[x], ops.reshape(t % span, (1,)), axis=2) for x in 'zv']
        state = self._counted(state, *old, t >= span)
        new = {'k': k, 'v': _heads_first(v)}
        for name, x in new.items():
            x = ops.cast(x, state[name].dtype)
            state[name] = ops.where(here[:, None], x, state[name])
        state['z'] = ops.where(here, _heads_first(z), state['z'])
        age = (t - slots) % span
        further = against_codes(far, codes)  # (b, h, 1, S)
        near = self._near_step(q, further, state, age, t)
        logits = [further + log_counts(state['counts'])[..., None, :], near]
        means = code_means(state['sums'], state['counts'])
        mixed = self._weighted(logits, [means, state['v']], v.dtype)
        return _heads_first(mixed), state

    def _near_step(self, q, further, state, age, t):
        """Logits (b, h, 1, 2L) of the keys that are kept one by one."""
        keys = ops.cast(state['k'], q.dtype)
        scores = ops.cast(ops.einsum('bhld,bhnd->bhln', q, keys), 'float32')
        if self.local_bias:
            bias = ops.take(ops.cast(self.bias, 'float32'), age, axis=1)
            scores = scores + bias[:, None]
        coded = ops.take_along_axis(further, state['z'][:, :, None], axis=-1)
        first = (t // self.block - 1) * self.block  # step of the near blocks
        scores = ops.where(t - age >= first, scores, coded)
        return ops.where(age <= t, scores, masked_value('float32'))

    def _counted(self, state, z, v, real):
        """The state with more keys known by their codes: z, v (b, h, n, …)."""
        sums, counts = tally_codes(z, v, real, self.codes)
        return {
            **state,
            'sums': state['sums'] + sums,
            'counts': state['counts'] + counts,
        }

    def extend(self, q, k, v, t, state, rotation=None):
        """Rows t, t + 1, … of the causal `call` at once, and the state after them.

        For texts that come in segments of any length; q, k, v are (b, m, h, d) and
        `rotation` is of these m steps.
        """
        t, span, m = ops.cast(t, 'int32'), 2 * self.block, ops.shape(v)[1]
        k, z, codes = self.quantizer(k, training=False)
        q, k, far = self._turned(q, k, rotation, True)
        order = (ops.arange(span, dtype='int32') + t) % span  # from old to new
        new = {'k': k, 'v': v, 'z': z}
        kept = {x: _appended(state[x], order, new[x]) for x in new}
        there = ops.arange(span + m, dtype='int32') >= span - t
        # In front, so many places that blocks begin where they do in one pass.
        at = ops.arange(span + m + self.block - 1, dtype='int32') - t % self.block
        inside = ops.logical_and(at >= 0, at < span + m)
        at = ops.clip(at, 0, span + m - 1)
        real = ops.logical_and(inside, ops.take(there, at))[None]
        k, v, z = (_heads_first(ops.take(kept[x], at, axis=2)) for x in 'kvz')
        ahead = ops.clip(at - span, 0, m - 1)
        q, far = (ops.take(x, ahead, axis=1) for x in (q, far))
        past = (state['sums'], state['counts'])
        real = ops.cast(real, 'float32')
        mixed = self._blockwise(q, [far], k, z, codes, v, real, True, past)
        rows = ops.arange(m, dtype='int32') + span + t % self.block
        state = self._counted(
            state, kept['z'][:, :, :m], kept['v'][:, :, :m], there[:m]
        )
        back = (ops.arange(span, dtype='int32') - t - m) % span
        for name in new:
            state[name] = ops.take(kept[name], back + m, axis=2)
        return ops.take(mixed, rows, axis=1), state


def _heads_first(x):
    """(b, n, h, …) -> (b, h, n, …), and back."""
    return ops.swapaxes(x, 1, 2)


def _appended(cache, order, x):
    """What a cache (b, h, 2L, …) holds, in order, and then x (b, m, h, …)."""
    x = _heads_first(ops.cast(x, cache.dtype))
    return ops.concatenate([ops.take(cache, order, axis=2), x], axis=2)
