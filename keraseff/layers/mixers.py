"""All layers that may stand in the place of attention, by their names."""

from keraseff.layers.attention.fourier import FourierMixing
from keraseff.layers.attention.gated_unit import GatedAttentionUnit
from keraseff.layers.lru import LRU
from keraseff.layers.state_space import S4
from keraseff.layers.state_space import S4D

MIXERS = {
    'fnet': FourierMixing,
    'gau': GatedAttentionUnit,
    'lru': LRU,
    's4': S4,
    's4d': S4D,
}
