"""Several batches to an update."""

from keraseff.optimizers.arguments import check_count
from keraseff.optimizers.extension import Extension
from keraseff.optimizers.extension import extend
from keraseff.optimizers.extension import register


@register(package='keraseff')
class GradientAccumulation(Extension):
    """One update with the mean of several gradients: bert4keras' name for Keras' own.

    Args:
        grad_accum_steps: gradients to an update; 1 does without.

    Wherever it is in a stack, everything else acts once per update, on the mean; only
    learning rate schedules go by gradients.  The update comes with the last gradient of
    each group, and Adam counts updates.  bert4keras applies every group with the first
    gradient of the next one, begins with an update of nothing, and counts gradients.
    Gradients of an unfinished group at the end of `fit` wait for the next `fit`.  Under
    `tf.distribute.MirroredStrategy` it works too.
    """

    def __init__(self, *args, grad_accum_steps=2, **kwargs):
        check_count(grad_accum_steps=grad_accum_steps)
        grad_accum_steps = int(grad_accum_steps)
        kwargs['gradient_accumulation_steps'] = (
            grad_accum_steps if grad_accum_steps > 1 else None
        )
        super().__init__(*args, **kwargs)
        self.grad_accum_steps = grad_accum_steps

    def get_config(self):
        """With the extension's arguments."""
        return {**super().get_config(), 'grad_accum_steps': self.grad_accum_steps}


def extend_with_gradient_accumulation(BaseOptimizer, name=None):
    """An optimizer class with `GradientAccumulation`: `grad_accum_steps`."""
    return extend(BaseOptimizer, GradientAccumulation, name)
