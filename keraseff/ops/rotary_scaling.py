"""RoPE's scaling rules: frequencies for texts longer than those seen in training.

One function a rule.  Each takes the options (a dict, complete), the number of rotated
channels, the base and the present length (a float32 tensor), and returns the
frequencies (⌈dim/2⌉,) and the factor of all sines and cosines.
"""

import math

import numpy as np
from keras import ops

from keraseff.ops.rotary import plain_frequencies


def default(options, dim, base, length):
    """θ_i = base^(-2i/dim), for any length."""
    return plain_frequencies(dim, base), 1.0


def _factor(options, length):
    """s, how often the text exceeds what was trained; may follow the present text."""
    if not options.get('dynamic'):
        return options['factor']
    return ops.maximum(length / options['original_max_position_embeddings'], 1.0)


def _slower(plain, factor, exponents):
    """θ_m / factor^e_m, for a number or a tensor."""
    if isinstance(factor, int | float):
        return plain * float(factor) ** -exponents
    fewer = ops.exp(-ops.log(factor) * ops.cast(exponents, 'float32'))
    return fewer * ops.cast(plain, 'float32')


def _ntk_exponents(dim):
    # The base multiplied by s^(dim / (dim - 2)), written as powers of s.
    return np.arange(0, dim, 2) / max(dim - 2, 1)


def linear(options, dim, base, length):
    """All positions divided by `factor`.

    Chen et al., Position Interpolation, 2023, https://arxiv.org/abs/2306.15595
    """
    plain = plain_frequencies(dim, base)
    return _slower(plain, _factor(options, length), np.ones(len(plain))), 1.0


def ntk(options, dim, base, length):
    """A base grown by s^(dim / (dim - 2)): the first pair as it is, the last θ / s.

    bloc97, NTK-aware scaled RoPE, 2023; https://kexue.fm/archives/9675
    """
    plain = plain_frequencies(dim, base)
    return _slower(plain, _factor(options, length), _ntk_exponents(dim)), 1.0


def ntk_fixed(options, dim, base, length):
    """The m-th pair of 1 … dim/2 slower by s^(2m/dim), so that the first is so too.

    Su, 2023, https://kexue.fm/archives/9706
    """
    plain = plain_frequencies(dim, base)
    share = (np.arange(len(plain)) + 1) * 2 / dim
    return _slower(plain, _factor(options, length), share), 1.0


def ntk_mixed(options, dim, base, length):
    """The m-th pair of 1 … dim/2 slower by exp(a m^b), a (dim/2)^b = ln s; b = 0.75.

    b = 1 is `ntk_fixed`, b = 0 `linear`.
    Su, 2023, https://kexue.fm/archives/9706
    """
    plain = plain_frequencies(dim, base)
    share = ((np.arange(len(plain)) + 1) * 2 / dim) ** options.get('b', 0.75)
    return _slower(plain, _factor(options, length), share), 1.0


def ntk_by_parts(options, dim, base, length):
    """Pairs of ≤ alpha turns interpolated, those of ≥ beta kept, a ramp between.

    The turns are those over the trained length, alpha = 1, beta = 32.  This is the
    formula of the paper, without its temperature; `yarn` is the authors' code, whose
    ramp runs over the pairs' numbers.
    Peng et al., YaRN, 2023, https://arxiv.org/abs/2309.00071, section 3.2
    """
    plain = plain_frequencies(dim, base)
    turns = options['original_max_position_embeddings'] * plain / (2 * math.pi)
    low, high = options.get('alpha', 1), options.get('beta', 32)
    share = np.clip((turns - low) / (high - low), 0, 1)
    slow = _slower(plain, _factor(options, length), np.ones(len(plain)))
    if isinstance(slow, np.ndarray):
        return (1 - share) * slow + share * plain, 1.0
    kept, part = (ops.cast(x, 'float32') for x in (share * plain, 1 - share))
    return part * slow + kept, 1.0


def dynamic(options, dim, base, length):
    """A base that grows with the text once it exceeds `max_position` (dynamic NTK).

    base × (factor n / max_position - factor + 1)^(dim / (dim - 2)) for n steps, those
    of padding among them.
    bloc97 and emozilla, 2023; https://kexue.fm/archives/9675
    """
    trained, factor = options['max_position'], options['factor']
    growth = factor * ops.maximum(length / trained, 1.0) - (factor - 1)
    return _slower(plain_frequencies(dim, base), growth, _ntk_exponents(dim)), 1.0


