"""Training against the worst small change of the embeddings."""

import keras
from keras import ops

from keraseff import backends
from keraseff.optimizers.arguments import check_count
from keraseff.optimizers.arguments import check_number
from keraseff.training.divergence import Divergence
from keraseff.training.embeddings import Perturbation
from keraseff.training.noise import Noise
from keraseff.training.objective import minimise


class FGM(Perturbation):
    """The loss where the embeddings have moved ε against it; see adversarial_training.

    Args:
        inner, embedding_name, per: see `Perturbation`.
        epsilon: how far.
        both: whether to add the loss where they have not moved.
    """

    def __init__(self, inner, embedding_name, epsilon=0.5, both=False, per='matrix'):
        super().__init__(inner, embedding_name, per)
        check_number(least=0, epsilon=epsilon)
        self.epsilon, self.both = epsilon, both

    def __call__(self, batch):
        """Batch -> (loss, y_pred)."""
        changes = self.worst(batch)
        if not self.both:
            return self.places.changed(lambda: self.inner(batch), changes)
        nowhere = self.places.zeros(batch)
        clean, y_pred = self.places.changed(
            lambda: self.inner(batch), nowhere, assign=False
        )
        loss = self.places.changed(lambda: self._loss_alone(batch), changes)
        return clean + loss, y_pred

    def _loss_alone(self, batch):
        """Without the regularizers, which the other loss has counted."""
        return self.inner(batch)[0] - batch.regularisation()

    def worst(self, batch):
        """The changes, of norm ε."""
        _, _, found = self.gradients(batch, self.places.zeros(batch), assign=False)
        found = self.places.directions(found)
        return [ops.stop_gradient(self.epsilon * d) for d in found]


class PGD(FGM):
    """FGM in several steps within a ball; see `projected_gradient_training`.

    Args:
        inner, embedding_name, epsilon, both, per: as for `FGM`; ε is the radius.
        step_size: the length of a step.
        steps: their number.
    """

    def __init__(
        self, inner, embedding_name, epsilon=1.0, step_size=0.3, steps=3, both=False,
        per='matrix',
    ):  # fmt: skip
        super().__init__(inner, embedding_name, epsilon, both, per)
        check_number(least=0, step_size=step_size)
        check_count(steps=steps)
        self.step_size, self.steps = step_size, steps

    def worst(self, batch):
        """The changes, of norm ε at most."""
        changes = self.places.zeros(batch)
        for _ in range(self.steps):
            _, _, found = self.gradients(batch, changes, assign=False)
            moved = zip(changes, self.places.directions(found), strict=True)
            changes = [c + self.step_size * d for c, d in moved]
            changes = self.places.limited(changes, self.epsilon)
            changes = [ops.stop_gradient(c) for c in changes]
        return changes


class VAT(Perturbation):
    """The loss + α KL(p(x) ‖ p(x + d)); see `virtual_adversarial_training`.

    Args:
        inner, embedding_name, per: see `Perturbation`.
        epsilon: the norm of d.
        xi: the norm of the change at which d's direction is looked for.
        iters: how often.
        alpha: α.
        divergence: a `Divergence`.
        seed: of the first direction.
    """

    def __init__(
        self, inner, embedding_name, epsilon=1.0, xi=10.0, iters=1, alpha=1.0,
        divergence=None, seed=0, per='matrix',
    ):  # fmt: skip
        super().__init__(inner, embedding_name, per)
        check_number(least=0, epsilon=epsilon, xi=xi, alpha=alpha)
        check_count(iters=iters)
        self.epsilon, self.xi, self.iters, self.alpha = epsilon, xi, iters, alpha
        self.divergence = divergence or Divergence()
        self.noise = Noise(seed)

    def attach(self, model):
        """Find the layers, and what the outputs mean."""
        super().attach(model)
        self.divergence.attach(model)

    def __call__(self, batch):
        """Batch -> (loss, y_pred)."""
        with backends.without_gradients():
            target = batch.predict(training=False)
        target = keras.tree.map_structure(ops.stop_gradient, target)
        changes = [ops.stop_gradient(self.epsilon * d)
                   for d in self.directions(batch, target)]  # fmt: skip
        extra = self.places.changed(
            lambda: self.divergence(batch, target, batch.predict()),
            changes,
            assign=False,
        )
        loss, y_pred = self.inner(batch)
        return loss + ops.cast(self.alpha * extra, loss.dtype), y_pred

    def directions(self, batch, target):
        """Where the outputs change most, by the power method, of norm 1."""

        def differ():
            return self.divergence(batch, target, batch.predict(training=False)), ()

        found = self.noise.like(self.places.zeros(batch), batch.model.optimizer)
        for _ in range(self.iters):
            found = self.places.directions(found)
            changes = [ops.stop_gradient(self.xi * d) for d in found]
            _, _, found = self.gradients(batch, changes, differ, assign=False)
        return self.places.directions(found)


