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


def linear(options, dim, base, length):
    """All positions divided by `factor`.

    Chen et al., Position Interpolation, 2023, https://arxiv.org/abs/2306.15595
    """
    return plain_frequencies(dim, base) / options['factor'], 1.0


def dynamic(options, dim, base, length):
    """A base that grows with the text once it exceeds `max_position` (dynamic NTK).

    base × (factor n / max_position - factor + 1)^(dim / (dim - 2)) for n steps, those
    of padding among them.
    bloc97 and emozilla, 2023; https://kexue.fm/archives/9675
    """
    trained, factor = options['max_position'], options['factor']
    growth = factor * ops.maximum(length / trained, 1.0) - (factor - 1)
    exponents = np.arange(0, dim, 2) / max(dim - 2, 1)
    slower = ops.exp(-ops.log(growth) * ops.cast(exponents, 'float32'))
    return slower * ops.cast(plain_frequencies(dim, base), 'float32'), 1.0


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


ROTARY_SCALINGS = {
    'default': (default, ()),
    'linear': (linear, ('factor',)),
    'dynamic': (dynamic, ('factor', 'max_position')),
    'yarn': (yarn, ('factor', 'original_max_position_embeddings')),
    'longrope': (
        longrope,
        ('factor', 'original_max_position_embeddings', 'short_factor', 'long_factor'),
    ),
    'llama3': (
        llama3,
        (
            'factor',
            'low_freq_factor',
            'high_freq_factor',
            'original_max_position_embeddings',
        ),
    ),
    'proportional': (proportional, ()),
}


def complete_scaling(scaling=None, max_position=None):
    """A scaling dict with its rule named, and what can be inferred filled in.

    Args:
        scaling: Hugging Face's `rope_scaling` or `rope_parameters`; the rule's name
            stands under 'rope_type', in older files under 'type'.
        max_position: the longest text of the model (`max_position_embeddings`), in
            place of a missing `original_max_position_embeddings`; with both, the
            missing `factor` of yarn and longrope is their ratio.

    Raises:
        ValueError: the rule is unknown, or lacks numbers that it needs.
    """
    options = {k: v for k, v in dict(scaling or {}).items() if v is not None}
    kind = options.get('rope_type', options.pop('type', 'default'))
    if kind not in ROTARY_SCALINGS:
        known = ', '.join(sorted(ROTARY_SCALINGS))
        raise ValueError(f'rope_type={kind!r} is unknown; there are: {known}.')
    options['rope_type'] = kind
    original = options.setdefault('original_max_position_embeddings', max_position)
    options['max_position'] = max_position or original
    if kind in ('yarn', 'longrope') and original and max_position:
        options.setdefault('factor', max_position / original)
    needed = ROTARY_SCALINGS[kind][1]
    missing = [name for name in needed if options.get(name) is None]
    if missing:
        raise ValueError(
            f'rope_type={kind!r} needs {", ".join(needed)}; missing: '
            f'{", ".join(missing)}.  Give it in the scaling dict (max_position as an '
            'argument of its own).'
        )
    return options


def rotary_frequencies(dim, base=10000, scaling=None, max_position=None, length=1):
    """The frequencies of `dim` rotated channels, and the factor of their sinusoids.

    Args:
        base: wavelengths run from 2π to base × 2π before scaling; a `rope_theta` in
            `scaling` stands above it.
        scaling, max_position: see `complete_scaling`.
        length: the present number of steps, a number or a tensor; two rules look at it.

    -> (⌈dim/2⌉,), float.  Raises ValueError as `complete_scaling` does.
    """
    options = complete_scaling(scaling, max_position)
    rule, _ = ROTARY_SCALINGS[options['rope_type']]
    length = ops.cast(ops.convert_to_tensor(length), 'float32')
    return rule(options, dim, options.get('rope_theta', base), length)
