"""Lion with bert4keras' defaults."""

import keras

from keraseff.optimizers.extension import DenseGradients


@keras.saving.register_keras_serializable(package='keraseff')
class Lion(DenseGradients, keras.optimizers.Lion):
    """Keras' Lion: the sign of the gradient and its average.

    Only the defaults are others: 3e-4, 0.95 and 0.98.  https://arxiv.org/abs/2302.06675
    """

    def __init__(self, learning_rate=3e-4, beta_1=0.95, beta_2=0.98, **kwargs):
        super().__init__(learning_rate, beta_1, beta_2, **kwargs)
