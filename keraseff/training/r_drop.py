"""Two passes with different dropout that have to agree."""

from keraseff.optimizers.arguments import check_number
from keraseff.training.divergence import Divergence
from keraseff.training.objective import Objective
from keraseff.training.objective import minimise


class RDrop(Objective):
    """Mean of two losses + α/4 of the divergences both ways; see `r_drop`.

    Args:
        inner: the objective that it wraps.
        alpha: α.
        divergence: a `Divergence`.
    """

    def __init__(self, inner, alpha=4.0, divergence=None):
        super().__init__(inner)
        check_number(least=0, alpha=alpha)
        self.alpha = alpha
        self.divergence = divergence or Divergence()

    def attach(self, model):
        """Find out what the outputs mean."""
        self.divergence.attach(model)

    def __call__(self, batch):
        """Batch -> (loss, y_pred)."""
        if not self.alpha:
            return self.inner(batch)
        one, y = self.inner(batch)
        two, z = self.inner(batch)
        differ = self.divergence(batch, y, z) + self.divergence(batch, z, y)
        return (one + two) / 2 + self.alpha / 4 * differ, y


def r_drop(model, alpha=4.0, kind=None, from_logits=None, weighted=False):
    """Train with two dropouts at once, the outputs of which have to agree.

    Args:
        model: a compiled `keras.Model` with dropout.
        alpha: the weight of the divergence: the loss is (l₁ + l₂) / 2 +
            α/4 (KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)), half of the paper's.  0 is plain training.
        kind: 'softmax' for classes of which one is right, 'sigmoid' for independent
            ones, a function (target, y_pred) -> (…), or a list of these for several
            outputs; by default it follows from the compiled loss.
        from_logits: whether the outputs are scores, not probabilities; by default what
            the compiled loss says.
        weighted: whether sample_weight weighs the divergence too; else rows of weight 0
            take part in it.

    Returns the model; `model.fit` does the rest, at about twice the cost.  The trick
    survives `model.compile`, and no file keeps it: see `train_plainly`.

    Raises ValueError if the model is not compiled, or its loss does not tell whether
    the outputs are scores.
    Liang et al., 2021, https://arxiv.org/abs/2106.14448; https://kexue.fm/archives/8496
    """
    divergence = Divergence(kind, from_logits, weighted)
    return minimise(model, RDrop, alpha=alpha, divergence=divergence)
