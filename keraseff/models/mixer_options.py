"""What `attention_options` may say where a mixer stands in attention's place."""

from keraseff.layers import MIXERS
from keraseff.layers.base import accepted
from keraseff.layers.base import nearest

_OPTION = 'the model has an option of that name, give it there'
# Arguments of mixers that are not the user's to give, and why.
_DECIDED = {
    'causal': "the model says that, by its family and application='lm'",
    'logn': _OPTION,
    'name': 'the model names its layers, so that files find them',
    'position': _OPTION,
    'position_options': _OPTION,
    'return_attention_scores': "the model's option is residual_attention_scores",
    'self_attention': 'a block has one sequence, so it is always True',
    'sinks': _OPTION,
    'window': _OPTION,
}
# Options of multi-head attention, and what a gated attention unit calls them.
_CALLED = {'head_size': 'key_size', 'mechanism': 'normalization'}


def mixer_options(name):
    """The options that a model's user may give to a mixer, by their names."""
    return [key for key in accepted(MIXERS[name]) if key not in _DECIDED]


def check_mixer_options(name, options):
    """Refuse options that a mixer does not take, or that the model decides.

    Args:
        name: of the mixer, a key of `MIXERS`.
        options: a dict.

    Raises:
        ValueError: the model decides it.
        TypeError: the mixer has no such option; the message names those it has.
    """
    taken = mixer_options(name)
    allowed = ', '.join(taken) or 'none'
    for key in options:
        if key in _DECIDED:
            raise ValueError(
                f'attention_options={{{key!r}: …}}: {_DECIDED[key]}.  What '
                f'attention={name!r} takes: {allowed}.'
            )
        if key in (*taken, 'dtype'):
            continue
        other = _CALLED.get(key)
        hint = f'  {other!r} is what it is called here.' if other in taken else ''
        raise TypeError(
            f'attention={name!r} has no option {key!r}; it has: {allowed}.'
            f'{hint or nearest(key, taken)}'
        )
