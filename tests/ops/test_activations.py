import math

import keras
import numpy as np
import pytest
from harness import to_numpy
from keras import ops

from keraseff.ops import gelu_erf
from keraseff.ops import gelu_tanh
from keraseff.ops import get_activation
from keraseff.ops import leaky_relu
from keraseff.ops import set_gelu
from keraseff.ops import swish
from keraseff.ops.activations import activation_name

X = np.linspace(-6, 6, 121).astype('float32')


@pytest.fixture
def _erf_again():
    yield
    set_gelu('erf')


def exact(x):
    return np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])


def approximate(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def logistic(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ('name', 'formula'),
    [
        ('gelu', exact),
        ('gelu_erf', exact),
        ('gelu_tanh', approximate),
        ('gelu_new', approximate),
        ('quick_gelu', lambda x: x * logistic(1.702 * x)),
        ('swish', lambda x: x * logistic(x)),
        ('leaky_relu', lambda x: np.maximum(x, 0.2 * x)),
        ('relu', lambda x: np.maximum(x, 0)),
        (None, lambda x: x),
    ],
)
def test_activation_equals_its_formula(name, formula):
    found = to_numpy(get_activation(name)(ops.convert_to_tensor(X)))
    np.testing.assert_allclose(found, formula(X.astype('float64')), atol=2e-6)


def test_the_two_gelus_differ():
    difference = np.abs(to_numpy(gelu_erf(X)) - to_numpy(gelu_tanh(X))).max()
    assert 1e-4 < difference < 1e-3


@pytest.mark.usefixtures('_erf_again')
def test_set_gelu_changes_the_name_and_not_what_was_made():
    before = keras.layers.Activation(get_activation('gelu'))
    set_gelu('tanh')
    assert get_activation('gelu') is gelu_tanh
    assert activation_name('gelu') == 'gelu_tanh'
    np.testing.assert_allclose(to_numpy(before(X)), exact(X), atol=2e-6)
    set_gelu('erf')
    assert get_activation('gelu') is gelu_erf
    assert activation_name('gelu') == 'gelu'
    with pytest.raises(ValueError, match="choose 'erf' or 'tanh'"):
        set_gelu('sinus')


def test_callables_pass_and_unknown_names_raise():
    assert get_activation(swish) is swish
    assert get_activation(leaky_relu) is leaky_relu
    with pytest.raises(ValueError, match='geluu'):
        get_activation('geluu')
