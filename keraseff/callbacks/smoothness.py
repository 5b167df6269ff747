"""`SmoothnessMonitor` sees how fast the gradient changes where training goes."""

import keras
import numpy as np
from keras import ops

from keraseff import backends
from keraseff.callbacks.pictures import require_matplotlib
from keraseff.callbacks.pictures import save_picture
from keraseff.optimizers.arguments import check_count
from keraseff.optimizers.extension import norm


class SmoothnessMonitor(keras.callbacks.Callback):
    """|∇f(θ + Δ) - ∇f(θ)| / |Δ| along the updates Δ of training, beside |∇f(θ)|.

    Args:
        x, y, sample_weight: the batch that f is the compiled loss of, as `fit` takes
            them; always the same one, without dropout.
        every: updates between two that are looked at; the first one is.
        points: where along an update the gradient is compared, evenly, the largest
            quotient counts; each costs a gradient of the batch.
        picture: PNG file drawn when training ends (needs matplotlib), or None.

    `records` has for each update `step`, `gradient` |∇f(θ)|, `smoothness` and `move`
    |Δ|; `constants()` and `correlation()` sum them up.  A loss that is (L0, L1)-smooth
    stays below L0 + L1 |∇f|; gradient clipping is made for L1 > 0.  While float32
    rounds gradients, updates below some 1e-6 of the weights tell nothing.
    https://arxiv.org/abs/1905.11881, https://kexue.fm/archives/7469
    """

    def __init__(
        self, x, y=None, sample_weight=None, every=10, points=1, picture=None
    ):  # fmt: skip
        super().__init__()
        check_count(every=every, points=points)
        parts = keras.tree.flatten((x, y, sample_weight))
        rows = [np.shape(part)[0] for part in parts if np.ndim(part)]
        if len({*rows}) > 1:
            raise ValueError(f'x, y, sample_weight have {rows} rows, not as many each')
        if picture is not None:
            require_matplotlib()
        self.probe = x, y, sample_weight
        self.every = every
        self.points = points
        self.picture = picture
        self.records = []
        self._step = 0
        self._before = None

    def on_train_begin(self, logs=None):
        """Compile the gradient."""
        self._gradients = _gradients_of(self.model)
        self._probe = keras.tree.map_structure(
            lambda x: None if x is None else ops.convert_to_tensor(x), self.probe
        )

    def on_train_batch_begin(self, batch, logs=None):
        """Remember where the update starts."""
        if self._step % self.every == 0:
            self._before = self._weights()

    def on_train_batch_end(self, batch, logs=None):
        """Compare the gradients at both ends of the update."""
        self._step += 1
        if self._before is None:
            return
        before, self._before = self._before, None
        after = self._weights()
        moved = [a - b for a, b in zip(after, before, strict=True)]
        length = _length(moved)
        if not 0 < length < np.inf:
            return  # accumulation, or overflow under loss scaling
        start = self._gradient(before)
        steepest = 0.0
        for part in (i / self.points for i in range(1, self.points + 1)):
            there = [b + part * m for b, m in zip(before, moved, strict=True)]
            change = zip(self._gradient(there), start, strict=True)
            change = _length([a - b for a, b in change]) / (part * length)
            steepest = max(steepest, change) if np.isfinite(change) else np.nan
        record = {'gradient': _length(start), 'smoothness': steepest, 'move': length}
        if np.isfinite(list(record.values())).all():
            self.records.append({'step': self._step, **record})

    def on_train_end(self, logs=None):
        """Draw."""
        if self.picture is not None and self.records:
            save_picture(self.picture, self._draw)

    def constants(self):
        """L0 and L1 by `fit_smoothness` of what was seen."""
        return fit_smoothness(*self._columns())

    def correlation(self):
        """Pearson's correlation of the logarithms of gradient and smoothness.

        NaN where one of them never changed.  Raises ValueError if less than two updates
        were seen in which both are more than 0.
        """
        gradients, smoothness = self._columns()
        seen = (gradients > 0) & (smoothness > 0)
        if seen.sum() < 2:
            raise ValueError(
                f'{seen.sum()} updates were seen in which the gradient changed, and a '
                'correlation needs two; let the model train first.'
            )
        with np.errstate(invalid='ignore', divide='ignore'):
            both = np.corrcoef(np.log([gradients[seen], smoothness[seen]]))
        return float(both[0, 1])

    def _columns(self):
        pairs = [(r['gradient'], r['smoothness']) for r in self.records]
        return np.array(pairs, 'float64').reshape(-1, 2).T

    def _weights(self):
        # self.model brings JAX's numbers, which the next step gives away, to it.
        return [ops.copy(v) for v in self.model.trainable_variables]

    def _gradient(self, values):
        others = [ops.convert_to_tensor(v) for v in self.model.non_trainable_variables]
        return self._gradients(values, others, *self._probe)

    def _draw(self, axes):
        gradients, smoothness = self._columns()
        steps = [r['step'] for r in self.records]
        points = axes.scatter(gradients, smoothness, 8, steps)
        axes.figure.colorbar(points, label='step')
        zero, one = self.constants()
        line = np.geomspace(max(gradients.min(), 1e-30), max(gradients.max(), 1e-30))
        label = f'{zero:.3g} + {one:.3g} |g|'
        axes.plot(line, zero + one * line, 'k', lw=0.8, label=label)
        axes.set(xscale='log', yscale='log', xlabel='|g|', ylabel='|change of g| / |Δ|')
        axes.legend()


def fit_smoothness(gradients, smoothness):
    """L0 and L1, neither negative, for which smoothness ≈ L0 + L1 * gradient.

    Args:
        gradients, smoothness: positive numbers, as many of one as of the other.

    Least squares of errors relative to the line, for the numbers often stretch over
    decades.  Raises ValueError if there are none.
    """
    from scipy.optimize import nnls

    gradients, smoothness = (np.asarray(x, 'float64') for x in (gradients, smoothness))
    if not gradients.size:
        raise ValueError('No update was seen yet; let the model train first.')
    if not smoothness.any():
        return 0.0, 0.0
    least = 1e-6 * smoothness.max()
    columns = np.stack([np.ones_like(gradients), gradients], axis=1)
    columns /= (scale := columns.max(axis=0) + 1e-300)  # so that both weigh alike
    fitted = smoothness.copy()
    for _ in range(30):
        # errors relative to the line: relative to the points, low ones would win
        weights = 1 / np.maximum(fitted, least)
        found, _ = nnls(columns * weights[:, None], smoothness * weights)
        fitted = columns @ found
    return tuple(float(x) for x in found / scale)


def _gradients_of(model):
    """(trainable, other numbers, x, y, sample_weight) -> gradients of the loss."""
    trainable, others = model.trainable_variables, model.non_trainable_variables

    def gradients(values, fixed, x, y, sample_weight):
        def loss(*values):
            mapping = [
                *zip(trainable, values, strict=True),
                *zip(others, fixed, strict=True),
            ]
            with keras.StatelessScope(mapping, collect_losses=True):
                y_pred = model(x, training=False)
                value = model.compute_loss(
                    x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False
                )
            return value, None

        return backends.differentiate(loss, values)[1]

    return backends.compiled(gradients)


def _length(tensors):
    return float(ops.convert_to_numpy(norm(ops.stack([norm(t) for t in tensors]))))
