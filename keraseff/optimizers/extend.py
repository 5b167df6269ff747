"""bert4keras' extensions of the update itself; they can be stacked in any order.

Whichever was added first acts first, and the next sees what it did to the weight.
"""

from keras import ops

from keraseff import backends
from keraseff.optimizers.arguments import as_patterns
from keraseff.optimizers.arguments import check_count
from keraseff.optimizers.arguments import check_number
from keraseff.optimizers.extension import Extension
from keraseff.optimizers.extension import extend
from keraseff.optimizers.extension import matches
from keraseff.optimizers.extension import norm
from keraseff.optimizers.extension import register


@register(package='keraseff')
class WeightDecay(Extension):
    """Decoupled weight decay: the update, minus lr * rate * the weight before it.

    Args:
        weight_decay_rate: per step at a learning rate of 1.
        exclude_from_weight_decay: regular expressions, searched in a weight's path;
            here and elsewhere a string is one, and a warning tells if none is found.

    Keras' own `weight_decay` looks at names without the layer's, so that 'Norm'
    excludes nothing there, and acts before the update, where layer adaptation cannot
    see it.
    https://arxiv.org/abs/1711.05101
    """

    searched = ('exclude_from_weight_decay',)

    def __init__(
        self, *args, weight_decay_rate=0.01, exclude_from_weight_decay=(), **kwargs
    ):
        check_number(0, weight_decay_rate=weight_decay_rate)
        super().__init__(*args, **kwargs)
        self.weight_decay_rate = weight_decay_rate
        self.exclude_from_weight_decay = as_patterns(
            'exclude_from_weight_decay', exclude_from_weight_decay
        )

    def update_step(self, gradient, variable, learning_rate):
        """Decay by the weight that was."""
        if matches(self.path_of(variable), self.exclude_from_weight_decay):
            super().update_step(gradient, variable, learning_rate)
            return
        rate = ops.cast(learning_rate, variable.dtype) * self.weight_decay_rate
        decay = rate * ops.convert_to_tensor(variable)
        super().update_step(gradient, variable, learning_rate)
        self.assign_sub(variable, decay)

    def get_config(self):
        """With the extension's arguments."""
        return {
            **super().get_config(),
            'weight_decay_rate': self.weight_decay_rate,
            'exclude_from_weight_decay': list(self.exclude_from_weight_decay),
        }


