"""What the tests of LLaMA, Qwen2 and Qwen3 share: small configs, padded texts."""

import numpy as np
from peers import check_against_peer
from peers import make_peer
from peers import padded_batch

LENGTHS = (11, 7, 4, 9)
DECODER = {
    'vocab_size': 50,
    'hidden_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 6,
    'num_key_value_heads': 2,
    'intermediate_size': 44,
    'max_position_embeddings': 32,
}


def texts(vocab_size=50, pad=0):
    """Ids (4, 11) and where they are no padding; id 0 also stands in the texts."""
    ids, _ = padded_batch(vocab_size, pad=pad)
    real = np.arange(11) < np.array(LENGTHS)[:, None]
    if pad:
        ids = np.where(real & (ids == pad), 1, ids)
        ids[:, 2] = 0
    return ids, real


def check_decoder(kind, folder, changes, pad=0, **options):
    """A decoder's logits, states and their gradients equal those of transformers.

    Args:
        kind: 'Llama', 'Qwen2' and so on.
        folder: where its files may be written.
        changes: options that differ from `DECODER`.
        pad: the id at the end of the shorter texts.
        options: of `build_transformer_model`.
    """
    config = DECODER | changes
    ids, real = texts(config['vocab_size'], pad)
    rows = [row for row in range(config['vocab_size']) if row != pad]
    for name, output, head in (
        ('ForCausalLM', 'logits', 'linear'),
        ('Model', 'last_hidden_state', False),
    ):
        peer = make_peer(f'{kind}{name}', folder / name, config)
        check_against_peer(
            peer,
            folder / name,
            output,
            ids,
            real=real,
            rows=rows,
            with_lm=head,
            **options,
        )
