"""What mechanisms that see a fixed pattern of keys share."""

from keras import ops

from keraseff.layers.attention.mechanism import Mechanism
from keraseff.layers.dropout import Dropout
from keraseff.ops import blocks


class Blockwise(Mechanism):
    """Softmax attention over a fixed pattern of keys, computed group by group.

    A subclass says which keys: `parts(q, k, v, where)` returns one or two
    `keraseff.ops.blocks.Part` that share no key; and, for one step at a time, `start`,
    `remember(k, v, t, state)` -> state and `recall(t, state)` -> a list of
    (keys (b, n, h, d), values, seen (n,)).

    Args:
        dropout: share of the weights dropped while training.
    """

    one_sequence = True

    def __init__(self, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy) if dropout else None

    def _check(self, **least):
        """Raise for an option that is no integer, or less than its least value."""
        for name, lowest in least.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < lowest:
                raise ValueError(
                    f'{type(self).__name__}: {name}={value!r} must be an integer of '
                    f'at least {lowest}.'
                )

    def parts(self, q, k, v, where):
        """Which keys are seen.  A subclass writes it."""
        raise NotImplementedError(f'{type(self).__name__} must define parts.')

    def remember(self, k, v, t, state):
        """The state with the keys and values of step t.  A subclass writes it."""
        raise NotImplementedError(f'{type(self).__name__} must define remember.')

    def recall(self, t, state):
        """The keys and values step t may see.  A subclass writes it."""
        raise NotImplementedError(f'{type(self).__name__} must define recall.')

    def call(self, q, k, v, where):
        """The mixed values (b, n, h, d_v)."""
        return self.mix(self.parts(q, k, v, where))

    def mix(self, parts):
        """The values of the parts, mixed by one softmax."""
        return blocks.mix_parts(parts, self.drop)

    def caches(self, batch, length, heads, key_size, value_size, prefix=''):
        """Empty 'k' and 'v' (b, length, h, d), for `start`."""
        shape, dtype = (batch, length, heads), self.compute_dtype
        return {
            f'{prefix}k': ops.zeros((*shape, key_size), dtype),
            f'{prefix}v': ops.zeros((*shape, value_size), dtype),
        }

    def step(self, q, k, v, t, state):
        """Row t of the causal `call`, and the next state."""
        t = ops.convert_to_tensor(t, 'int32')
        state = self.remember(k, v, t, state)
        found = self.recall(t, state)
        keys, values, seen = zip(*found, strict=True)
        if len(found) > 1:
            keys, values = (ops.concatenate(x, axis=1) for x in (keys, values))
            seen = ops.concatenate(seen, axis=0)
        else:
            (keys,), (values,), (seen,) = keys, values, seen
        part = blocks.Part(
            *(blocks.one_group(x) for x in (q, keys, values)),
            ops.reshape(seen, (1, 1, 1, 1, -1)),
            blocks.out_of_one_group,
        )
        return self.mix([part]), state


def written(state, k, v, slot, prefix=''):
    """The state with a key and a value at one slot of its caches."""
    new = dict(state)
    for name, x in ((f'{prefix}k', k), (f'{prefix}v', v)):
        x = ops.cast(x, state[name].dtype)
        new[name] = ops.slice_update(state[name], (0, slot, 0, 0), x)
    return new
