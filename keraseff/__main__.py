"""`python -m keraseff`: look into checkpoints, and change their format."""

import importlib.util
import os
import sys


def choose_backend():
    """The backend that starts fastest, on the CPU: nothing here computes."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')
    for name in ('jax', 'torch', 'tensorflow'):
        if importlib.util.find_spec(name):
            os.environ.setdefault('KERAS_BACKEND', name)


if __name__ == '__main__':
    choose_backend()
    # A console that knows no Chinese shows question marks rather than an error.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='replace')
    from keraseff.commands import main

    sys.exit(main())
