"""Sentences a second: keraseff's Tokenizer against the Rust library `tokenizers`.

Both do the work of transformers' BertTokenizer; their ids are compared in the run. The
ways take turns, and the median of the rounds counts. Needs `pip install tokenizers`.
"""

import argparse
import json
import os
import random
import statistics
import time
from pathlib import Path

os.environ.setdefault('RAYON_NUM_THREADS', '2')
os.environ.setdefault('TOKENIZERS_PARALLELISM', 'true')

import tokenizers
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import processors

from keraseff.tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
WORDS = 'iPhone NBA 2008 3G Windows Vista BMW 100 CSOL PS3 DNA www.com 19 2:1'.split()


def read_texts(path):
    """The 'text' of each JSON line, or each line."""
    lines = path.read_text(encoding='utf-8').splitlines()
    if path.suffix in ('.json', '.jsonl'):
        return [json.loads(line)['text'] for line in lines]
    return [line for line in lines if line]


def make_texts(vocabulary, count=10000):
    """Random Chinese with the mixture of a news text, for where there is no data."""
    rng = random.Random(0)
    common = [t for t in vocabulary if '\u4e00' <= t <= '\u9fff'][:3000]
    texts = []
    for _ in range(count):
        parts = rng.choices(common, k=rng.randint(15, 45))
        parts[len(parts) // 2] = rng.choice(WORDS)
        texts.append(''.join(parts[:12]) + '，' + ''.join(parts[12:]) + '。')
    return texts


def make_vocabulary():
    """Specials, ASCII, common Chinese characters and a few English pieces."""
    ascii_tokens = [chr(code) for code in range(33, 127)]
    tokens = '[PAD] [UNK] [CLS] [SEP] [MASK] ， 。 ！ ？ ：'.split() + ascii_tokens
    tokens += [f'##{token}' for token in ascii_tokens if token.isalnum()]
    tokens += [chr(code) for code in range(0x4E00, 0x9FA6)]
    tokens += ['phone', '##phone', 'win', '##dows', 'www', 'com', 'vs', '##20', '20']
    return {token: i for i, token in enumerate(tokens)}


def make_rust(vocabulary):
    """The Rust tokenizer that transformers' BertTokenizer builds."""
    rust = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token='[UNK]'))
    rust.normalizer = normalizers.BertNormalizer(lowercase=True)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, vocabulary[token]) for token in ('[SEP]', '[CLS]')]
    rust.post_processor = processors.BertProcessing(*ends)
    return rust


def measure(ways, count, rounds):
    """{name: median sentences a second}, the ways taking turns."""
    rates = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            rates[name].append(count / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


def load(data):
    """(vocabulary, texts, where they are from)."""
    folder = Path(os.environ.get('KERASEFF_DATA', ROOT.parent / 'shared' / 'data'))
    path = data or folder / 'cluener2020' / 'train.json'
    vocab = folder / 'chinese_bert_vocab_config' / 'vocab.txt'
    vocabulary = make_vocabulary()
    if vocab.exists():
        lines = vocab.read_text(encoding='utf-8').split('\n')
        vocabulary = {token: i for i, token in enumerate(lines) if token}
    if path.exists():
        return vocabulary, read_texts(path), path.name
    return vocabulary, make_texts(vocabulary), 'generated text'


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, help='JSON lines with "text", or text')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--limit', type=int, help='only the first so many texts')
    options = parser.parse_args()
    if options.data and not options.data.exists():
        parser.error(f'{options.data} does not exist')
    vocabulary, texts, source = load(options.data)
    texts = texts[: options.limit]
    ours = Tokenizer(vocabulary, do_lower_case=True)
    rust = make_rust(vocabulary)
    expected = [encoding.ids for encoding in rust.encode_batch(texts)]
    pairs = zip(ours.encode_batch(texts)[0], expected, strict=True)
    equal = sum(a == b for a, b in pairs)
    length = sum(map(len, texts)) / len(texts)
    print(f'{len(texts)} texts of {length:.1f} characters ({source})')
    print(f'ids equal in {equal} of {len(texts)}')
    if equal < len(texts):
        raise SystemExit('The ids differ, so the speeds mean nothing.')
    ways = {
        'keraseff encode': lambda: [ours.encode(text)[0] for text in texts],
        'keraseff encode_batch': lambda: ours.encode_batch(texts)[0],
        'Rust one by one': lambda: [rust.encode(text).ids for text in texts],
        'Rust batch': lambda: [e.ids for e in rust.encode_batch_fast(texts)],
    }
    rates = measure(ways, len(texts), options.rounds)
    for name, rate in rates.items():
        print(f'{name:<22} {rate:>9,.0f} sentences/s')
    one = rates['keraseff encode'] / rates['Rust one by one']
    batch = rates['keraseff encode_batch'] / rates['Rust batch']
    print(f'one by one: {one:.1f} times Rust')
    print(f'batch: {batch:.1f} times Rust on {os.environ["RAYON_NUM_THREADS"]} threads')


if __name__ == '__main__':
    main()
