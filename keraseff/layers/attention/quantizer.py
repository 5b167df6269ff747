"""Codebooks: each key becomes the nearest of a few vectors."""

import numpy as np
from keras import ops

from keraseff.layers.base import Layer
from keraseff.layers.base import check_not_negative
from keraseff.layers.base import check_sizes
from keraseff.ops.codebook import codewords
from keraseff.ops.codebook import nearest_codes
from keraseff.ops.codebook import tally_codes

INITIALISATIONS = ('data', 'random')


class VectorQuantizer(Layer):
    """k̂ = C_z, z = argmin_s ‖k - C_s‖², the codebook C a moving average of its keys.

    While training, with Δ the one-hot rows of z,

        sums ← γ sums + (1 - γ) Δᵀ k,  counts ← γ counts + (1 - γ) Δᵀ 1,
        C = sums / max(counts, 0.01),

    and β mean ‖k - k̂‖² is added to the loss, which draws the keys to their codes; no
    gradient reaches the codebook.  Padding counts for nothing.  In front of k̂ stands a
    straight-through gradient: that of k̂ is given to k.

    Args:
        codes: S, the number of codes of each head.
        gamma: γ, how much of the codebook a training step keeps.
        beta: β, the weight of the commitment loss.
        initialisation: 'data' takes the codes from the keys of the first training step,
            unless `fit_codebook` has found them already; 'random' keeps normal ones.
        restart: codes whose moving count is below it are put onto keys of the present
            batch; 0 lets dead codes rest.

    Call arguments: `k` (b, n, h, d); `real` (b, n), false where a key is padding.

    -> k̂ (b, n, h, d), z (b, n, h) int32, and C (h, S, d) in float32.
    Van den Oord et al., 2017, https://arxiv.org/abs/1711.00937;
    Lingle, 2023, https://arxiv.org/abs/2309.16354
    """

    def __init__(
        self,
        codes=256,
        gamma=0.99,
        beta=1e-4,
        initialisation='data',
        restart=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.codes = codes
        self.gamma = gamma
        self.beta = beta
        self.initialisation = initialisation
        self.restart = restart
        self._gathered = None
        if initialisation not in INITIALISATIONS:
            raise ValueError(
                f'initialisation={initialisation!r} is unknown; choose one of: '
                f'{", ".join(INITIALISATIONS)}.'
            )
        check_sizes(codes=codes)
        check_not_negative(gamma=gamma, beta=beta, restart=restart)
        if gamma > 1:
            raise ValueError(
                f'gamma={gamma} is the share of the codebook that a step keeps; use '
                'at most 1, such as 0.99.'
            )

    def build(self, k_shape):
        """Make the codebook, no part of which an optimizer moves."""
        shape = (k_shape[2], self.codes, k_shape[3])
        self.sums = self._memory('sums', shape, 'random_normal')
        self.counts = self._memory('counts', shape[:2], 'ones')
        self.steps = self._memory('steps', (), 'zeros')

    def _memory(self, name, shape, initializer):
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            dtype='float32',
            trainable=False,
            autocast=False,
            name=name,
        )

    def codebook(self):
        """The codes C, (h, S, d)."""
        return _codes(*self._memories())

    def _memories(self):
        return tuple(ops.convert_to_tensor(x) for x in (self.sums, self.counts))

    def call(self, k, real=None, training=None):
        """Quantise; while training, also learn."""
        x = ops.stop_gradient(ops.cast(k, 'float32'))
        if self._gathered is not None:
            self._gathered.fit(self, x, real)
        sums, counts = self._memories()
        if training:
            sums, counts = self._seeded(x, real, sums, counts)
        codes = _codes(sums, counts)
        z = nearest_codes(x, codes)
        k_hat = codewords(z, codes)
        if training:
            self._learn(x, z, real, sums, counts)
            self.add_loss(self.beta * self._commitment(k, k_hat, real))
        # k_hat comes last, so that in half precision the sum is k_hat itself.
        return (k - ops.stop_gradient(k)) + ops.cast(k_hat, k.dtype), z, codes

    def _commitment(self, k, k_hat, real):
        error = ops.sum(ops.square(ops.cast(k, 'float32') - k_hat), axis=-1)
        if real is None:
            return ops.mean(error)
        real = ops.cast(real, 'float32')
        keys = ops.maximum(ops.sum(real), 1.0) * k.shape[2]
        return ops.sum(error * real[..., None]) / keys

    def _seeded(self, x, real, sums, counts):
        """The codebook with keys of this batch where codes are to begin anew."""
        anew = ops.zeros_like(counts, dtype='bool')
        if self.initialisation == 'data':
            first = ops.convert_to_tensor(self.steps) < 0.5
            anew = ops.logical_or(anew, first)
        if self.restart:
            anew = ops.logical_or(anew, counts < self.restart)
        elif self.initialisation == 'random':
            return sums, counts
        picks = self._picks(x, real)  # (h, S, d)
        counts = ops.where(anew, 1.0, counts)
        return ops.where(anew[..., None], picks, sums), counts

    def _picks(self, x, real):
        """S real keys of each head, evenly spread over the batch."""
        b, n, h, d = ops.shape(x)[:2] + tuple(x.shape[2:])
        flat = ops.reshape(x, (b * n, h, d))
        if real is None:
            real = ops.ones((b * n,), 'float32')
        real = ops.cumsum(ops.reshape(ops.cast(real, 'float32'), (-1,)))
        # The golden ratio never repeats itself: other keys at each step.
        shift = ops.convert_to_tensor(self.steps) * 0.6180339887
        parts = ops.arange(self.codes, dtype='float32') + shift % 1.0
        ranks = ops.floor(parts / self.codes * real[-1]) + 1
        rows = ops.searchsorted(real, ranks)
        rows = ops.clip(ops.cast(rows, 'int32'), 0, b * n - 1)
        return ops.transpose(ops.take(flat, rows, axis=0), (1, 0, 2))

    def _learn(self, x, z, real, sums, counts):
        b, n, h, d = ops.shape(x)
        x = ops.reshape(ops.transpose(x, (2, 0, 1, 3)), (h, b * n, d))
        z = ops.reshape(ops.transpose(z, (2, 0, 1)), (h, b * n))
        real = ops.ones((1, 1)) if real is None else ops.reshape(real, (1, b * n))
        total, many = tally_codes(z, x, real, self.codes)
        keep = self.gamma
        self.sums.assign(keep * sums + (1 - keep) * total)
        self.counts.assign(keep * counts + (1 - keep) * many)
        self.steps.assign(ops.convert_to_tensor(self.steps) + 1)


