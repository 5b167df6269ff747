"""Fourier transforms in the place of attention."""

from keras import ops

from keraseff.layers.mixer import Mixer
from keraseff.layers.shapes import check_padding
from keraseff.layers.shapes import check_sequence
from keraseff.layers.shapes import is_empty


class FourierMixing(Mixer):
    """y = Re(F_n x F_e): Fourier transforms along the steps and along the channels.

    No parameters; every step sees every other, so it is for encoders.  Padding is set
    to zero first, so what stands there has no influence; that there is padding does
    have one, for the number of steps is that of the frequencies: batches should be
    padded alike in training and in use.

    (b, n, e) -> (b, n, e).
    Lee-Thorp et al., FNet, 2021, https://arxiv.org/abs/2105.03824
    """

    can_be_causal = False

    def call(self, x, mask=None):
        """The real part of the transform, computed in float32 whatever the policy."""
        check_sequence(self, x.shape)
        check_padding(mask, x.shape, f'{self.name}: a mask')
        if is_empty(x):
            return x
        real = ops.cast(x, 'float32')
        if mask is not None:
            real = real * ops.cast(mask, 'float32')[..., None]
        return ops.cast(ops.fft2((real, ops.zeros_like(real)))[0], x.dtype)
