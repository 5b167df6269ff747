"""How much of a recurrent network's state is still felt some steps later."""

import keras
import numpy as np
from keras import ops

from keraseff import backends


def recurrent_jacobians(cell, sequence, states=None):
    """Jacobians ∂s_t / ∂s_t-1 of a recurrent cell's states, along one sequence.

    Args:
        cell: what `keras.layers.RNN` takes: cell(x, states) -> output, states; a
            `keras.layers.LSTM` has it as `.cell`.  Dropout does not act.
        sequence: array (n, e).
        states: where to begin, a nest of arrays (units,) like the cell's own states;
            its initial state by default.

    -> (array (n, d, d), list of n + 1 states): row i of a Jacobian is that of number i
    of the new state, all states of the cell (h and c of an LSTM) one after the other;
    states are nests of arrays (units,).  A step is run with d rows, so d is to be
    small.  Raises ValueError for a sequence of another shape, or another cell.
    """
    sequence = ops.convert_to_tensor(sequence, dtype=cell.compute_dtype)
    if len(sequence.shape) != 2:
        raise ValueError(f'sequence of shape {tuple(sequence.shape)} must be (n, e)')
    if not hasattr(cell, 'state_size'):
        raise ValueError(
            f'{cell!r} has no state_size; give a cell, such as the .cell of an LSTM'
        )
    nest = cell.get_initial_state(batch_size=1) if states is None else states
    now = [np.ravel(ops.convert_to_numpy(s)) for s in keras.tree.flatten(nest)]
    step = _stepper(cell, nest, [len(s) for s in now])

    def pack(values):
        return keras.tree.pack_sequence_as(nest, values)

    jacobians, seen = [], [pack(now)]
    for x in sequence:
        matrix, now = step(x, [ops.convert_to_tensor(s) for s in now])
        jacobians.append(ops.convert_to_numpy(matrix))
        now = [ops.convert_to_numpy(s) for s in now]
        seen.append(pack(now))
    return np.array(jacobians, 'float64'), seen


def recurrent_jacobian_norms(cell, sequence, states=None, order=2):
    """Norms of ∂s_t / ∂s_0, t = 1 ... n: the products of a cell's Jacobians.

    Args:
        cell, sequence, states: as for `recurrent_jacobians`.
        order: which norm, as for `numpy.linalg.norm`: 2 for the largest stretching of
            any direction, 'fro' ...

    -> array (n,).  What falls to 0 is a gradient that vanishes, what grows one that
    explodes.  https://kexue.fm/archives/7888
    """
    jacobians, _ = recurrent_jacobians(cell, sequence, states)
    product, norms = np.eye(jacobians.shape[1]), []
    for jacobian in jacobians:
        product = jacobian @ product
        norms.append(np.linalg.norm(product, order))
    return np.array(norms)


def _stepper(cell, nest, sizes):
    """(x, states) -> (Jacobian, new states); d copies of the step, a row for each."""
    d = sum(sizes)
    ends = np.cumsum(sizes)
    own = [
        ops.eye(d)[:, end - size : end] for size, end in zip(sizes, ends, strict=True)
    ]

    def step(x, states):
        rows = ops.tile(x[None], (d, 1))

        def chosen(*states):
            _, new = cell(rows, keras.tree.pack_sequence_as(nest, list(states)))
            new = keras.tree.flatten(new)
            parts = zip(new, own, strict=True)
            value = sum(ops.sum(ops.cast(s, 'float32') * e) for s, e in parts)
            return value, [ops.stop_gradient(s[0]) for s in new]

        tiled = [ops.tile(s[None], (d, 1)) for s in states]
        new, gradients = backends.differentiate(chosen, tiled)
        gradients = [ops.cast(g, 'float32') for g in gradients]
        return ops.concatenate(gradients, axis=1), new

    return backends.compiled(step)
