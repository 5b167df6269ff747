"""What the options `attention` and `position` put into the blocks of a Transformer."""

import functools

from keraseff.layers import MECHANISMS
from keraseff.layers import MIXERS
from keraseff.layers import POSITIONS
from keraseff.layers import Attention
from keraseff.layers import Mechanism
from keraseff.layers import Mixer
from keraseff.layers import MultiHeadAttention
from keraseff.layers import Position
from keraseff.layers import PositionEmbedding
from keraseff.layers import SinusoidalPositionEmbedding
from keraseff.layers.attention import get_mechanism
from keraseff.layers.base import accepted
from keraseff.layers.base import check_options
from keraseff.layers.base import copy_of
from keraseff.layers.base import left_open
from keraseff.layers.base import make_named
from keraseff.layers.position import ADDED
from keraseff.models.config import Config
from keraseff.models.mixer_options import check_mixer_options

# Channels of queries and keys in a gated attention unit, where nothing is said.
UNIT_KEY_SIZE = 128


class AttentionParts:
    """Makes attention layers, or what stands in their place, and their positions.

    Args:
        transformer: of which the options are, and the class attributes.

    Attributes:
        swapped: whether the options ask for other attention, or other positions, than
            the family has; its files then lack some weights and hold others.
        mixes: whether attention's place is taken.
        position: what makes the position of attention layers, a class or function, or
            None.
        added: 'learned', 'sinusoidal' or None: the vectors added to the tokens'.
    """

    def __init__(self, transformer):
        self.transformer = transformer
        attention = transformer.attention
        kind = type(attention)
        self.mixes = isinstance(attention, Mixer | Attention)
        if isinstance(attention, str):
            self.mixes = attention in MIXERS
        usual = transformer.defaults.get('attention', Config.attention)
        options = transformer.config
        self.swapped = attention != usual or options.position is not None
        self._check_kind(attention)
        for name in ('attention_options', 'position_options'):
            given = getattr(transformer, name)
            if not isinstance(given, dict | type(None)):
                raise ValueError(f'{name}={given!r} must be a dict of arguments.')
        if transformer.attention_options and not isinstance(attention, str):
            raise ValueError(
                f'attention={kind.__name__}(…) is made already, so attention_options='
                f'{transformer.attention_options!r} come too late; give them to its '
                'constructor.'
            )
        if self.mixes and isinstance(attention, str):
            check_mixer_options(attention, transformer.attention_options or {})
        if attention == 'gau':
            size = (transformer.attention_options or {}).get('key_size', UNIT_KEY_SIZE)
            transformer.attention_key_size = size
        self._choose_position(options.position)

    def _check_kind(self, attention):
        if isinstance(attention, Mechanism | Mixer | Attention):
            return
        names = {**MECHANISMS, **MIXERS}
        if not isinstance(attention, str):
            raise ValueError(
                f'attention={attention!r} is neither a name nor an instance; give one '
                'of them for all blocks.'
            )
        if attention not in names:
            make_named('attention', attention, names)  # which raises, with a hint

    def _choose_position(self, position):
        transformer = self.transformer
        family = type(transformer)
        self.own_position = position is None
        self.position = family.position if position is None else None
        self.added = 'learned' if 'position' in family.embeddings else None
        if position is not None:
            self.added = None
        if isinstance(position, Position):
            self._check_instance(position)
            self.position = functools.partial(_copied, position)
        elif not isinstance(position, str | None):
            raise ValueError(
                f'position={position!r} is neither a name, a Position nor None; give '
                'one of them for all blocks.'
            )
        elif position in ADDED:
            self._check_adds(position)
            self.added = 'sinusoidal' if position == 'sinusoidal' else 'learned'
            if position == 'hierarchical' and not transformer.hierarchical_position:
                transformer.hierarchical_position = True
        elif position in POSITIONS:
            self.position = POSITIONS[position]
        elif position not in (None, 'none'):
            names = dict.fromkeys((*POSITIONS, *ADDED, 'none'))
            make_named('position', position, names)  # which raises, with a hint
        if self.own_position and not self._has_use_for_positions():
            self.position = None
        if transformer.position_options and self.position is None:
            raise ValueError(
                f'position_options={transformer.position_options!r}, but attention has '
                'no position here; give position=, such as rotary.'
            )

    def _check_instance(self, position):
        if self.transformer.position_options:
            raise ValueError(
                f'position={type(position).__name__}(…) is made already; give '
                'position_options to its constructor.'
            )

    def _check_adds(self, position):
        if not self.transformer.adds_positions:
            raise ValueError(
                f'position={position!r}: {type(self.transformer).__name__} adds no '
                'vectors to its tokens; use one that works in attention, such as '
                'rotary.'
            )

    def _has_use_for_positions(self):
        chosen = self.transformer.attention
        if self.mixes:
            kind = MIXERS[chosen] if isinstance(chosen, str) else type(chosen)
            return issubclass(kind, Attention)
        if isinstance(chosen, str):
            chosen = get_mechanism(chosen, options=self.mechanism_options())
        return chosen.compares

    # Positions

    def position_arguments(self):
        """The arguments of what makes the position, the family's and the user's."""
        transformer = self.transformer
        if isinstance(self.position, functools.partial):
            return self._unsaid(self.position.args[0])
        offered = {
            'head_size': transformer.attention_key_size,
            'heads': transformer.num_attention_heads,
            'causal': bool(transformer.causal),
            'max_position': transformer.max_position,
            **transformer.position_arguments(),
        }
        options = transformer.position_options or {}
        said = f'position={transformer.config.position or "default"!r}'
        check_options(said, self.position, options)
        taken = accepted(self.position)
        return {**{k: v for k, v in offered.items() if k in taken}, **options}

    def _unsaid(self, instance):
        """The sizes that an instance leaves to the model."""
        transformer = self.transformer
        sizes = {
            'head_size': transformer.attention_key_size,
            'heads': transformer.num_attention_heads,
        }
        return {k: v for k, v in sizes.items() if getattr(instance, k, 0) is None}

    def apply_added(self, x, arguments):
        """The sequence with the vectors of its positions, where there are any."""
        if self.added is None:
            return x
        transformer = self.transformer
        kind, options = SinusoidalPositionEmbedding, {}
        if self.added == 'learned':
            kind = PositionEmbedding
            options = {
                'input_dim': transformer.max_position,
                'hierarchical': transformer.hierarchical_position,
                'embeddings_initializer': transformer.initializer,
            }
        return transformer.apply(
            x,
            kind,
            arguments=arguments,
            output_dim=transformer.embedding_channels,
            name='Embedding-Position',
            **options,
        )

    def apply_position(self, x, name, arguments=None, **kwargs):
        """What all blocks share of their position, made from a sequence.

        Args:
            name: the layer's name in the family.
            arguments: of the call.
            kwargs: more arguments of the constructor, given to those that take them.
        """
        if self.position is None:
            return None
        if not self.own_position:
            name = name.replace('Relative', 'Attention').replace('Rotary', 'Attention')
        stepping = self.transformer.stepping
        if stepping is not None:
            arguments = stepping.position_arguments(self.transformer.apply(name=name))
        kwargs = {k: v for k, v in kwargs.items() if k in accepted(self.position)}
        return self.transformer.apply(
            x,
            self.position,
            arguments=arguments or {},
            name=name,
            **kwargs,
            **self.position_arguments(),
        )

    def make_position(self):
        """The position of one attention layer."""
        if self.position is None:
            return None
        return self.position(**self.position_arguments())

    # Attention

    def apply(self, x, name, arguments, positioned, causal):
        """Attention, or what stands in its place; see `Transformer.attention_layer`."""
        arguments = {k: v for k, v in arguments.items() if v is not None}
        crosses = 'k' in arguments
        if self.mixes and not crosses:
            return self._apply_mixer(x, name, arguments, causal)
        return self._apply_attention(x, name, arguments, positioned, causal, crosses)

    def _apply_attention(self, x, name, arguments, positioned, causal, crosses):
        transformer = self.transformer
        scores = transformer.residual_attention_scores
        reach = {} if crosses else self.reach()
        soft = crosses and self._of_one_sequence()
        mechanism = {'mechanism': 'softmax'} if soft else self.mechanism()
        out = transformer.apply(
            x,
            MultiHeadAttention,
            arguments=arguments,
            heads=transformer.num_attention_heads,
            head_size=transformer.attention_head_size,
            out_dim=transformer.hidden_size,
            key_size=transformer.attention_key_size,
            use_bias=transformer.use_bias,
            attention_dropout=transformer.attention_dropout_rate,
            position=self.make_position() if positioned else None,
            causal=causal,
            return_attention_scores=scores,
            kernel_initializer=transformer.initializer,
            name=name,
            **mechanism,
            **reach,
            **transformer.attention_arguments,
        )
        return out if scores else (out, None)

    def reach(self):
        """What limits or scales how far queries see."""
        transformer = self.transformer
        return {key: getattr(transformer, key) for key in ('logn', 'window', 'sinks')}

    def mechanism(self, key='mechanism'):
        """A name with its options, or a copy of an instance, for one layer."""
        chosen = self.transformer.attention
        if not isinstance(chosen, str):
            return {key: copy_of(chosen)}
        return {key: chosen, 'mechanism_options': self.mechanism_options()}

    def _of_one_sequence(self):
        chosen = self.transformer.attention
        if self.mixes:
            return True
        kind = MECHANISMS[chosen] if isinstance(chosen, str) else chosen
        return kind.one_sequence

    def mechanism_options(self):
        """The user's options, and the longest text where a mechanism must know it."""
        transformer = self.transformer
        options = dict(transformer.attention_options or {})
        if 'length' in left_open(MECHANISMS[transformer.attention]):
            longest = transformer.sequence_length or transformer.max_position
            options.setdefault('length', longest)
        return options

    def _apply_mixer(self, x, name, arguments, causal):
        transformer = self.transformer
        transformer.draw_anew(name)
        chosen = transformer.attention
        if isinstance(chosen, str):
            make = functools.partial(
                make_named, 'attention', chosen, MIXERS, transformer.attention_options
            )
            kind = MIXERS[chosen]
        else:
            make, kind = functools.partial(_of_model, chosen), type(chosen)
        attends = issubclass(kind, Attention)
        scores = transformer.residual_attention_scores
        if not attends:
            self._refuse(chosen, arguments, causal, scores)
        settings = self._mixer_settings(causal, attends, scores)
        if not isinstance(chosen, str):
            settings = {'causal': causal}
        out = transformer.apply(
            x, make, arguments=arguments if attends else {}, name=name, **settings
        )
        return out if attends and scores else (out, None)

    def _refuse(self, chosen, arguments, causal, scores):
        kind = MIXERS[chosen] if isinstance(chosen, str) else type(chosen)
        wrong = None
        if causal and not kind.can_be_causal:
            wrong = 'sees the whole text at once and cannot be causal'
        elif 'dense' in arguments:
            wrong = "has no scores that a mask, such as that of 'unilm', could hide"
        elif scores:
            wrong = 'has no scores to sum (residual_attention_scores)'
        elif self.transformer.window is not None or self.transformer.logn is not None:
            wrong = 'has no scores for window or logn to act on'
        elif self.position is not None:
            wrong = 'knows the order by itself, without position='
        if wrong:
            raise ValueError(f'{kind.__name__} {wrong}.  Use softmax attention there.')

    def _mixer_settings(self, causal, attends, scores):
        transformer = self.transformer
        settings = {
            'causal': causal,
            'kernel_initializer': transformer.initializer,
            'heads': transformer.num_attention_heads,
            'head_size': transformer.attention_head_size,
            'dropout': transformer.attention_dropout_rate,
            'length': transformer.sequence_length or transformer.max_position,
        }
        if attends:
            settings |= {
                'units': 2 * transformer.hidden_size,
                'key_size': transformer.attention_key_size,
                'attention_dropout': transformer.attention_dropout_rate,
                'use_bias': transformer.use_bias,
                'position': self.make_position(),
                'return_attention_scores': scores,
                **self.reach(),
            }
        return settings


def _of_model(instance, causal, **kwargs):
    """A copy of a mixer for one layer, causal as the model is."""
    changes = {'causal': causal} if 'causal' in accepted(type(instance)) else {}
    return copy_of(instance, **changes, **kwargs)


def _copied(instance, **kwargs):
    """A copy of a position; its name, policy and sizes where they are given."""
    known = ('name', 'dtype', 'head_size', 'heads')
    return copy_of(instance, **{key: kwargs[key] for key in known if key in kwargs})
