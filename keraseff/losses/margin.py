"""Softmax cross-entropy of cosines that must win by a margin.

-log(e^{s (c_t - m)} / (e^{s (c_t - m)} + Σ_{j≠t} e^{s c_j})), c the cosines between a
text's vector and the classes', t the right class.  Wang et al., AM-Softmax, 2018,
https://arxiv.org/abs/1801.05599; https://kexue.fm/archives/5743
"""

import keras
from keras import ops

from keraseff.losses.base import OptionLoss
from keraseff.losses.base import as_distribution
from keraseff.ops import masked_value


@keras.saving.register_keras_serializable(package='keraseff')
def margin_softmax_crossentropy(y_true, y_pred, scale=30.0, margin=0.35):
    """The cross-entropy of scale × cosine, the right class's less the margin.

    Args:
        y_true: (…) or (…, 1) integer ids, or (…, c) shares.
        y_pred: (…, c) cosines in [-1, 1]: both the vectors and the columns of the last
            layer's kernel, which has no bias, have length 1.
        scale: s, for cosines alone cannot make a confident softmax.
        margin: m; 0 is the plain cross-entropy of scale × y_pred.

    -> (…), computed in float32.  Only for training; the class of the greatest cosine
    is the answer.
    """
    target = as_distribution(y_true, y_pred)
    cosines = ops.cast(y_pred, 'float32') - margin * target
    scores = ops.maximum(scale * cosines, masked_value('float32'))
    return ops.logsumexp(scores, axis=-1) - ops.sum(target * scores, axis=-1)


@keras.saving.register_keras_serializable(package='keraseff')
class MarginSoftmaxLoss(OptionLoss):
    """`margin_softmax_crossentropy` as a Keras loss.

    Args:
        scale: s.
        margin: m.
        kwargs: reduction, name and dtype of every `keras.losses.Loss`.
    """

    function = staticmethod(margin_softmax_crossentropy)

    def __init__(self, scale=30.0, margin=0.35, **kwargs):
        super().__init__({'scale': scale, 'margin': margin}, **kwargs)
