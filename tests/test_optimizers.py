"""The optimizers that Keras brings, held to the contract that later ones must meet."""

import keras
import pytest
from harness import check_optimizer

OPTIMIZERS = {
    'sgd': lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    'adam': lambda: keras.optimizers.Adam(0.05),
    'adamw': lambda: keras.optimizers.AdamW(0.05, weight_decay=0.01),
}


@pytest.mark.every_backend
@pytest.mark.parametrize('name', OPTIMIZERS)
def test_contract(name):
    check_optimizer(OPTIMIZERS[name])
