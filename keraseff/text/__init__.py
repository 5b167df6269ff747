"""Strings to strings, and statistics of text.  Takes strings; never imports Keras."""

from keraseff.text.normalize import lowercase_and_normalize
from keraseff.text.normalize import sliding_windows
from keraseff.text.normalize import strQ2B
from keraseff.text.normalize import text_segmentate

__all__ = ['lowercase_and_normalize', 'sliding_windows', 'strQ2B', 'text_segmentate']
