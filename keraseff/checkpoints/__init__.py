"""Weight files in, numpy arrays out: TensorFlow, safetensors, PyTorch and Keras."""

from keraseff.checkpoints.adapt import compound_rows
from keraseff.checkpoints.adapt import keep_rows
from keraseff.checkpoints.adapt import orthogonally_resize
from keraseff.checkpoints.base import Checkpoint
from keraseff.checkpoints.base import CheckpointError
from keraseff.checkpoints.base import DictCheckpoint
from keraseff.checkpoints.checkpoint import open_checkpoint
from keraseff.checkpoints.names import expand
from keraseff.checkpoints.pickled import load_restricted_pickle
from keraseff.checkpoints.safetensors_writer import write_safetensors
from keraseff.checkpoints.tensorflow import write_tensorflow

__all__ = [
    'Checkpoint',
    'CheckpointError',
    'DictCheckpoint',
    'compound_rows',
    'expand',
    'keep_rows',
    'load_restricted_pickle',
    'open_checkpoint',
    'orthogonally_resize',
    'write_safetensors',
    'write_tensorflow',
]
