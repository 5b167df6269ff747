"""Learning rates over time, for any of Keras' optimizers."""

import math

import keras
from keras import ops
from keras.optimizers.schedules import CosineDecay
from keras.optimizers.schedules import LearningRateSchedule


def piecewise_linear(t, schedule, from_zero=True):
    """The broken line through the points of `schedule`, at `t`.

    Args:
        t: the step, a number or a tensor of any shape.
        schedule: {step: value}; after the last step its value stays.
        from_zero: whether the line begins at (0, 0) if no step 0 is given; else it has
            the first value before the first step.

    -> a float32 tensor of t's shape.
    """
    points = sorted(checked(schedule).items())
    if from_zero and points[0][0] != 0:
        points.insert(0, (0, 0.0))
    t = ops.cast(t, 'float32')
    value = ops.full_like(t, points[0][1])
    # neighbours overlap where they agree
    for (begin, low), (end, high) in zip(points, points[1:], strict=False):
        line = low + (high - low) * ((t - begin) / (end - begin))
        value = ops.where(t >= begin, line, value)
    return ops.where(t >= points[-1][0], points[-1][1], value)


@keras.saving.register_keras_serializable(package='keraseff')
class PiecewiseLinear(LearningRateSchedule):
    """`learning_rate` times the broken line of `piecewise_linear`.

    Args:
        schedule: {step: factor}, such as {1000: 1, 10000: 0.1}: up from 0 to the whole
            rate, then down to a tenth of it, which stays.
        learning_rate: that the factors multiply.
        from_zero: see `piecewise_linear`.
    """

    def __init__(self, schedule, learning_rate=1.0, from_zero=True):
        self.schedule = checked(schedule)
        self.learning_rate = learning_rate
        self.from_zero = from_zero

    def __call__(self, step):
        """The rate at a step."""
        factor = piecewise_linear(step, self.schedule, self.from_zero)
        return self.learning_rate * factor

    def get_config(self):
        """The arguments, the schedule's steps as strings for JSON."""
        return {
            'schedule': written(self.schedule),
            'learning_rate': self.learning_rate,
            'from_zero': self.from_zero,
        }


def warmup_linear(learning_rate, steps, warmup=0.1, final=0.0):
    """A schedule that rises from 0 and falls again, both linearly.

    Args:
        learning_rate: at the summit.
        steps: after which the rate is `final * learning_rate`, and stays.
        warmup: steps to the summit, or the share of `steps` if below 1.
        final: the factor at the end.

    As BERT was trained.  https://arxiv.org/abs/1810.04805
    """
    warmup = _rise(steps, warmup)
    return PiecewiseLinear({warmup: 1, steps: final}, learning_rate)


def warmup_cosine(learning_rate, steps, warmup=0.1, final=0.0):
    """A schedule that rises linearly from 0 and falls along half a cosine.

    It is Keras' `CosineDecay`; the arguments are those of `warmup_linear`.
    https://arxiv.org/abs/1608.03983
    """
    warmup = _rise(steps, warmup)
    if warmup == 0:
        return CosineDecay(learning_rate, steps, alpha=final)
    return CosineDecay(
        0.0,
        steps - warmup,
        alpha=final,
        warmup_target=learning_rate,
        warmup_steps=warmup,
    )


def written(schedule):
    """A schedule as JSON can hold it."""
    return {str(step): value for step, value in schedule.items()}


def checked(schedule, name='schedule'):
    """A schedule with whole steps and finite factors.

    Args:
        name: of the argument, for the message.

    Raises ValueError for what is none, or has two factors for a step.
    """
    try:
        given = dict(schedule)
        points = {int(step): float(value) for step, value in given.items()}
    except (TypeError, ValueError, OverflowError):
        given = points = {}
    finite = all(map(math.isfinite, points.values()))
    if not points or min(points) < 0 or len(points) < len(given) or not finite:
        raise ValueError(
            f'{name}={schedule!r} is no schedule; give {{step: factor}} with whole '
            'steps, such as {1000: 1, 10000: 0.1}.'
        )
    return points


def _rise(steps, warmup):
    if steps < 1:
        raise ValueError(f'steps={steps} must be the number of all steps, 1 or more')
    rise = round(warmup * steps) if warmup < 1 else warmup
    if not 0 <= rise < steps:
        raise ValueError(
            f'warmup={warmup} does not fit into steps={steps}; give fewer steps than '
            'that, or a share of them below 1.'
        )
    return rise
