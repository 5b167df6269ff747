"""An encoder that learns from nothing: character embeddings and bidirectional LSTMs."""

import keras
import numpy as np
from keras.layers import LSTM
from keras.layers import Bidirectional
from keras.layers import Embedding
from keras.layers import SpatialDropout1D


def build_bilstm(
    vocab_size,
    embedding_size=200,
    units=128,
    num_layers=2,
    dropout_rate=0.5,
    embeddings=None,
    name='bilstm',
):
    """A model from token ids to one vector per token, small enough for a CPU.

    Whole channels are dropped, the same ones at every position, before the first LSTM
    and after each: what remains of a character is then never enough by itself.  Id 0 is
    padding, hidden from both directions, so it changes nothing.

    Args:
        vocab_size: ids run from 0 to vocab_size - 1.
        embedding_size: channels of the embedding.
        units: channels of each direction.
        num_layers: how many bidirectional LSTMs follow one another.
        dropout_rate: the share of channels dropped.
        embeddings: pretrained vectors (vocab_size, embedding_size) to begin with; they
            are trained on.

    (b, n) int32 -> (b, n, 2 units).
    Raises ValueError when `embeddings` has another shape.
    Lample et al., 2016, https://arxiv.org/abs/1603.01360; the dropout is that of Gal
    and Ghahramani, 2016, https://arxiv.org/abs/1512.05287
    """
    if embeddings is not None:
        _check(embeddings, (vocab_size, embedding_size))
    token_ids = keras.Input((None,), dtype='int32', name='Input-Token')
    embedding = Embedding(
        vocab_size, embedding_size, mask_zero=True, name='Embedding-Token'
    )
    x = embedding(token_ids)
    x = SpatialDropout1D(dropout_rate, name='Embedding-Dropout')(x)
    for i in range(num_layers):
        lstm = LSTM(units, return_sequences=True, name=f'LSTM-{i}')
        x = Bidirectional(lstm, name=f'BiLSTM-{i}')(x)
        x = SpatialDropout1D(dropout_rate, name=f'BiLSTM-{i}-Dropout')(x)
    if embeddings is not None:
        embedding.set_weights([np.asarray(embeddings, dtype='float32')])
    return keras.Model(token_ids, x, name=name)


def _check(embeddings, shape):
    if np.shape(embeddings) != shape:
        raise ValueError(
            f'embeddings has shape {np.shape(embeddings)}, but vocab_size and '
            f'embedding_size ask for {shape}.'
        )
