"""Optimizers: bert4keras' `extend_with_…`, its own, and schedules for any of Keras'.

Give `compile` the object: names as in `compile('AdaFactor')` or 'lion' mean Keras' own
classes, which have other defaults, and none for LAMB or Tiger.
"""

from keraseff.optimizers.accumulation import GradientAccumulation
from keraseff.optimizers.accumulation import extend_with_gradient_accumulation
from keraseff.optimizers.adafactor import AdaFactor
from keraseff.optimizers.adam import LAMB
from keraseff.optimizers.adam import Adam
from keraseff.optimizers.averaging import ExponentialMovingAverage
from keraseff.optimizers.averaging import extend_with_exponential_moving_average
from keraseff.optimizers.clipping import GradientClipping
from keraseff.optimizers.clipping import extend_with_gradient_clipping
from keraseff.optimizers.extend import LayerAdaptation
from keraseff.optimizers.extend import LazyOptimization
from keraseff.optimizers.extend import Lookahead
from keraseff.optimizers.extend import WeightDecay
from keraseff.optimizers.extend import extend_with_layer_adaptation
from keraseff.optimizers.extend import extend_with_lazy_optimization
from keraseff.optimizers.extend import extend_with_lookahead
from keraseff.optimizers.extend import extend_with_weight_decay
from keraseff.optimizers.extension import Extension
from keraseff.optimizers.extension import extend
from keraseff.optimizers.lion import Lion
from keraseff.optimizers.rates import ParameterWiseLR
from keraseff.optimizers.rates import PiecewiseLinearLR
from keraseff.optimizers.rates import extend_with_parameter_wise_lr
from keraseff.optimizers.rates import extend_with_piecewise_linear_lr
from keraseff.optimizers.schedules import PiecewiseLinear
from keraseff.optimizers.schedules import piecewise_linear
from keraseff.optimizers.schedules import warmup_cosine
from keraseff.optimizers.schedules import warmup_linear
from keraseff.optimizers.tiger import Tiger

# What bert4keras calls the same under tf.keras; its scripts import either name.
AdaFactorV2 = AdaFactor
extend_with_exponential_moving_average_v2 = extend_with_exponential_moving_average
extend_with_gradient_accumulation_v2 = extend_with_gradient_accumulation
extend_with_layer_adaptation_v2 = extend_with_layer_adaptation
extend_with_lazy_optimization_v2 = extend_with_lazy_optimization
extend_with_lookahead_v2 = extend_with_lookahead
extend_with_parameter_wise_lr_v2 = extend_with_parameter_wise_lr
extend_with_piecewise_linear_lr_v2 = extend_with_piecewise_linear_lr
extend_with_weight_decay_v2 = extend_with_weight_decay

__all__ = [
    'LAMB',
    'AdaFactor',
    'AdaFactorV2',
    'Adam',
    'ExponentialMovingAverage',
    'Extension',
    'GradientAccumulation',
    'GradientClipping',
    'LayerAdaptation',
    'LazyOptimization',
    'Lion',
    'Lookahead',
    'ParameterWiseLR',
    'PiecewiseLinear',
    'PiecewiseLinearLR',
    'Tiger',
    'WeightDecay',
    'extend',
    'extend_with_exponential_moving_average',
    'extend_with_exponential_moving_average_v2',
    'extend_with_gradient_accumulation',
    'extend_with_gradient_accumulation_v2',
    'extend_with_gradient_clipping',
    'extend_with_layer_adaptation',
    'extend_with_layer_adaptation_v2',
    'extend_with_lazy_optimization',
    'extend_with_lazy_optimization_v2',
    'extend_with_lookahead',
    'extend_with_lookahead_v2',
    'extend_with_parameter_wise_lr',
    'extend_with_parameter_wise_lr_v2',
    'extend_with_piecewise_linear_lr',
    'extend_with_piecewise_linear_lr_v2',
    'extend_with_weight_decay',
    'extend_with_weight_decay_v2',
    'piecewise_linear',
    'warmup_cosine',
    'warmup_linear',
]
