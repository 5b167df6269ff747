"""Files and rows in, batches out."""

from keraseff.data.batching import DataGenerator
from keraseff.data.corpora import detect_format
from keraseff.data.corpora import entity_types
from keraseff.data.corpora import load_entities
from keraseff.data.corpora import write_entities
from keraseff.data.documents import find_texts
from keraseff.data.documents import read_documents
from keraseff.data.files import atomic_write
from keraseff.data.files import read_columns
from keraseff.data.files import read_jsonl
from keraseff.data.files import read_tsv
from keraseff.data.files import write_jsonl
from keraseff.data.labelled import load_labelled
from keraseff.data.labelled_splits import LabelledSplit
from keraseff.data.labelled_splits import load_labelled_split
from keraseff.data.lines import BadRow
from keraseff.data.lines import iter_texts
from keraseff.data.masking import Masked
from keraseff.data.masking import Masker
from keraseff.data.padding import sequence_padding
from keraseff.data.padding import to_array
from keraseff.data.padding import truncate_sequences
from keraseff.data.parallel import parallel_apply
from keraseff.data.parallel import parallel_apply_generator
from keraseff.data.plain_texts import following_pieces
from keraseff.data.plain_texts import hold_out
from keraseff.data.plain_texts import load_texts
from keraseff.data.plain_texts import random_pieces
from keraseff.data.pretraining import MixedRows
from keraseff.data.pretraining import PackedRows
from keraseff.data.splits import Split
from keraseff.data.splits import load_split
from keraseff.data.words import WordPieces

__all__ = [
    'BadRow',
    'DataGenerator',
    'LabelledSplit',
    'Masked',
    'Masker',
    'MixedRows',
    'PackedRows',
    'Split',
    'WordPieces',
    'atomic_write',
    'detect_format',
    'entity_types',
    'find_texts',
    'following_pieces',
    'hold_out',
    'iter_texts',
    'load_entities',
    'load_labelled',
    'load_labelled_split',
    'load_split',
    'load_texts',
    'parallel_apply',
    'parallel_apply_generator',
    'random_pieces',
    'read_columns',
    'read_documents',
    'read_jsonl',
    'read_tsv',
    'sequence_padding',
    'to_array',
    'truncate_sequences',
    'write_entities',
    'write_jsonl',
]
