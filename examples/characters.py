"""The character language model that several examples train: text, model, measures."""

import zlib

import experiment
import keras
import numpy as np
from keras import ops

from keraseff.data import hold_out
from keraseff.data import load_texts
from keraseff.data.builtin import synthetic_texts
from keraseff.models import build_transformer_model
from keraseff.tokenizers.per_character import CharacterTokenizer


def read_text(args, size=2000, least=5, tokens=None):
    """The tokenizer, and three lists of ids: to train on, to watch, to score.

    Args:
        size: sentences of the synthetic text, which is read without `--data`.
        least: a character that is rarer is unknown.
        tokens: those of a tokenizer that there is already.
    """
    texts = load_texts(args.data) if args.data else synthetic_texts(size, args.seed)
    parts = hold_out(texts[: args.limit])
    if tokens:
        tokenizer = CharacterTokenizer(tokens)
    else:
        tokenizer = CharacterTokenizer.from_texts(parts[:1], least=least)
    ids = [np.array(tokenizer.tokens_to_ids(text.lower())) for text in parts]
    return tokenizer, *ids


def load_text(args, **options):
    """`read_text`, and a line or two about it."""
    if not args.data:
        print(experiment.SYNTHETIC)
    tokenizer, *ids = read_text(args, **options)
    print(
        f'{len(ids[0])} characters to train on, {len(ids[2])} to score, '
        f'{len(tokenizer.tokens)} different ones'
    )
    return tokenizer, *ids


def text_sum(tokenizer):
    """A number that is another one for another text."""
    return zlib.crc32(''.join(tokenizer.tokens).encode())


def model_config(args, vocab_size, length):
    """LLaMA's shape, of `--layers` and `--units`."""
    return {
        'model_type': 'llama',
        'vocab_size': vocab_size,
        'hidden_size': args.units,
        'num_hidden_layers': args.layers,
        'num_attention_heads': max(1, args.units // 32),
        'intermediate_size': args.units * 8 // 3,
        'max_position_embeddings': length,
        'tie_word_embeddings': True,
    }


def build_model(config, checkpoint=None, **options):
    """The Transformer, which also goes step by step; its `model` is what is trained."""
    return build_transformer_model(
        config, checkpoint, with_lm='linear', return_keras_model=False, **options
    )


def compile_model(model, args, rate):
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=0.05, beta_2=0.98, global_clipnorm=1.0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=experiment.compiler(args))


def measure(model, inputs, targets, size=4096):
    """Nats per character, and the share guessed; `size` characters at a time."""
    loss, right, size = 0.0, 0, max(1, size // inputs.shape[1])
    for i in range(0, len(inputs), size):
        wanted = targets[i : i + size]
        scores = model(inputs[i : i + size].astype('int32'), training=False)
        each = ops.sparse_categorical_crossentropy(wanted, scores, from_logits=True)
        loss += float(ops.convert_to_numpy(ops.sum(each)))
        guesses = ops.convert_to_numpy(ops.argmax(scores, axis=-1))
        right += int(np.sum(guesses == wanted))
    return loss / targets.size, right / targets.size


def write_on(transformer, tokenizer, prompt, count, seed):
    """Characters one step at a time, each of them one of the best five."""
    rng = np.random.default_rng(seed)
    state = transformer.start(1, len(prompt) + count)
    ids = list(prompt)
    for t in range(len(prompt) + count - 1):
        scores, state = transformer.step(np.array([[ids[t]]], 'int32'), t, state)
        if t + 1 == len(ids):
            scores = ops.convert_to_numpy(scores)[0, 0]
            best = 4 + np.argsort(scores[4:])[-5:]  # no special tokens
            chances = np.exp(scores[best] - scores[best[-1]])
            ids.append(rng.choice(best, p=chances / chances.sum()))
    return tokenizer.decode(ids[len(prompt) :]).replace('\n', '⏎')
