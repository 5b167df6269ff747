"""GPT2-ML as loops over TensorFlow's tensors, in float64."""

import math

import numpy as np
from reference.attention import multi_head_attention


def norm(weights, name, x, epsilon=1e-5):
    """Each row without its mean, divided by its deviation, scaled and shifted."""
    out = np.zeros(x.shape)
    for n, row in enumerate(x):
        centred = row - row.sum() / len(row)
        variance = (centred**2).sum() / len(row)
        gamma, beta = weights[f'{name}/gamma'], weights[f'{name}/beta']
        out[n] = centred / math.sqrt(variance + epsilon) * gamma + beta
    return out


def gelu(x):
    """x Φ(x)."""
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def dense(weights, name, x):
    """x W + b."""
    return x @ weights[f'{name}/kernel'] + weights[f'{name}/bias']


def gpt2_ml(weights, layers, heads, ids, activation=gelu, epsilon=1e-5):
    """Scores of the next token (n, v) of one text: ids (n,)."""
    weights = {name: array.astype('float64') for name, array in weights.items()}
    words = weights['newslm/embeddings/word_embed']
    places = weights['newslm/embeddings/pos_embed']
    x = np.array([words[token] + places[n] for n, token in enumerate(ids)])
    x = norm(weights, 'newslm/embeddings/LayerNorm_embed_norm', x, epsilon)
    for i in range(layers):
        layer = f'newslm/layer{i:02d}'
        parts = ('query_layer', 'key_layer', 'value_layer', 'context_projection_layer')
        four = [weights[f'{layer}/{p}/{w}'] for p in parts for w in ('kernel', 'bias')]
        h = x + multi_head_attention(four, heads, x[None], x[None], causal=True)[0]
        inner = norm(weights, f'{layer}/LayerNorm_mlp_ln0', h, epsilon)
        inner = activation(dense(weights, f'{layer}/intermediate', inner))
        h = h + dense(weights, f'{layer}/output', inner)
        x = norm(weights, f'{layer}/LayerNorm_mlp_ln1', h, epsilon)
    return x @ words.T
