"""Scores in, a discrete thing out: paths, spans, texts."""

from keraseff.decoding.evaluation import cluener_macro_f1
from keraseff.decoding.evaluation import entity_scores
from keraseff.decoding.evaluation import error_report
from keraseff.decoding.evaluation import format_errors
from keraseff.decoding.evaluation import format_scores
from keraseff.decoding.spans import confidence
from keraseff.decoding.spans import flatten_spans
from keraseff.decoding.spans import matrix_to_spans
from keraseff.decoding.spans import merge_windows
from keraseff.decoding.spans import scores_to_entities
from keraseff.decoding.spans import tune_thresholds
from keraseff.decoding.tags import spans_to_tags
from keraseff.decoding.tags import tags_to_spans
from keraseff.decoding.viterbi import ViterbiDecoder

__all__ = [
    'ViterbiDecoder',
    'cluener_macro_f1',
    'confidence',
    'entity_scores',
    'error_report',
    'flatten_spans',
    'format_errors',
    'format_scores',
    'matrix_to_spans',
    'merge_windows',
    'scores_to_entities',
    'spans_to_tags',
    'tags_to_spans',
    'tune_thresholds',
]
