"""`GradientNormMonitor` keeps the lengths of gradients, and finds those not finite."""

import json
import warnings
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keraseff import backends
from keraseff.callbacks.pictures import require_matplotlib
from keraseff.callbacks.pictures import save_picture
from keraseff.optimizers.arguments import check_count
from keraseff.optimizers.extension import norm

_FOUND = 'gradient_norms'  # the entry of a step's logs, which nobody else sees


class GradientNormMonitor(keras.callbacks.Callback):
    """Lengths of each gradient, and of each update over its weight, every k steps.

    Args:
        path: file of JSON lines, one for each step that was looked at; new ones are
            added behind those of earlier runs.  None keeps them in `records` only.
        every: steps between two looks; the first step is looked at.
        per: 'variable', or 'layer' for the weights of each layer together.
        picture: PNG file drawn when training ends (needs matplotlib), or None.
        stop: whether training stops where a gradient is not finite.

    The gradients are those that the optimizer is given in that very step, divided by
    the loss scaling, before clipping and accumulation; tricks of `keraseff.training`
    included.  A record has

        step        the number of the step, as the optimizer counts
        loss        the mean of the epoch so far, as in the progress bar
        global      |g| of all gradients together
        gradient    {name: |g|}
        ratio       {name: |Δθ| / |θ|}, the update over the weight before it; None for a
                    weight of zeros.  With a healthy learning rate it is about 1e-3.
        not_finite  names whose gradient has an infinite number or NaN; numbers that
                    are not finite are None above

    and where `not_finite` names something a warning says so, except that loss scaling
    of float16 overflowed, which it does by itself now and then.

    Steps between looks run the function that they would run without the monitor; a
    second one, with norms in it, is compiled for the others, so JAX and TensorFlow
    compile twice if `every` > 1.  With `steps_per_execution` the last step of those
    that run together is looked at.  https://kexue.fm/archives/7888
    """

    def __init__(self, path=None, every=100, per='variable', picture=None, stop=False):
        super().__init__()
        check_count(every=every)
        if per not in ('variable', 'layer'):
            raise ValueError(f"per={per!r} must be 'variable' or 'layer'")
        if picture is not None:
            require_matplotlib()
        self.path = None if path is None else Path(path)
        self.every = every
        self.per = per
        self.picture = picture
        self.stop = stop
        self.records = []

    def on_train_begin(self, logs=None):
        """Put the step that also measures beside the one that there is."""
        model = self.model
        accumulated = getattr(model.optimizer, 'gradient_accumulation_steps', None) or 1
        self._steps = int(model.optimizer.iterations) * accumulated
        self._first = self._steps
        self._groups = _groups(model.trainable_variables, self.per)
        plain, measuring = model.train_function, _measuring(model)
        with _replaced(model, 'train_step', measuring):
            model.make_train_function(force=True)
        looked = model.train_function
        together = getattr(model, 'steps_per_execution', 1)

        def train_function(*arguments):
            done = self._steps - self._first
            self._steps += together
            if done % self.every >= together and done:
                return plain(*arguments)
            with _replaced(model, 'train_step', measuring):
                result = looked(*arguments)
            # Not self.model: on JAX it would look for the state, which is on its way.
            self._note(model, _logs(result))
            return result

        model.train_function = train_function

    def on_train_end(self, logs=None):
        """Take the measuring step away; draw."""
        self.model.train_function = None
        if self.picture is not None and self.records:
            save_picture(self.picture, self._draw, columns=2)

    def _note(self, model, logs):
        found = np.array(ops.convert_to_numpy(logs.pop(_FOUND)), 'float64')
        loss = float(np.mean(ops.convert_to_numpy(logs['loss'])))
        record = self._record(found, loss)
        self.records.append(record)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open('a', encoding='utf-8') as file:
                file.write(json.dumps(record, ensure_ascii=False) + '\n')
        overflow = hasattr(model.optimizer, 'dynamic_scale') and np.isfinite(loss)
        if record['not_finite'] and not overflow:
            model.stop_training = model.stop_training or self.stop
            self._alarm(record['not_finite'])

    def _record(self, found, loss):
        gradients, updates, weights = (
            {name: _length(row[places]) for name, places in self._groups.items()}
            for row in found
        )
        ratios = {n: updates[n] / weights[n] if weights[n] else None for n in weights}
        return {
            'step': self._steps,
            'loss': _finite(loss),
            'global': _finite(_length(found[0])),
            'gradient': {name: _finite(g) for name, g in gradients.items()},
            'ratio': {name: _finite(ratio) for name, ratio in ratios.items()},
            'not_finite': [n for n, g in gradients.items() if not np.isfinite(g)],
        }

    def _alarm(self, wrong):
        names = ', '.join(wrong[:5]) + (', …' if len(wrong) > 5 else '')
        warnings.warn(
            f'step {self._steps}: {len(wrong)} of {len(self._groups)} gradients are '
            f'not finite: {names}',
            stacklevel=2,
        )

    def _draw(self, left, right):
        steps = [r['step'] for r in self.records]
        for axes, key, title in (
            (left, 'gradient', 'length of the gradient'),
            (right, 'ratio', 'length of the update / of the weight'),
        ):
            for name in self._groups:
                values = [r[key][name] or np.nan for r in self.records]
                axes.plot(steps, values, lw=0.8, label=name)
            axes.set(xlabel='step', yscale='log', title=title)
        total = [r['global'] or np.nan for r in self.records]
        left.plot(steps, total, 'k', lw=1.6, label='all')
        right.axhline(1e-3, color='k', lw=0.8, ls=':')
        for r in self.records:
            if r['not_finite']:
                left.axvline(r['step'], color='r', lw=0.8)
        if len(self._groups) <= 16:
            left.legend(fontsize='xx-small')


