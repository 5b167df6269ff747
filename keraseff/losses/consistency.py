"""How much two predictions of the same thing differ."""

from keras import ops


def softmax_divergence(
    target, scores, from_logits=True, temperature=1.0, target_from_logits=None
):
    """KL(p ‖ q) of two distributions over classes, in float32.

    Args:
        target, scores: (…, c) scores, or probabilities; of p and of q.
        from_logits: whether they are scores.
        temperature: both scores are divided by it; probabilities are taken to its
            inverse power and made to sum to 1 again.
        target_from_logits: whether the target is scores, if not what the others are.

    -> (…).
    """
    told = from_logits if target_from_logits is None else target_from_logits
    target = _log_probabilities(target, told, temperature)
    scores = _log_probabilities(scores, from_logits, temperature)
    return ops.sum(ops.exp(target) * (target - scores), axis=-1)


def sigmoid_divergence(
    target, scores, from_logits=True, temperature=1.0, target_from_logits=None
):
    """The mean of KL(p_i ‖ q_i) of independent yes-or-no decisions, in float32.

    Args:
        target, scores: (…, c) scores, or probabilities; of p and of q.
        from_logits: whether they are scores.
        temperature: both scores are divided by it.
        target_from_logits: whether the target is scores, if not what the others are.

    -> (…): the mean is over the last axis.
    """
    told = from_logits if target_from_logits is None else target_from_logits
    target = _log_odds(target, told) / temperature
    scores = _log_odds(scores, from_logits) / temperature
    p = ops.sigmoid(target)
    # log p - log q and log (1 - p) - log (1 - q) with no infinities.
    yes = ops.softplus(-scores) - ops.softplus(-target)
    no = ops.softplus(scores) - ops.softplus(target)
    return ops.mean(p * yes + (1 - p) * no, axis=-1)


_LOWEST = -1e30  # of masked scores: the difference of two infinities would be NaN
DIVERGENCES = {'softmax': softmax_divergence, 'sigmoid': sigmoid_divergence}


def _log_probabilities(x, from_logits, temperature):
    x = ops.maximum(ops.cast(x, 'float32'), _LOWEST)
    if not from_logits:
        x = ops.log(ops.clip(x, 1e-7, 1.0))
    return ops.log_softmax(x / temperature, axis=-1)


def _log_odds(x, from_logits):
    x = ops.maximum(ops.cast(x, 'float32'), _LOWEST)
    if from_logits:
        return x
    x = ops.clip(x, 1e-7, 1 - 1e-7)
    return ops.log(x) - ops.log1p(-x)
