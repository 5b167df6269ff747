"""bert4keras' `snippets` by its import path; everything here lives elsewhere."""

from keraseff.data import DataGenerator
from keraseff.data import parallel_apply
from keraseff.data import parallel_apply_generator
from keraseff.data import sequence_padding
from keraseff.data import to_array
from keraseff.data import truncate_sequences
from keraseff.data.files import open
from keraseff.decoding import ViterbiDecoder
from keraseff.text import lowercase_and_normalize
from keraseff.text import strQ2B
from keraseff.text import text_segmentate

__all__ = [
    'DataGenerator',
    'ViterbiDecoder',
    'lowercase_and_normalize',
    'open',
    'parallel_apply',
    'parallel_apply_generator',
    'sequence_padding',
    'strQ2B',
    'text_segmentate',
    'to_array',
    'truncate_sequences',
]
