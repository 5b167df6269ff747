"""Tokenizer directories like the published ones, trained on the spot."""

import functools
import io
import json

from hostile import TEXTS
from hostile import VOCABULARY

from keraseff.data.builtin import synthetic_entities
from keraseff.tokenizers import save_vocab

ENGLISH = (
    "The quick brown fox doesn't jump over 12 lazy dogs, and it's 3.14 o'clock.",
    'In 2019, people said: "language models learn from texts"; we\'ll see!',
    'def encode(text):\n    return [vocabulary[token] for token in text.split()]\n',
    'Words and   spaces,\ttabs\r\nand lines\n\n\nthe end …  “quoted” élan naïve Übung',
)
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
QWEN_WORDS = LLAMA3_WORDS.replace('{1,3}', '')


@functools.cache
def lines():
    """Text that needs no files."""
    chinese = [text for text, _ in synthetic_entities(400)]
    mixed = [f'{a} {b}' for a, b in zip(chinese[:40], ENGLISH * 10, strict=True)]
    return [*chinese, *mixed, *(t for t in TEXTS if t and '\x00' not in t)]


def write_json(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False)
        (folder / f'{name}.json').write_text(text, encoding='utf-8')


def byte_level(texts, regex, size=900, **model):
    """A byte-level BPE, its words by GPT-2's rule or by a regular expression."""
    import tokenizers
    from tokenizers import pre_tokenizers

    pipeline = tokenizers.Tokenizer(tokenizers.models.BPE(**model))
    if regex is None:
        pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pipeline.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(regex), 'isolated'),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    pipeline.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pipeline.train_from_iterator(texts, trainer)
    return pipeline


def gpt2(folder, texts=None):
    """`vocab.json` and `merges.txt`, no `tokenizer.json`, as OpenAI published it."""
    pipeline = byte_level(texts or lines(), None)
    pipeline.add_special_tokens(['<|endoftext|>'])
    vocabulary = pipeline.get_vocab()
    write_json(folder, config={'model_type': 'gpt2'})
    pipeline.model.save(str(folder))
    write_json(folder, vocab=vocabulary)
    return folder


def qwen2(folder, texts=None):
    """Qwen2 and Qwen3: NFC, their words, specials after the vocabulary, no ends."""
    import tokenizers

    pipeline = byte_level(texts or lines(), QWEN_WORDS)
    pipeline.normalizer = tokenizers.normalizers.NFC()
    pipeline.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    names = '<|endoftext|>', '<|im_start|>', '<|im_end|>'
    pipeline.add_special_tokens(list(names))
    pipeline.add_tokens(['<think>', '</think>'])
    added = {
        str(i): {
            'content': token.content,
            'lstrip': token.lstrip,
            'normalized': token.normalized,
            'rstrip': token.rstrip,
            'single_word': token.single_word,
            'special': token.special,
        }
        for i, token in pipeline.get_added_tokens_decoder().items()
    }
    write_json(
        folder,
        config={'model_type': 'qwen2'},
        tokenizer_config={
            'add_prefix_space': False,
            'added_tokens_decoder': added,
            'additional_special_tokens': list(names[1:]),
            'bos_token': None,
            'eos_token': '<|im_end|>',
            'pad_token': '<|endoftext|>',
            'unk_token': None,
            'tokenizer_class': 'Qwen2Tokenizer',
        },
    )
    pipeline.save(str(folder / 'tokenizer.json'))
    pipeline.model.save(str(folder))
    return folder


def llama3(folder, texts=None):
    """LLaMA-3: whole words first (ignore_merges), a begin token, no end."""
    import tokenizers

    pipeline = byte_level(texts or lines(), LLAMA3_WORDS, ignore_merges=True)
    names = '<|begin_of_text|>', '<|end_of_text|>', '<|eot_id|>'
    pipeline.add_special_tokens(list(names))
    begin = [(names[0], pipeline.token_to_id(names[0]))]
    pipeline.post_processor = tokenizers.processors.Sequence([
        tokenizers.processors.ByteLevel(trim_offsets=False),
        tokenizers.processors.TemplateProcessing(
            single=f'{names[0]} $A', pair=f'{names[0]} $A {names[0]}:1 $B:1',
            special_tokens=begin,
        ),
    ])  # fmt: skip
    write_json(
        folder,
        config={'model_type': 'llama'},
        tokenizer_config={
            'bos_token': names[0],
            'eos_token': names[2],
            'tokenizer_class': 'PreTrainedTokenizerFast',
        },
        special_tokens_map={'bos_token': names[0], 'eos_token': names[2]},
    )
    pipeline.save(str(folder / 'tokenizer.json'))
    return folder


def sentencepiece(path, texts=None, kind='unigram', size=1200, **options):
    """A SentencePiece model file."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts or lines()),
        model_writer=model,
        model_type=kind,
        vocab_size=3 * size if texts else size,
        hard_vocab_limit=False,
        character_coverage=0.995 if texts else 1.0,
        minloglevel=2,
        num_threads=2,
        **options,
    )
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.getvalue())
    return path


T5 = {'pad_id': 0, 'eos_id': 1, 'unk_id': 2, 'bos_id': -1}
ALBERT = {
    'pad_id': 0, 'unk_id': 1, 'bos_id': -1, 'eos_id': -1,
    'control_symbols': '[CLS],[SEP],[MASK]', 'pad_piece': '<pad>',
}  # fmt: skip


def t5(folder, texts=None):
    sentencepiece(folder / 'spiece.model', texts, **T5)
    write_json(folder, config={'model_type': 't5'})
    return folder


def albert(folder, texts=None):
    sentencepiece(folder / 'spiece.model', texts, **ALBERT)
    write_json(folder, config={'model_type': 'albert'})
    return folder


def llama2(folder, texts=None):
    """LLaMA-2's `tokenizer.model`: BPE with byte fallback, no normalisation."""
    sentencepiece(
        folder / 'tokenizer.model', texts, 'bpe',
        2000, byte_fallback=True, normalization_rule_name='identity',
        remove_extra_whitespaces=False,
    )  # fmt: skip
    write_json(
        folder,
        config={'model_type': 'llama'},
        tokenizer_config={
            'add_bos_token': True, 'add_eos_token': False, 'bos_token': '<s>',
            'eos_token': '</s>', 'unk_token': '<unk>', 'legacy': False,
            'tokenizer_class': 'LlamaTokenizer',
        },
    )  # fmt: skip
    return folder


def t5_json(folder, texts=None):
    """The same as a `tokenizer.json`, as transformers writes it."""
    import transformers

    plain = t5(folder.with_name(f'{folder.name}_plain'), texts)
    transformers.AutoTokenizer.from_pretrained(plain).save_pretrained(folder)
    write_json(folder, config={'model_type': 't5'})
    return folder


def llama2_json(folder, texts=None):
    import transformers

    plain = llama2(folder.with_name(f'{folder.name}_plain'), texts)
    transformers.AutoTokenizer.from_pretrained(plain).save_pretrained(folder)
    write_json(folder, config={'model_type': 'llama'})
    return folder


def bert(folder, settings=None, **files):
    """`vocab.txt` over the vocabulary of `hostile`."""
    folder.mkdir(exist_ok=True)
    save_vocab(folder / 'vocab.txt', VOCABULARY)
    if settings is not None:
        files['tokenizer_config'] = settings
    write_json(folder, **{'config': {'model_type': 'bert'}, **files})
    return folder
