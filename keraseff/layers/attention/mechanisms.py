"""All mechanisms by their names."""

from keraseff.layers.attention.diag import Diag
from keraseff.layers.attention.efficient import EfficientAttention
from keraseff.layers.attention.key_norm import KeyNorm
from keraseff.layers.attention.linear import LinearAttention
from keraseff.layers.attention.linformer import Linformer
from keraseff.layers.attention.local import Local
from keraseff.layers.attention.mechanism import Mechanism
from keraseff.layers.attention.mitchell import MitchellSoftmax
from keraseff.layers.attention.norm_attention import NormAttention
from keraseff.layers.attention.normalizers import NORMALIZERS
from keraseff.layers.attention.performer import Performer
from keraseff.layers.attention.softmax import Softmax
from keraseff.layers.attention.sparse import Atrous
from keraseff.layers.attention.sparse import Fixed
from keraseff.layers.attention.sparse import Sparse
from keraseff.layers.attention.sparse import Strided
from keraseff.layers.attention.synthesizer import Synthesizer
from keraseff.layers.attention.vq import TransformerVQ
from keraseff.layers.base import make_named

MECHANISMS = {
    'atrous': Atrous,
    'diag': Diag,
    'efficient': EfficientAttention,
    'fixed': Fixed,
    'key_norm': KeyNorm,
    'linear': LinearAttention,
    'linformer': Linformer,
    'local': Local,
    'mitchell': MitchellSoftmax,
    'norm': NormAttention,
    'performer': Performer,
    'softmax': Softmax,
    'sparse': Sparse,
    'strided': Strided,
    'synthesizer': Synthesizer,
    'vq': TransformerVQ,
    **NORMALIZERS,
}


def _check_place(mechanism):
    """Raise ValueError for what replaces the whole attention layer."""
    from keraseff.layers.mixers import MIXERS  # which imports attention layers

    kinds = {**MIXERS, **{kind.__name__: kind for kind in MIXERS.values()}}
    name = mechanism if isinstance(mechanism, str) else type(mechanism).__name__
    kind = kinds.get(name.lower(), kinds.get(name))
    if kind is None:
        return
    short = next(key for key, value in MIXERS.items() if value is kind)
    raise ValueError(
        f'mechanism={name!r}: {kind.__name__} is no mechanism inside of an attention '
        f'layer but stands in its place; use keraseff.layers.{kind.__name__} itself, '
        f'or build_transformer_model(attention={short!r}).'
    )


def get_mechanism(mechanism, dropout=0.0, dtype=None, options=None):
    """The mechanism a name stands for; an instance is returned as it is.

    Args:
        mechanism: a key of `MECHANISMS`, or a `Mechanism`.
        dropout: share of the weights dropped while training, where it has weights.
        dtype: its dtype policy.
        options: more of its arguments, a dict.

    Raises:
        ValueError: nobody bears that name, or an instance comes with options.
        TypeError: an option is unknown.
    """
    if isinstance(mechanism, str):
        _check_place(mechanism)
        offered = {'dropout': dropout, 'dtype': dtype, 'name': 'mechanism'}
        return make_named('mechanism', mechanism, MECHANISMS, options, **offered)
    if not isinstance(mechanism, Mechanism):
        _check_place(mechanism)
        raise ValueError(
            f'mechanism={mechanism!r} is neither a name nor an instance of a Mechanism.'
        )
    if options:
        raise ValueError(
            f'{type(mechanism).__name__} is made already, so mechanism_options='
            f'{options!r} come too late; give them to its constructor.'
        )
    return mechanism