def _measuring(model):
    """The model's `train_step`, with the norms among its logs."""
    step = model.train_step

    def train_step(*arguments):
        with _watched(model) as found:
            result = step(*arguments)
        _logs(result)[_FOUND] = found[-1]
        return result

    return train_step


def _logs(result):
    # JAX's steps give the state too.
    return result[0] if isinstance(result, tuple) else result


@contextmanager
def _watched(model):
    """Within it, the optimizer leaves a (3, variables) tensor for each update."""
    optimizer, found = model.optimizer, []
    # JAX's step has the state in its arguments and results, others in variables.
    stateless = hasattr(model, 'jax_state_sync')
    name = 'stateless_apply' if stateless else 'apply'
    update = getattr(optimizer, name)

    def apply(gradients, variables=None):
        gradients = list(gradients)
        variables = list(variables or optimizer._trainable_variables)
        scale = optimizer.scale_loss(ops.ones(()))
        old = [ops.copy(v) for v in variables]
        update(gradients, variables)
        found.append(_norms(gradients, scale, old, variables))

    def stateless_apply(state, gradients, variables):
        state = list(state)
        mapping = list(zip(optimizer.variables, state, strict=True))
        with keras.StatelessScope(mapping):
            scale = optimizer.scale_loss(ops.ones(()))
        result = update(state, gradients, variables)
        found.append(_norms(gradients, scale, variables, result[0]))
        return result

    with _replaced(optimizer, name, stateless_apply if stateless else apply):
        yield found


@contextmanager
def _replaced(thing, name, value):
    """Within it, an object has another method."""
    own = vars(thing)
    before = own.get(name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if before is None:
            own.pop(name, None)
        else:
            setattr(thing, name, before)


def _norms(gradients, scale, old, new):
    zero = ops.zeros(())
    scale = ops.cast(scale, 'float32')
    rows = zip(
        *(_lengths(*x, scale, zero) for x in zip(gradients, old, new, strict=True)),
        strict=True,
    )
    return ops.stack([ops.stack(list(row)) for row in rows])


def _lengths(gradient, old, new, scale, zero):
    if gradient is None:
        length = zero
    else:
        length = norm(ops.cast(backends.dense(gradient), 'float32') / scale)
    old, new = (ops.cast(ops.convert_to_tensor(x), 'float32') for x in (old, new))
    return length, norm(new - old), norm(old)


def _groups(variables, per):
    """{name: places} of the variables, each in one; names that come twice numbered."""
    groups = {}
    for place, variable in enumerate(variables):
        path = variable.path
        if per == 'layer':
            groups.setdefault(path.rpartition('/')[0] or path, []).append(place)
            continue
        name, again = path, 1
        while name in groups:
            again += 1
            name = f'{path} ({again})'
        groups[name] = [place]
    return groups


def _length(lengths):
    return float(np.sqrt(np.sum(np.square(lengths))))


def _finite(number):
    return float(number) if number is not None and np.isfinite(number) else None
