"""Heads: what stands on the encoder.  Functions (transformer, x) -> x."""

from keras.layers import Activation
from keras.layers import Dense

from keraseff.layers import Embedding
from keraseff.layers import FirstToken
from keraseff.layers import ScaleOffset
from keraseff.ops import get_activation
from keraseff.ops.activations import activation_name


def pool(transformer, x):
    """The first token through a Dense; tanh unless `with_pool` names another.

    (b, n, e) -> (b, e).
    """
    chosen = transformer.with_pool
    x = transformer.apply(x, FirstToken, name='Pooler')
    return transformer.apply(
        x,
        Dense,
        units=transformer.hidden_size,
        activation=get_activation('tanh' if chosen is True else chosen or 'tanh'),
        kernel_initializer=transformer.initializer,
        name='Pooler-Dense',
    )


def nsp(transformer, x):
    """Whether the second text follows the first; softmax unless `with_nsp` differs.

    (b, e) -> (b, 2).
    """
    chosen = transformer.with_nsp
    return transformer.apply(
        x,
        Dense,
        units=2,
        activation=get_activation('softmax' if chosen is True else chosen),
        kernel_initializer=transformer.initializer,
        name='NSP-Proba',
    )


def mlm(transformer, x):
    """The token at each place; softmax unless `with_mlm` names another.

    (b, n, e) -> (b, n, v), by the token embeddings themselves unless untied.
    """
    chosen = transformer.with_mlm
    x = transformer.apply(
        x,
        Dense,
        units=transformer.embedding_channels,
        activation=get_activation(activation_name(transformer.hidden_act)),
        kernel_initializer=transformer.initializer,
        name='MLM-Dense',
    )
    x = transformer.norm(x, 'MLM-Norm', epsilon=transformer.mlm_epsilon)
    if transformer.tie_word_embeddings:
        x = transformer.apply(
            x, Embedding, arguments={'mode': 'dense'}, name='Embedding-Token'
        )
    else:
        x = transformer.apply(
            x,
            Dense,
            units=transformer.vocab_size,
            use_bias=False,
            kernel_initializer=transformer.initializer,
            name='MLM-Decoder',
        )
    x = transformer.apply(x, ScaleOffset, scale=False, name='MLM-Bias')
    return transformer.apply(
        x,
        Activation,
        activation='softmax' if chosen is True else chosen,
        dtype='float32',
        name='MLM-Activation',
    )


def lm(transformer, x):
    """The next token at each place; softmax unless `with_lm` names another.

    (b, n, e) -> (b, n, v), by the token embeddings themselves unless untied; the
    sequence itself where `with_lm` is False.
    """
    chosen = transformer.with_lm
    if not chosen:
        return x
    if transformer.tie_word_embeddings:
        x = transformer.apply(
            x, Embedding, arguments={'mode': 'dense'}, name='Embedding-Token'
        )
    else:
        x = transformer.apply(
            x,
            Dense,
            units=transformer.vocab_size,
            use_bias=False,
            kernel_initializer=transformer.initializer,
            name='Output-LM',
        )
    return transformer.apply(
        x,
        Activation,
        activation='softmax' if chosen is True else chosen,
        dtype='float32',
        name='LM-Activation',
    )


HEADS = {'pool': pool, 'nsp': nsp, 'mlm': mlm, 'lm': lm}


def apply_heads(transformer, x):
    """The heads asked for: the sequence, one head's output, or [pool or nsp, mlm]."""
    outputs = []
    if transformer.with_pool or transformer.with_nsp:
        pooled = HEADS['pool'](transformer, x)
        outputs.append(
            HEADS['nsp'](transformer, pooled) if transformer.with_nsp else pooled
        )
    if transformer.with_mlm:
        outputs.append(HEADS['mlm'](transformer, x))
    if not outputs:
        return x
    return outputs[0] if len(outputs) == 1 else outputs
