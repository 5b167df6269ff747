"""Activations by bert4keras' names, and what the string 'gelu' stands for."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package='keraseff')
def gelu_erf(x):
    """x Φ(x), the exact Gaussian error linear unit.

    https://arxiv.org/abs/1606.08415
    """
    return ops.gelu(x, approximate=False)


@keras.saving.register_keras_serializable(package='keraseff')
def gelu_tanh(x):
    """The tanh approximation of GELU that Google's BERT was trained with.

    https://arxiv.org/abs/1606.08415
    """
    return ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package='keraseff')
def quick_gelu(x):
    """x σ(1.702 x), the sigmoid approximation of GELU."""
    return x * ops.sigmoid(1.702 * x)


@keras.saving.register_keras_serializable(package='keraseff')
def swish(x):
    """x σ(x), also called SiLU."""
    return ops.silu(x)


@keras.saving.register_keras_serializable(package='keraseff')
def leaky_relu(x, alpha=0.2):
    """max(x, alpha x), with bert4keras' slope of 0.2."""
    return ops.leaky_relu(x, negative_slope=alpha)


_GELU = {'erf': gelu_erf, 'tanh': gelu_tanh}
_ACTIVATIONS = {
    'gelu': gelu_erf,
    'gelu_erf': gelu_erf,
    'gelu_python': gelu_erf,
    'gelu_tanh': gelu_tanh,
    'gelu_new': gelu_tanh,
    'gelu_fast': gelu_tanh,
    'gelu_pytorch_tanh': gelu_tanh,
    'quick_gelu': quick_gelu,
    'swish': swish,
    'silu': swish,
    'leaky_relu': leaky_relu,
}


def set_gelu(version):
    """Choose what the string 'gelu' means from now on.

    Args:
        version: 'erf' (exact; the default) or 'tanh' (the approximation).

    Layers made earlier keep what they were made with: a model saved and reopened
    still computes what it was trained with.
    """
    if version not in _GELU:
        raise ValueError(f"set_gelu({version!r}): choose 'erf' or 'tanh'.")
    _ACTIVATIONS['gelu'] = _GELU[version]


def get_activation(name):
    """The function behind an activation's name, a callable or None.

    Knows bert4keras' and Hugging Face's names besides those of Keras; 'gelu' is the
    exact form unless `set_gelu('tanh')` says otherwise.

    Raises:
        ValueError: the name is known to nobody.
    """
    if isinstance(name, str) and name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    return keras.activations.get(name)


def activation_name(name):
    """The unambiguous name of an activation, fit to be stored in a config."""
    return 'gelu_tanh' if get_activation(name) is gelu_tanh else name
