"""What attention layers share: a mechanism, a position and a mask, put together."""

import math

from keras import ops

from keraseff.layers.attention.mask import Mask
from keraseff.layers.attention.mechanism import Rotation
from keraseff.layers.attention.mechanisms import get_mechanism
from keraseff.layers.base import Layer
from keraseff.layers.position import get_position
from keraseff.layers.shapes import ROOM
from keraseff.layers.shapes import check_attended
from keraseff.layers.shapes import check_built
from keraseff.layers.shapes import check_mixed
from keraseff.layers.shapes import check_padding
from keraseff.layers.shapes import with_room


class Attention(Layer):
    """The base of `MultiHeadAttention` and `GatedAttentionUnit`.

    A subclass makes queries, keys and values and hands them to `mix`, or one step of
    them to `mix_step`; here the mechanism, the position and the mask do their parts.
    """

    def _assemble(self, mechanism, position, heads, causal, **options):
        """Keep the parts, and refuse those that do not go together.

        Args:
            mechanism, position: names, instances, or None for no position.
            heads: number of heads of the queries.
            options: mechanism_options, position_options, attention_scale,
                attention_dropout, logn, window, sinks, return_attention_scores,
                each of them an argument of the subclass.
        """
        for key, value in options.items():
            setattr(self, key, value)
        self.attention_dropout = options.get('attention_dropout') or 0.0
        mechanism = get_mechanism(
            mechanism,
            self.attention_dropout,
            self.dtype_policy,
            self.mechanism_options,
        )
        self.position = get_position(
            position, self.key_size, heads, self.position_options, causal
        )
        # From here on they are the parts' own.
        self.mechanism_options = self.position_options = None
        self.causal = causal
        self._check_parts(mechanism)
        return mechanism

    def _check_parts(self, mechanism):
        name = type(mechanism).__name__
        if self.causal and not mechanism.can_be_causal:
            raise ValueError(
                f'{name} sees the whole text at once and cannot be causal.  Use it in '
                'an encoder, or another mechanism here, such as linear.'
            )
        if self.position is not None and self.position.causal_only and not self.causal:
            raise ValueError(
                f'{type(self.position).__name__} makes no sense of later keys; use it '
                'with causal=True, or Rotary.'
            )
        if (
            self.position is not None
            and mechanism.turns_far
            and not self.position.turns
        ):
            raise ValueError(
                f'{name} turns queries towards all that is far at once, which '
                f'{type(self.position).__name__} cannot do here; use Rotary.'
            )
        self._check_numbers()
        if self.sinks and self.window is None:
            raise ValueError(
                f'sinks={self.sinks} are the keys that a window does not hide; give '
                'window as well.'
            )
        if not mechanism.forms_scores:
            self._refuse_scores(name)
        if not mechanism.compares and self.position is not None:
            raise ValueError(
                f'{name} compares no queries with keys, so it has no use for '
                f'{type(self.position).__name__}; leave position out.'
            )

    def _check_numbers(self):
        for name, least, why in (
            ('window', 1, 'how many steps a query sees, itself among them'),
            ('logn', 2, 'the length of the texts seen in training'),
            ('sinks', 0, 'how many of the first keys are seen in any case'),
        ):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and value >= least):
                raise ValueError(
                    f'{name}={value!r} must be a whole number of {least} or more: '
                    f'{why}.'
                )

    def _refuse_scores(self, name):
        if self.position is not None and self.position.needs_scores:
            raise ValueError(
                f'{type(self.position).__name__} works on the score matrix, but {name} '
                "never forms one.  Use position='rotary' instead."
            )
        if self.return_attention_scores:
            raise ValueError(
                f'{name} never forms the score matrix that return_attention_scores '
                'asks for.  Use a mechanism that does, such as softmax.'
            )
        if self.window is not None:
            own = {'reach': self.window - 1}
            if self.sinks:
                own['sinks'] = self.sinks
            raise ValueError(
                f'{name} never forms the score matrix that window={self.window} hides '
                "parts of.  Use softmax, or mechanism='local', which computes nothing "
                f'outside of its own window, with mechanism_options={own} (of a model: '
                'attention_options) and without window.'
            )

    def _check_inputs(self, q, k, v, dense, residual):
        """Refuse shapes that do not fit, and what the mechanism has no use for.

        Args:
            q, k, v, dense, residual: tensors or their shapes, None what did not come.
        """
        check_attended(self, q, k, v, dense, residual)
        if k is q:
            k = None
        mechanism = self._mechanism
        name = type(mechanism).__name__
        if mechanism.one_sequence and k is not None:
            raise ValueError(
                f'{name} mixes one sequence; it cannot attend to another one.  Use '
                'softmax or linear for that.'
            )
        if mechanism.forms_scores:
            return
        for value, what in ((dense, 'a dense mask'), (residual, 'residual scores')):
            if value is not None:
                raise ValueError(
                    f'{name} never forms the score matrix, so {what} cannot be '
                    'applied.  Use a mechanism such as softmax.'
                )

    def _build_parts(self, q_shape, k_shape, v_shape, x_shape, p_shape):
        """Build mechanism and position; shapes are of heads, (b, n, h, d)."""
        mechanism = self._mechanism
        if not mechanism.built:
            shapes = (q_shape, k_shape, v_shape)
            if mechanism.forms_scores and mechanism.reads_input:
                shapes += (x_shape,)
            mechanism.build(*shapes)
        position = self.position
        if position is None or position.built:
            return
        if p_shape is None:
            position.build(x_shape)
        else:
            # p comes from elsewhere. Left unbuilt, Keras would run the whole model
            # eagerly on JAX before the first compiled prediction.
            position.built = True

    @property
    def _mechanism(self):
        """The mechanism, under whatever name the subclass keeps it."""
        return self.mechanism

    def make_position(self, q, k=None):
        """What the position makes of queries' and keys' sequences, or None."""
        if self.position is None:
            return None
        if self.position.learned and not self.position.weights:
            raise ValueError(
                f'{self.name} was built with p, so its {type(self.position).__name__} '
                'has no weights of its own; give p in each call.'
            )
        return self.position(q) if k is None or k is q else self.position(q, keys=k)

    def _nothing(self, x, keys, heads, channels):
        """The output for no texts or no steps, where mechanisms have nothing to do.

        Args:
            x: the queries' sequence (b, m, e).
            keys: their number.
            heads: of the scores.
            channels: before the output projection, which is kept in the graph.
        """
        b, m = ops.shape(x)[:2]
        out = self.o_dense(ops.zeros((b, m, channels), self.compute_dtype))
        if not self.return_attention_scores:
            return (out,)
        return out, ops.zeros((b, heads, m, keys), self.compute_dtype)

    def mask(self, padding, dense=None):
        """The `Mask` of this layer."""
        return Mask(padding, self.causal, dense, self.window, self.sinks)

    def mix(self, q, k, v, x, p=None, where=None, residual=None):
        """Mix values.

        Args:
            q, k, v: (b, m, h, d), (b, n, h, d), (b, n, h, d_v); q and k None where the
                mechanism does not compare.
            x: the queries' sequence (b, m, e).
            p: what the position made of it.
            where: a `Mask`.
            residual: scores to add.

        Returns:
            The mixed values (b, m, h, d_v), and the scores before masks or None.
        """
        if where is not None:
            check_padding(where.padding, v.shape)
        mixed, scores = self._mix(q, k, v, x, p, where, residual)
        wanted = (*x.shape[:2], *v.shape[2:])
        check_mixed(self._mechanism, mixed.shape, wanted)
        return mixed, scores

    def _mix(self, q, k, v, x, p, where, residual):
        mechanism = self._mechanism
        q = self._scaled(q, where, 0, v)
        if mechanism.forms_scores:
            position = self.position
            if position is not None and not position.needs_scores:
                (q, k), position = position.rotate(q, k, p), None
            if position is None and residual is None and q is not None:
                mixed = self._fused(q, k, v, where)
                if mixed is not None:
                    return mixed, None
            scores = self._scores(q, k, x, p, ops.shape(v)[1], 0, position)
            return self._weigh(scores, v, p, where, residual)
        q, k, rotation = self._turned(q, k, p)
        return mechanism(q, k, v, where=where, **rotation), None

    def _fused(self, q, k, v, where):
        """The mixed values where nobody has a use for the scores, else None."""
        if self.return_attention_scores:
            return None
        return self._mechanism.fused(q, k, v, where)

    def _scaled(self, q, where, start, v):
        """Queries divided by √d, times log n / log L beyond the trained length."""
        if q is None:
            return q
        if self.attention_scale and self._mechanism.scaled:
            q = q / self.key_size**0.5
        return q if self.logn is None else q * self._growth(q, where, start, v)

    def _growth(self, q, where, start, v):
        """max(1, log n / log L) for the n keys that a query may see, (b or 1, m, 1, 1).

        n is the number of steps up to the query where later ones are hidden, else that
        of all that are not padding.
        """
        if self.causal:
            n = ops.cast(ops.arange(ops.shape(q)[1]) + start + 1, 'float32')
            n = ops.reshape(n, (1, -1, 1, 1))
        elif where.padding is not None:
            n = ops.sum(ops.cast(where.padding, 'float32'), axis=1)
            n = ops.reshape(n, (-1, 1, 1, 1))
        else:
            n = ops.reshape(ops.cast(ops.shape(v)[1], 'float32'), (1, 1, 1, 1))
        growth = ops.log(ops.maximum(n, float(self.logn))) / math.log(self.logn)
        return ops.cast(growth, q.dtype)

    def _scores(self, q, k, x, p, n, start, position):
        mechanism = self._mechanism

        def score(q, k):
            if mechanism.reads_input:
                return mechanism.score(q, k, x=x, n=n, start=start)
            return mechanism.score(q, k)

        if position is None:
            return score(q, k)
        return position.compare(q, k, p, score)  # (b, h, m, n)

    def _weigh(self, scores, v, p, where, residual):
        if residual is not None:
            scores = scores + residual
        weights = self._mechanism.weigh(scores, where)
        mixed = self._mechanism.mix(weights, v)
        if self.position is not None:
            mixed = self.position.mix(mixed, weights, p)
        return mixed, scores

    def _turned(self, q, k, p):
        """Queries and keys rotated, or who may rotate as an argument of the call."""
        if self._mechanism.turns_itself:
            here = self.position is not None
            return q, k, {'rotation': Rotation(self.position, p) if here else None}
        if self.position is not None:
            q, k = self.position.rotate(q, k, p)
        return q, k, {}

    # One step at a time

    def _start(self, batch, length, heads, kv_heads, value_size):
        check_built(self)
        mechanism, dtype = self._mechanism, self.compute_dtype
        if not self.causal:
            raise ValueError(
                f'{self.name} is not causal: earlier steps would change with each '
                'later one, so it cannot go step by step.  Make it with causal=True.'
            )
        position = self.position
        if not (mechanism.forms_scores or position is None or position.rotates_once):
            raise ValueError(
                f'{type(position).__name__} turns earlier keys anew at each step, but '
                f'{type(mechanism).__name__} keeps no keys; use Rotary without a rule '
                'that looks at the length.'
            )
        state = with_room({}, batch, length)
        if not mechanism.forms_scores:
            sizes = (heads, self.key_size, value_size)
            return {**mechanism.start(batch, length, *sizes), **state}
        state['v'] = ops.zeros((batch, length, kv_heads, value_size), dtype)
        if mechanism.compares:
            shape = (batch, length, kv_heads, self.key_size)
            state['k'] = ops.zeros(shape, dtype)
        return state

    def position_at(self, x, t, state):
        """What the position makes of step t alone, for `step`.

        Args:
            x: the step's sequence (b, 1, e).
            state: of this layer, for its number of keys.
        """
        if self.position is None:
            return None
        return self.position(x, **step_arguments(self.position, t, state))

    def mix_step(self, q, k, v, x, t, state, p=None, residual=None, share=None):
        """`mix` for step t alone; shapes are those of m = n = 1.

        Args:
            share: a function that gives each head of queries its head of keys or
                values.

        Returns:
            The mixed values, the scores or None, and the new state.
        """
        mechanism = self._mechanism
        share = share or (lambda x: x)
        q = self._scaled(q, None, t, v)
        if not mechanism.forms_scores:
            q, k, rotation = self._turned(q, share(k), p)
            kept = {key: value for key, value in state.items() if key != ROOM}
            mixed, kept = mechanism.step(q, k, share(v), t, kept, **rotation)
            return mixed, None, {**kept, ROOM: state[ROOM]}
        length = state['v'].shape[1]
        position = self.position
        if position is not None and position.caches_rotated:
            q, k = position.rotate(q, k, p)
            position = None
        new = {'v': v} if k is None else {'k': k, 'v': v}
        state = {**state, **{key: _written(state[key], t, new[key]) for key in new}}
        keys, values = share(state.get('k')), share(state['v'])
        scores = self._scores(q, keys, x, p, length, t, position)
        reach = self.mask(None).reach(t, ops.arange(length))
        where = Mask(dense=reach[None, None])
        mixed, scores = self._weigh(scores, values, p, where, residual)
        return mixed, scores, state


def step_arguments(position, t, state):
    """Arguments with which a position is called for step t alone.

    Args:
        position: a `Position`.
        state: of an attention layer, which tells the number of its keys.
    """
    ids = ops.reshape(ops.cast(t, 'int32'), (1, 1))
    if position.caches_rotated:
        return {'position_ids': ids}
    return {'position_ids': ids, 'keys': ops.zeros((1, state['v'].shape[1], 1))}


def _written(cache, t, row):
    """A cache (b, n, h, d) whose row t is replaced."""
    return ops.slice_update(cache, (0, t, 0, 0), ops.cast(row, cache.dtype))
