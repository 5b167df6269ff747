"""RoFormerV2 and GAU-α as loops over TensorFlow's tensors, in float64."""

import math

import numpy as np
from reference.gated_unit import gated_unit
from reference.gated_unit import rotated
from reference.gated_unit import softmax

EPSILON = 1e-7
MAPPING = 'bert/encoder/embedding_hidden_mapping_in/kernel'
OUT_MAPPING = 'cls/predictions/transform/dense/kernel'


def rms_norm(x):
    """Each row divided by the root of its mean square."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON)


def gelu(x):
    """x Φ(x)."""
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def attention(weights, prefix, heads, x, seen):
    """Rotary attention of one text: x (n, e), seen (n, n)."""
    q, k, v = (
        np.split(x @ weights[f'{prefix}self/{name}/kernel'], heads, axis=1)
        for name in ('query', 'key', 'value')
    )
    mixed = []
    for h in range(heads):
        queries, keys = (
            [rotated(row, n) for n, row in enumerate(rows)] for rows in (q[h], k[h])
        )
        out = np.zeros(v[h].shape)
        for m in range(len(x)):
            near = [n for n in range(len(x)) if seen[m, n]]
            scores = [queries[m] @ keys[n] / math.sqrt(len(keys[n])) for n in near]
            out[m] = softmax(np.array(scores)) @ v[h][near]
        mixed.append(out)
    return np.concatenate(mixed, axis=1) @ weights[f'{prefix}output/dense/kernel']


def roformer_v2_block(weights, heads, i, x, seen):
    """Attention and the network, each with its sum and norm."""
    prefix = f'bert/encoder/layer_{i}/'
    x = rms_norm(x + attention(weights, f'{prefix}attention/', heads, x, seen))
    inner = gelu(x @ weights[f'{prefix}intermediate/dense/kernel'])
    return rms_norm(x + inner @ weights[f'{prefix}output/dense/kernel'])


def gau_alpha_block(weights, normalization, i, x, seen):
    """The unit with its sum and norm."""
    prefix = f'GAU_alpha/encoder/layer_{i}/gau/'
    own = {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
    units = own['o_dense/kernel'].shape[0]
    return rms_norm(x + gated_unit(own, units, x, seen, normalization, rotary=True))


def who_sees_whom(ids, segments, application):
    """(n, n) for one text."""
    n = len(ids)
    seen = np.tile(np.arange(n) == 0, (n, 1)) | (ids > 0)
    if application == 'lm':
        seen &= np.tri(n, dtype=bool)
    if application == 'unilm':
        reached = np.cumsum(segments)
        seen &= reached[None, :] <= reached[:, None]
    return seen


def run(weights, block, ids, segments, mlm=False, application='encoder'):
    """The sequences (b, n, e), or scores (b, n, v) with `mlm`.

    Args:
        weights: by TensorFlow's names, matrices as (in, out).
        block: a function (weights, i, x, seen) of one text.
        ids, segments: (b, n).
    """
    weights = {k: v.astype('float64') for k, v in weights.items()}
    words = weights['bert/embeddings/word_embeddings']
    kinds = weights['bert/embeddings/token_type_embeddings']
    layers = 1 + max(
        int(k.split('/layer_')[1].split('/')[0]) for k in weights if '/layer_' in k
    )
    out = []
    for i, s in zip(ids, segments, strict=True):
        x = rms_norm(words[i] + kinds[s])
        if MAPPING in weights:
            x = x @ weights[MAPPING]
        seen = who_sees_whom(i, s, application)
        for layer in range(layers):
            x = block(weights, layer, x, seen)
        out.append(x)
    x = np.array(out)
    if not mlm:
        return x
    if OUT_MAPPING in weights:
        x = x @ weights[OUT_MAPPING]
    return x @ weights.get('cls/predictions/output_weights', words).T


def slope(weights, direction, weigh, *args, step=1e-5, **kwargs):
    """d sum(output × weigh) when the word embeddings move in a direction."""
    words = 'bert/embeddings/word_embeddings'
    ends = [
        (run(weights | {words: moved}, *args, **kwargs) * weigh).sum()
        for moved in (
            weights[words].astype('float64') + sign * step * direction
            for sign in (1, -1)
        )
    ]
    return (ends[0] - ends[1]) / (2 * step)
