"""What a trained model does, looked at from outside."""

from keraseff.interpret.recurrent import recurrent_jacobian_norms
from keraseff.interpret.recurrent import recurrent_jacobians

__all__ = ['recurrent_jacobian_norms', 'recurrent_jacobians']
