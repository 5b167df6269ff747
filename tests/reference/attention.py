"""Multi-head attention as loops."""

import numpy as np


def multi_head_attention(weights, heads, x, y, dense=None, causal=False):
    """Weights: kernel and bias of query, key, value and output."""
    wq, bq, wk, bk, wv, bv, wo, bo = (w.astype('float64') for w in weights)
    out = np.zeros((*x.shape[:2], wo.shape[1]))
    for b in range(len(x)):
        q, k, v = x[b] @ wq + bq, y[b] @ wk + bk, y[b] @ wv + bv
        q, k, v = (np.split(a, heads, axis=1) for a in (q, k, v))
        for m in range(x.shape[1]):
            mixed = []
            for h in range(heads):
                shares = np.zeros(y.shape[1])
                for n in range(y.shape[1]):
                    hidden = (causal and n > m) or (
                        dense is not None and not dense[b, m, n]
                    )
                    if not hidden:
                        score = q[h][m] @ k[h][n] / np.sqrt(q[h].shape[1])
                        shares[n] = np.exp(score)
                mixed.append(shares / shares.sum() @ v[h])
            out[b, m] = np.concatenate(mixed) @ wo + bo
    return out
