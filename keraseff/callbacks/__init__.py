"""Callbacks: they look on while `fit` trains, keep the best, survive being killed."""

from keraseff.callbacks.checkpoint import STATE
from keraseff.callbacks.checkpoint import Checkpoint
from keraseff.callbacks.curves import EventFiles
from keraseff.callbacks.curves import LearningCurves
from keraseff.callbacks.evaluator import BEST
from keraseff.callbacks.evaluator import Evaluator
from keraseff.callbacks.evaluator import averaged_weights
from keraseff.callbacks.gradient_norms import GradientNormMonitor
from keraseff.callbacks.non_finite import NonFinite
from keraseff.callbacks.non_finite import StopOnNaN
from keraseff.callbacks.run_directory import EpochMetrics
from keraseff.callbacks.run_directory import RunDirectory
from keraseff.callbacks.run_directory import read_metrics
from keraseff.callbacks.smoothness import SmoothnessMonitor
from keraseff.callbacks.smoothness import fit_smoothness
from keraseff.callbacks.throughput import Throughput

__all__ = [
    'BEST',
    'STATE',
    'Checkpoint',
    'EpochMetrics',
    'Evaluator',
    'EventFiles',
    'GradientNormMonitor',
    'LearningCurves',
    'NonFinite',
    'RunDirectory',
    'SmoothnessMonitor',
    'StopOnNaN',
    'Throughput',
    'averaged_weights',
    'fit_smoothness',
    'read_metrics',
]