@register(package='keraseff')
class LayerAdaptation(Extension):
    """LAMB's trust ratio: every update gets the length of its weight, times lr.

    Args:
        exclude_from_layer_adaptation: regular expressions, searched in a weight's path.

    Where weight or update has length 0 the update stays; the ratio has no bound.
    https://arxiv.org/abs/1904.00962
    """

    searched = ('exclude_from_layer_adaptation',)

    def __init__(self, *args, exclude_from_layer_adaptation=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.exclude_from_layer_adaptation = as_patterns(
            'exclude_from_layer_adaptation', exclude_from_layer_adaptation
        )

    def update_step(self, gradient, variable, learning_rate):
        """Stretch the update."""
        if matches(self.path_of(variable), self.exclude_from_layer_adaptation):
            super().update_step(gradient, variable, learning_rate)
            return
        old = ops.copy(variable)
        super().update_step(gradient, variable, learning_rate)
        delta = ops.convert_to_tensor(variable) - old
        rate = ops.maximum(ops.cast(learning_rate, 'float32'), 1e-7)
        weight, update = norm(old), norm(delta) / rate
        moves = ops.logical_and(weight > 0, update > 0)
        ratio = ops.where(moves, weight / ops.where(moves, update, 1.0), 1.0)
        self.assign(
            variable, backends.between(old, ops.convert_to_tensor(variable), ratio)
        )

    def get_config(self):
        """With the extension's arguments."""
        excluded = list(self.exclude_from_layer_adaptation)
        return {**super().get_config(), 'exclude_from_layer_adaptation': excluded}


@register(package='keraseff')
class Lookahead(Extension):
    """Slow weights that follow the fast ones, which every few updates return to them.

    Args:
        steps_per_slow_update: updates between two meetings.
        slow_step_size: share of the way that the slow weights go; 1 is no lookahead.

    As in the paper the slow weights begin where the fast ones do, and first move after
    `steps_per_slow_update` updates.  bert4keras begins them at zero and moves them
    after the first one, which takes away half of every pretrained weight.
    https://arxiv.org/abs/1907.08610
    """

    def __init__(self, *args, steps_per_slow_update=5, slow_step_size=0.5, **kwargs):
        check_count(steps_per_slow_update=steps_per_slow_update)
        check_number(0, 1, slow_step_size=slow_step_size)
        super().__init__(*args, **kwargs)
        self.steps_per_slow_update = int(steps_per_slow_update)
        self.slow_step_size = slow_step_size

    def build(self, variables):
        """Make room for the slow weights."""
        if not self.built:
            super().build(variables)
            self._slow = self.add_optimizer_variables(variables, 'slow')

    def update_step(self, gradient, variable, learning_rate):
        """Let the slow weights follow when it is time."""
        slot = self._slow[self._get_variable_index(variable)]
        old, slow = ops.convert_to_tensor(variable), ops.convert_to_tensor(slot)
        # Not when built: a checkpoint may be loaded between that and the first step.
        slow = backends.between(slow, old, ops.equal(self.iterations, 0))
        super().update_step(gradient, variable, learning_rate)
        fast = ops.convert_to_tensor(variable)
        due = ops.equal((self.iterations + 1) % self.steps_per_slow_update, 0)
        due = ops.cast(due, fast.dtype)
        slow = backends.between(slow, fast, due * self.slow_step_size)
        self.assign(slot, slow)
        self.assign(variable, backends.between(fast, slow, due))

    def get_config(self):
        """With the extension's arguments."""
        return {
            **super().get_config(),
            'steps_per_slow_update': self.steps_per_slow_update,
            'slow_step_size': self.slow_step_size,
        }


@register(package='keraseff')
class LazyOptimization(Extension):
    """Rows whose gradient is all zero stay as they are, decay and momentum or not.

    Args:
        include_in_lazy_optimization: regular expressions, searched in a weight's path;
            no other weight is treated so, and by default none is.

    For embeddings, whose rows mostly are not in a batch.  As in bert4keras the moments
    of a resting row decay nevertheless.
    """

    searched = ('include_in_lazy_optimization',)

    def __init__(self, *args, include_in_lazy_optimization=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.include_in_lazy_optimization = as_patterns(
            'include_in_lazy_optimization', include_in_lazy_optimization
        )

    def update_step(self, gradient, variable, learning_rate):
        """Undo the update of resting rows."""
        if not matches(self.path_of(variable), self.include_in_lazy_optimization):
            super().update_step(gradient, variable, learning_rate)
            return
        old = ops.copy(variable)
        super().update_step(gradient, variable, learning_rate)
        moves = ops.any(ops.not_equal(gradient, 0), axis=-1, keepdims=True)
        new = ops.convert_to_tensor(variable)
        self.assign(variable, ops.where(moves, new, old))

    def get_config(self):
        """With the extension's arguments."""
        included = list(self.include_in_lazy_optimization)
        return {**super().get_config(), 'include_in_lazy_optimization': included}


def extend_with_weight_decay(BaseOptimizer, name=None):
    """An optimizer class with `WeightDecay`: `weight_decay_rate` and exclusions."""
    return extend(BaseOptimizer, WeightDecay, name)


def extend_with_layer_adaptation(BaseOptimizer, name=None):
    """An optimizer class with `LayerAdaptation`, which makes Adam LAMB."""
    return extend(BaseOptimizer, LayerAdaptation, name)


def extend_with_lookahead(BaseOptimizer, name=None):
    """An optimizer class with `Lookahead`: `steps_per_slow_update, slow_step_size`."""
    return extend(BaseOptimizer, Lookahead, name)


def extend_with_lazy_optimization(BaseOptimizer, name=None):
    """An optimizer class with `LazyOptimization` of the weights it is given."""
    return extend(BaseOptimizer, LazyOptimization, name)
