"""Distribution under PyTorch: none of Keras'."""

from contextlib import nullcontext

_ADVICE = (
    'Keras spreads no model over several devices under PyTorch.  Set KERAS_BACKEND=jax '
    "('data' and 'model') or KERAS_BACKEND=tensorflow ('data'); files of weights are "
    'the same for all.'
)


def connect(addresses, count, index):
    """See `keraseff.backends.distribution.connect`."""
    raise ValueError(_ADVICE)


def make(how, devices, shards, split):
    """See `keraseff.backends.distribution.make`."""
    raise ValueError(_ADVICE)


def device_names():
    """See `keraseff.backends.distribution.devices`."""
    raise ValueError(_ADVICE)


def use(distribution):
    """See `keraseff.backends.distribution.use`."""


whole_batches = nullcontext


def processes():
    """See `keraseff.backends.distribution.processes`."""
    return 0, 1
