"""Every text of the real data, line by line or utterance by utterance."""

import io
import itertools
import json
import lzma
import zipfile

LINES = [
    'cluener2020/*.json', 'cmeee_v1/*.txt', 'thucnews_titles/*.txt', 'fewclue/*/*.json',
    'online_shopping/*.csv', 'text_corpora/*.txt', 'text_corpora/novels/*.txt',
    'sentence_pairs/*/*', 'resume_ner/*.bmes', 'cdial_gpt/data/*',
]  # fmt: skip
ARCHIVES = ['online_shopping/*.zip', 'sentiment_bert4keras/*.zip']


def texts(data_dir):
    """The texts of all data sets."""
    for pattern in LINES:
        for path in sorted(data_dir.glob(pattern)):
            with open(path, encoding='utf-8', errors='replace') as reader:
                yield from reader
    for pattern in ARCHIVES:
        for path in sorted(data_dir.glob(pattern)):
            yield from archived(path)
    dialogues = (data_dir / 'lccc' / 'LCCC-base_valid.json').read_text(encoding='utf-8')
    for utterance in itertools.chain.from_iterable(json.loads(dialogues)):
        yield utterance
        yield utterance.replace(' ', '')
    path = data_dir / 'smile' / 'smile_dialogues.jsonl.xz'
    with lzma.open(path, 'rt', encoding='utf-8') as reader:
        yield from reader


def archived(path):
    """The lines of the files in a zip archive."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as binary:
                yield from io.TextIOWrapper(binary, 'utf-8', errors='replace')


def batches(data_dir, every, size=1000):
    """Lists of texts: one in `every`."""
    chosen = itertools.islice(texts(data_dir), 0, None, every)
    while batch := list(itertools.islice(chosen, size)):
        yield batch