def _codes(sums, counts):
    return sums / ops.maximum(counts, 0.01)[..., None]


def fit_codebook(model, inputs, steps=10, seed=0):
    """Fill the codebooks of a built model from data, by k-means on its own keys.

    For a model whose weights were trained with another attention: a checkpoint has no
    codebook.  One pass, in which each layer's codes are found before its keys are
    quantised, so that the next layer sees what it will see later.

    Args:
        model: a model, or a layer, that holds a `VectorQuantizer`.
        inputs: what it is called with; some 64 keys for each code are enough.
        steps: of k-means.
        seed: of the keys that k-means starts from.

    Returns:
        The model.

    Raises:
        ValueError: there is no codebook in it.
    """
    found = [x for x in model._flatten_layers() if isinstance(x, VectorQuantizer)]
    if not found:
        raise ValueError(
            f"{model.name} holds no VectorQuantizer; build it with attention='vq'."
        )
    try:
        for quantizer in found:
            quantizer._gathered = _Gatherer(steps, seed)
        model(inputs, training=False)
    finally:
        for quantizer in found:
            quantizer._gathered = None
    return model


class _Gatherer:
    """Keeps the keys that pass a quantizer, which a shared layer sees several times."""

    def __init__(self, steps, seed):
        self.steps = steps
        self.seed = seed
        self.keys = []

    def fit(self, quantizer, x, real):
        x = ops.convert_to_numpy(x)
        if real is not None:
            x = x[ops.convert_to_numpy(real).astype(bool)]
        self.keys.append(x.reshape(-1, *x.shape[-2:]))
        keys = np.concatenate(self.keys)
        fitted = [
            k_means(keys[:, h], quantizer.codes, self.steps, self.seed)
            for h in range(keys.shape[1])
        ]
        codes, counts = (np.stack(part) for part in zip(*fitted, strict=True))
        counts = np.maximum(counts, 1)
        quantizer.sums.assign(codes * counts[..., None])
        quantizer.counts.assign(counts)
        quantizer.steps.assign(1.0)


def k_means(x, codes, steps=10, seed=0):
    """Centres of groups, by Lloyd's steps from points chosen at random.

    Args:
        x: points (n, d).
        codes: how many groups; where there are fewer points, some centres repeat.
        steps: how often points choose and centres move.

    An empty group gets one of the points that are furthest from their centres.

    Returns:
        The centres (codes, d) and how many points each has.
    """
    if not len(x):
        raise ValueError('k_means got no points; at least one real key is needed.')
    draw = np.random.default_rng(seed)
    first = draw.permutation(len(x))[:codes]
    centres = x[np.resize(first, codes)].astype('float32')
    z, error = _assigned(x, centres)
    for _ in range(steps):
        centres = _moved(x, z, error, centres)
        z, error = _assigned(x, centres)
    return centres, np.bincount(z, minlength=codes).astype('float32')


def _assigned(x, centres):
    near = 2 * x @ centres.T - np.square(centres).sum(-1)
    z = near.argmax(-1)
    return z, np.square(x).sum(-1) - near[np.arange(len(x)), z]


def _moved(x, z, error, centres):
    order = np.argsort(z, kind='stable')
    present, starts, counts = np.unique(z[order], return_index=True, return_counts=True)
    centres = centres.copy()
    centres[present] = np.add.reduceat(x[order], starts) / counts[:, None]
    empty = np.setdiff1d(np.arange(len(centres)), present)
    furthest = np.argsort(-error)[: len(empty)]
    centres[empty[: len(furthest)]] = x[furthest]
    return centres