def adversarial_training(
    model, embedding_name='Embedding-Token', epsilon=0.5, both=False, per='matrix'
):
    """Train where the embeddings have moved a little against the model.

    Args:
        model: a compiled `keras.Model`.
        embedding_name: of the embedding layer, or a list of names.
        epsilon: how far: the norm of the change of each matrix.
        both: add the loss without the change; otherwise it is that with it alone.
            Weights' regularizers count once.
        per: 'matrix', or 'example' to change what is looked up, by ε for each example.

    Returns the model; `model.fit` does the rest, at about twice the cost.  Metrics in
    training are those of the changed input, lower than those of `evaluate`; with `both`
    they are those of the true one.  The trick survives `model.compile`, and no file
    keeps it: see `train_plainly`.

    To first order it adds ε ‖∇loss‖ to the loss.  Where the first gradient is not
    finite, as happens in float16 until the loss scale fits, nothing moves.

    Raises ValueError if the model is not compiled, has no such layer, or ε is negative.
    Miyato et al., 2017, https://arxiv.org/abs/1605.07725; https://kexue.fm/archives/7234
    """
    options = {'epsilon': epsilon, 'both': both, 'per': per}
    return minimise(model, FGM, embedding_name=embedding_name, **options)


def projected_gradient_training(
    model, embedding_name='Embedding-Token', epsilon=1.0, step_size=0.3, steps=3,
    both=False, per='matrix',
):  # fmt: skip
    """`adversarial_training` that looks for the worst change in several steps.

    Args:
        model, embedding_name, both, per: as there.
        epsilon: the greatest norm of the change.
        step_size: how far each step goes.
        steps: their number; each costs about as much as plain training.

    Returns the model; what is said there of metrics and files holds here.
    Madry et al., 2018, https://arxiv.org/abs/1706.06083
    """
    options = {'epsilon': epsilon, 'step_size': step_size, 'steps': steps, 'both': both}
    return minimise(model, PGD, embedding_name=embedding_name, per=per, **options)


def virtual_adversarial_training(
    model, embedding_name='Embedding-Token', epsilon=1.0, xi=10.0, iters=1, alpha=1.0,
    kind=None, from_logits=None, weighted=False, seed=0, per='matrix',
):  # fmt: skip
    """Train the outputs to stay what they are where they change most.

    Args:
        model: a compiled `keras.Model`.
        embedding_name: of the embedding layer, or a list of names.
        epsilon: the norm of the change of each matrix.
        xi: the norm of the change at which the gradient is taken.
        iters: steps of the power method.
        alpha: the weight of the divergence beside the loss.
        kind: 'softmax' for classes of which one is right, 'sigmoid' for independent
            ones, a function (target, y_pred) -> (…), or a list of these for several
            outputs; by default it follows from the compiled loss.
        from_logits: whether the outputs are scores, not probabilities; by default what
            the compiled loss says.
        weighted: whether sample_weight weighs the divergence too; else all rows count.
        seed: of the random directions that it begins with.
        per: 'matrix', or 'example' to change what is looked up, by ε for each example.

    Returns the model.  The labels have no part in the divergence, so rows without any
    are welcome: give them any valid label and sample_weight 0.  `join_unlabelled` puts
    labelled and unlabelled rows together in that way.

    p(x) and the direction are computed without dropout, the divergence with it.
    Miyato et al., 2018, https://arxiv.org/abs/1704.03976; https://kexue.fm/archives/7466
    """
    divergence = Divergence(kind, from_logits, weighted)
    options = {'epsilon': epsilon, 'xi': xi, 'iters': iters, 'alpha': alpha}
    return minimise(
        model, VAT, embedding_name=embedding_name, divergence=divergence, seed=seed,
        per=per, **options,
    )  # fmt: skip
