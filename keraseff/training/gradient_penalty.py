"""Training that keeps gradients with respect to the embeddings small."""

import keras
from keras import ops

from keraseff.optimizers.arguments import check_count
from keraseff.optimizers.arguments import check_number
from keraseff.training.embeddings import Perturbation
from keraseff.training.noise import Noise
from keraseff.training.objective import mask_of
from keraseff.training.objective import minimise


class GradientPenalty(Perturbation):
    """The loss + ½ ε ‖∇loss‖²; see `gradient_penalty`.

    Args:
        inner, embedding_name, per: see `Perturbation`.
        epsilon: ε.
    """

    def __init__(self, inner, embedding_name, epsilon=1.0, per='matrix'):
        super().__init__(inner, embedding_name, per)
        check_number(least=0, epsilon=epsilon)
        self.epsilon = epsilon

    def __call__(self, batch):
        """Batch -> (loss, y_pred)."""
        nowhere = self.places.zeros(batch)
        loss, y_pred, found = self.gradients(batch, nowhere, again=True)
        return loss + ops.cast(self.epsilon / 2 * squares(found), loss.dtype), y_pred


class JacobianPenalty(Perturbation):
    """The loss + ½ ε Σ λᵢ ‖∇fᵢ‖²; see `jacobian_penalty`.

    Args:
        inner, embedding_name, per: see `Perturbation`.
        epsilon: ε.
        kind: 'squares' or 'kl'.
        from_logits: whether the outputs are scores, for 'kl'.
        samples: of the estimate.
        seed: of its signs.
    """

    def __init__(
        self, inner, embedding_name, epsilon=1.0, kind='squares', from_logits=True,
        samples=1, seed=0, per='matrix',
    ):  # fmt: skip
        super().__init__(inner, embedding_name, per)
        check_number(least=0, epsilon=epsilon)
        check_count(samples=samples)
        if kind not in ('squares', 'kl'):
            raise ValueError(f"kind={kind!r}: choose 'squares' or 'kl'.")
        self.epsilon, self.kind, self.from_logits = epsilon, kind, from_logits
        self.samples, self.noise = samples, Noise(seed)

    def __call__(self, batch):
        """Batch -> (loss, y_pred)."""
        loss, y_pred = self.inner(batch)
        total = 0.0
        for draw in range(self.samples):
            total = total + self._sample(batch, draw)
        penalty = self.epsilon / 2 / self.samples * total
        return loss + ops.cast(penalty, loss.dtype), y_pred

    def _sample(self, batch, draw):
        def project():
            outputs = keras.tree.flatten(batch.predict(training=False))
            outputs = [self._metric(y) for y in outputs]
            signs = self.noise.like(outputs, batch.model.optimizer, True, draw)
            pairs = zip(signs, outputs, strict=True)
            return sum(ops.sum(sign * y) for sign, y in pairs), ()

        nowhere = self.places.zeros(batch)
        # A sum, no mean: times the loss scale it would overflow in float16.
        options = {'again': True, 'assign': False, 'scaled': False}
        _, _, found = self.gradients(batch, nowhere, project, **options)
        rows = ops.shape(keras.tree.flatten(batch.x)[0])[0]
        return squares(found) / ops.cast(rows, 'float32')

    def _metric(self, y):
        """Numbers whose plain squared gradients are the weighed ones of the outputs."""
        mask, y = mask_of(y), ops.cast(y, 'float32')
        if mask is not None:
            y = ops.where(mask[..., None], y, 0.0)
        if self.kind == 'squares':
            return 2**0.5 * y
        p = ops.softmax(y) if self.from_logits else y
        return p / ops.sqrt(ops.stop_gradient(ops.maximum(p, 1e-7)))


def squares(tensors):
    """The sum of all numbers' squares, float32."""
    return sum(ops.sum(ops.square(ops.cast(x, 'float32'))) for x in tensors)


def gradient_penalty(
    model, embedding_name='Embedding-Token', epsilon=1.0, per='matrix'
):
    """Add ½ ε ‖∇loss‖² to the loss, the gradient being that of the embeddings.

    Args:
        model: a compiled `keras.Model`.
        embedding_name: of the embedding layer, or a list of names.
        epsilon: ε; to first order the loss where the embeddings moved by ½ ε ∇loss.
        per: 'matrix', or 'example' for the gradient of the vectors looked up.

    Returns the model; `model.fit` does the rest, differentiating twice.  All layers on
    the way need second derivatives; on PyTorch, fused attention gives way to the plain.

    Raises ValueError if the model is not compiled or has no such layer.
    https://kexue.fm/archives/7234
    """
    options = {'epsilon': epsilon, 'per': per}
    return minimise(model, GradientPenalty, embedding_name=embedding_name, **options)


def jacobian_penalty(
    model, embedding_name='Embedding-Token', epsilon=1.0, kind='squares',
    from_logits=True, samples=1, seed=0, per='matrix',
):  # fmt: skip
    """Add ½ ε Σᵢ λᵢ ‖∇fᵢ‖² to the loss, f being the outputs; a mean over the rows.

    Args:
        model: a compiled `keras.Model`.
        embedding_name: of the embedding layer, or a list of names.
        epsilon: ε, for noise of variance ε on the embeddings: to first order the mean
            of the squared change, or of KL(f(x) ‖ f(x + noise)).
        kind: 'squares', λᵢ = 2, or 'kl', λᵢ = 1/fᵢ of probabilities.
        from_logits: whether the outputs are scores, for 'kl'.
        samples: how many random sums Σ ±√λᵢ fᵢ estimate it in a step.
        seed: of their signs.
        per: 'matrix', or 'example' for the gradient of the vectors looked up.

    Returns the model.  The outputs are those without dropout, of all rows alike: labels
    and sample_weight have no part in the penalty.
    https://kexue.fm/archives/7466; signs: Hutchinson, 1989
    """
    options = {'epsilon': epsilon, 'kind': kind, 'from_logits': from_logits}
    return minimise(
        model, JacobianPenalty, embedding_name=embedding_name, samples=samples,
        seed=seed, per=per, **options,
    )  # fmt: skip