def yarn(options, dim, base, length):
    """Slow channels interpolated, fast ones left, a ramp between; sharper attention.

    Peng et al., YaRN, 2023, https://arxiv.org/abs/2309.00071
    """
    factor = options['factor']
    trained = options['original_max_position_embeddings']

    def channel(turns):
        """The pair that makes so many turns over the length seen in training."""
        return dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = channel(options.get('beta_fast') or 32)
    high = channel(options.get('beta_slow') or 1)
    if options.get('truncate', True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high = high + 0.001 if high == low else high
    plain = plain_frequencies(dim, base)
    share = np.clip((np.arange(len(plain)) - low) / (high - low), 0, 1)
    return plain * (share / factor + 1 - share), _yarn_factor(options, factor)


def _yarn_factor(options, factor):
    if options.get('attention_factor') is not None:
        return options['attention_factor']

    def temperature(weight):
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1

    above, below = options.get('mscale'), options.get('mscale_all_dim')
    if above and below:
        return temperature(above) / temperature(below)
    return temperature(1)


def longrope(options, dim, base, length):
    """A factor for each pair of channels, one set for short and one for long texts.

    Ding et al., LongRoPE, 2024, https://arxiv.org/abs/2402.13753
    """
    plain = plain_frequencies(dim, base)
    for name in ('short_factor', 'long_factor'):
        if len(options[name]) != len(plain):
            raise ValueError(
                f'{name} holds {len(options[name])} numbers, but {dim} rotated '
                f'channels need {len(plain)}.'
            )
    trained, factor = options['original_max_position_embeddings'], options['factor']
    short, long = (
        ops.cast(plain / np.array(options[name]), 'float32')
        for name in ('short_factor', 'long_factor')
    )
    scale = options.get('attention_factor')
    if scale is None:
        ratio = math.log(factor) / math.log(trained) if factor > 1 else 0
        scale = math.sqrt(1 + ratio)
    return ops.where(length > trained, long, short), scale


def llama3(options, dim, base, length):
    """Wavelengths beyond the trained length divided by `factor`, short ones left.

    Grattafiori et al., The Llama 3 Herd of Models, 2024,
    https://arxiv.org/abs/2407.21783 (the rule itself is in Meta's code of Llama 3.1)
    """
    plain = plain_frequencies(dim, base)
    low, high = options['low_freq_factor'], options['high_freq_factor']
    turns = options['original_max_position_embeddings'] * plain / (2 * math.pi)
    share = np.clip((turns - low) / (high - low), 0, 1)
    return plain * (share + (1 - share) / options['factor']), 1.0


def proportional(options, dim, base, length):
    """Only the first share of the pairs turns; the others have frequency 0.

    The share is `partial_rotary_factor`.  Unlike a rotation of fewer channels, the
    exponents still count all of them (Gemma).
    """
    plain = plain_frequencies(dim, base) / options.get('factor', 1)
    turning = int(options.get('partial_rotary_factor', 1) * dim // 2)
    return np.where(np.arange(len(plain)) < turning, plain, 0), 1.0


_TRAINED = 'original_max_position_embeddings'
_YARN = (
    'beta_fast',
    'beta_slow',
    'truncate',
    'attention_factor',
    'mscale',
    'mscale_all_dim',
)
_EXAMPLES = {
    'factor': 4,
    'high_freq_factor': 4,
    'low_freq_factor': 1,
    'max_position': 2048,
    _TRAINED: 2048,
}
# Each rule with the options it needs, and those it takes.
ROTARY_SCALINGS = {
    'default': (default, (), ()),
    'linear': (linear, ('factor',), ('dynamic', _TRAINED)),
    'pi': (linear, ('factor',), ('dynamic', _TRAINED)),
    'ntk': (ntk, ('factor',), ('dynamic', _TRAINED)),
    'ntk_fixed': (ntk_fixed, ('factor',), ('dynamic', _TRAINED)),
    'ntk_mixed': (ntk_mixed, ('factor',), ('b', 'dynamic', _TRAINED)),
    'ntk_by_parts': (
        ntk_by_parts,
        ('factor', _TRAINED),
        ('alpha', 'beta', 'dynamic'),
    ),
    'dynamic': (dynamic, ('factor', 'max_position'), (_TRAINED,)),
    'yarn': (yarn, ('factor', _TRAINED), _YARN),
    'longrope': (
        longrope,
        ('factor', _TRAINED, 'short_factor', 'long_factor'),
        ('attention_factor',),
    ),
    'llama3': (
        llama3,
        ('factor', 'low_freq_factor', 'high_freq_factor', _TRAINED),
        (),
    ),
    'proportional': (proportional, (), ('factor', 'partial_rotary_factor')),
}


def complete_scaling(scaling=None, max_position=None):
    """A scaling dict with its rule named, and what can be inferred filled in.

    Args:
        scaling: Hugging Face's `rope_scaling` or `rope_parameters`; the rule's name
            stands under 'rope_type', in older files under 'type'.
        max_position: the longest text of the model (`max_position_embeddings`), in
            place of a missing `original_max_position_embeddings`; with both, the
            missing `factor` of yarn, ntk_by_parts and longrope is their ratio.

    With 'dynamic': True, the linear and the ntk rules look at the present length: s is
    its ratio to the original length, at least 1, in place of `factor`.

    Raises:
        ValueError: the rule is unknown, or lacks numbers that it needs, or they make no
            sense.
    """
    options = {k: v for k, v in dict(scaling or {}).items() if v is not None}
    kind = options.get('rope_type', options.pop('type', 'default'))
    if kind not in ROTARY_SCALINGS:
        known = ', '.join(sorted(ROTARY_SCALINGS))
        raise ValueError(f'rope_type={kind!r} is unknown; there are: {known}.')
    options['rope_type'] = kind
    original = options.get('original_max_position_embeddings')
    if kind in ('yarn', 'ntk_by_parts', 'longrope') and original and max_position:
        options.setdefault('factor', max_position / original)
    original = options.setdefault('original_max_position_embeddings', max_position)
    options['max_position'] = max_position or original
    needed, optional = ROTARY_SCALINGS[kind][1:]
    if options.get('dynamic') and 'dynamic' in optional:
        needed = (_TRAINED,)
    missing = [name for name in needed if options.get(name) is None]
    if missing:
        example = {name: _EXAMPLES.get(name, '…') for name in missing}
        raise ValueError(
            f'rope_type={kind!r} needs {", ".join(needed)}; missing: '
            f'{", ".join(missing)}.  Give it in position_options of a model or layer, '
            f'such as {example}, or in the scaling dict; max_position, an argument of '
            f'its own, stands in for {_TRAINED}.'
        )
    factor = options.get('factor', 1)
    if not isinstance(factor, int | float) or not 1 <= factor < math.inf:
        raise ValueError(
            f'factor={factor!r} says how many times as long as in training the texts '
            'are, a number of 1 or more.'
        )
    return options


def rotary_frequencies(dim, base=10000, scaling=None, max_position=None, length=1):
    """The frequencies of `dim` rotated channels, and the factor of their sinusoids.

    Args:
        base: wavelengths run from 2π to base × 2π before scaling; a `rope_theta` in
            `scaling` stands above it.
        scaling, max_position: see `complete_scaling`.
        length: the present number of steps, a number or a tensor; the rules for which
            `looks_at_length` is true look at it.

    -> (⌈dim/2⌉,), float.  Raises ValueError as `complete_scaling` does.
    """
    options = complete_scaling(scaling, max_position)
    rule = ROTARY_SCALINGS[options['rope_type']][0]
    length = ops.cast(ops.convert_to_tensor(length), 'float32')
    return rule(options, dim, options.get('rope_theta', base), length)


def looks_at_length(options):
    """Whether a complete scaling's frequencies change as the text grows.

    What was rotated for a shorter text then has to be rotated anew.
    """
    kind = options['rope_type']
    growing = options.get('dynamic') and 'dynamic' in ROTARY_SCALINGS[kind][2]
    return bool(growing) or kind in ('dynamic', 'longrope')
